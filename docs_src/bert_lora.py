from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from metaglot.learners.insertions import add_lora
from metaglot.learners.maml import MAML
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.modules import ModuleModel
from metaglot.learners.saving import load_adaptation, load_learner, save_adaptation, save_learner
from metaglot.types import Batch, Episode

sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
bert = BertForSequenceClassification(BertConfig(vocab_size=24, num_labels=2, **sizes))  # or from_pretrained
bert = add_lora(bert, rank=4, freeze=False)  # a copy: the base is shared and meta-learned, not frozen
model = ModuleModel(bert, head="classifier")
OPTIONS = {"steps": 2, "rate": 0.3, "adapt": "lora+head", "learn_rates": "parameter", "outer_rate": 0.003}
learner = MAML(**OPTIONS)


def episode(n: int = 8) -> Episode:
    """A language: one of two words says yes and the other no, and which does is the language's own."""
    words = torch.randperm(2) + 3

    def texts() -> Batch:
        targets = torch.arange(n) % 2
        lengths = torch.randint(4, 9, (n, 1))
        mask = (torch.arange(8) < lengths).long()
        ids = torch.randint(5, 24, (n, 8)) * mask
        ids[torch.arange(n), torch.randint(0, 4, (n,))] = words[targets]
        return Batch({"input_ids": ids, "attention_mask": mask}, targets, torch.arange(2))

    return Episode(support=texts(), query=texts())


meta = learner.init(model, torch.Generator())
optimizer = torch.optim.Adam([{"params": [v], "lr": learner.outer_rate(n)} for n, v in meta.items()])
for _ in range(30):
    _, gradient = meta_gradient(learner, model, meta, [episode() for _ in range(8)])
    for name, value in meta.items():
        value.grad = gradient[name]
    optimizer.step()

folder = save_learner(Path("learned"), "maml", OPTIONS, meta)
task = episode()
file = save_adaptation(folder / "one.safetensors", learner.adapt(model, meta, task.support), learner=folder)

learner, meta = load_learner(folder, model)
adapted, _ = load_adaptation(file, learner=folder)
logits = learner.predict(model, meta, adapted, task.query)
