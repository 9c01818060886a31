import torch
from sklearn.datasets import load_digits
from torch import nn

from metaglot.learners.maml import MAML
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.modules import EmbeddingModel
from metaglot.types import Batch, Episode

images, labels = (torch.from_numpy(found) for found in load_digits(return_X_y=True))
images = images.float().reshape(-1, 8, 8) / 16


def episode(digits: torch.Tensor, shots: int = 3, queries: int = 10, turns: int = 1) -> Episode:
    """Three of the digits, each turned its own way; a few images to adapt on, others to be judged on."""
    drawn = []
    for digit in digits[torch.randperm(len(digits))[:3]]:
        rows = torch.nonzero(labels == digit).squeeze(1)
        rows = rows[torch.randperm(len(rows))[: shots + queries]]
        drawn.append(torch.rot90(images[rows], int(torch.randint(turns, ())), (1, 2)))

    def batch(start: int, stop: int) -> Batch:
        x = torch.cat([found[start:stop] for found in drawn])
        # What labels mean is each task's own: -1 is a label that no other task has.
        return Batch({"x": x}, torch.arange(3).repeat_interleave(stop - start), torch.full((3,), -1))

    return Episode(support=batch(0, shots), query=batch(shots, shots + queries))


body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
model = EmbeddingModel(body, width=32)
learner = MAML(steps=5, rate=0.5, learn_rates="none")
sources, held_out = torch.arange(7), torch.arange(7, 10)

meta = learner.init(model, torch.Generator())
optimizer = torch.optim.Adam(meta.values(), lr=0.003)
for _ in range(120):
    _, gradient = meta_gradient(learner, model, meta, [episode(sources, turns=4) for _ in range(4)])
    for name, value in meta.items():
        value.grad = gradient[name]
    optimizer.step()


def accuracy(meta: dict[str, torch.Tensor], episodes: int = 100) -> float:
    """The mean accuracy on digits that no training episode had."""
    found = []
    for task in (episode(held_out) for _ in range(episodes)):
        logits = learner.predict(model, meta, learner.adapt(model, meta, task.support), task.query)
        found.append((logits.argmax(1) == task.query.targets).float().mean())
    return float(torch.stack(found).mean())


print(f"Three digits that were held out, three images of each: {accuracy(meta):.0%} right")
