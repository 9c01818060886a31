"""Models of transformers, tiny and random: exact, as they were, and all tasks at once."""

import hashlib
import warnings

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import nn

import networks as nets
from metaglot.errors import DataError, SettingsError
from metaglot.learners.hugging_face import MeanPooled
from metaglot.learners.modules import EmbeddingModel, ModuleModel
from metaglot.learners.protonet import ProtoNet
from metaglot.types import Batch, Episode

pytestmark = pytest.mark.usefixtures("double")

VOCABULARY, T, LABELS = 40, 7, 3
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
}
LABELLED = SIZES | {"num_labels": LABELS}
GPT = {"vocab_size": VOCABULARY, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32}
GPT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
T5 = {"vocab_size": VOCABULARY, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2}
T5 |= {"decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu"}
BART = {"vocab_size": VOCABULARY, "d_model": 8, "max_position_embeddings": 32, "activation_function": "gelu"}
BART |= {
    f"{side}_{what}": size
    for side in ("encoder", "decoder")
    for what, size in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 12))
}
DISTIL = {
    "vocab_size": VOCABULARY,
    "dim": 8,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 12,
    "num_labels": LABELS,
}
ALBERT = LABELLED | {"embedding_size": 8}
DEBERTA = LABELLED | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
MODERN = LABELLED | {"pad_token_id": 0, "local_attention": 4, "global_attn_every_n_layers": 2}
MODERN |= dict.fromkeys(("cls_token_id", "bos_token_id", "eos_token_id", "sep_token_id"), 1)
GROUPED = SIZES | {"num_key_value_heads": 1}

MODELS = {
    "bert": ("label", lambda: hf.BertForSequenceClassification(hf.BertConfig(**LABELLED))),
    "xlm-r": ("label", lambda: hf.XLMRobertaForSequenceClassification(hf.XLMRobertaConfig(**LABELLED))),
    "distilbert": ("label", lambda: hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**DISTIL))),
    "albert": (
        "label",
        lambda: hf.AlbertForSequenceClassification(hf.AlbertConfig(**ALBERT)),
    ),
    "deberta-v2": ("label", lambda: hf.DebertaV2ForSequenceClassification(hf.DebertaV2Config(**DEBERTA))),
    "modernbert": ("label", lambda: hf.ModernBertForSequenceClassification(hf.ModernBertConfig(**MODERN))),
    "tokens": ("tokens", lambda: hf.BertForTokenClassification(hf.BertConfig(**LABELLED))),
    "masked": ("language", lambda: hf.BertForMaskedLM(hf.BertConfig(**SIZES))),
    "gpt2": ("language", lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT))),
    "llama": ("language", lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED))),
    "gemma3": (
        "language",
        lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(head_dim=4, sliding_window=4, **GROUPED)),
    ),
    "t5": ("pairs", lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5))),
    "mt5": ("pairs", lambda: hf.MT5ForConditionalGeneration(hf.MT5Config(**T5))),
    "m2m100": ("pairs", lambda: hf.M2M100ForConditionalGeneration(hf.M2M100Config(**BART))),
}


def made(name):
    torch.manual_seed(0)
    kind, make = MODELS[name]
    module = make().double().train()
    with torch.no_grad():  # far from the usual start, where outputs hardly depend on inputs
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return kind, module


def texts(kind, seed, n=4):
    """A padded batch: token numbers and a mask `[n, T]`, and what the kind predicts."""
    chance = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, T + 1, (n, 1), generator=chance)
    lengths[0] = T
    mask = (torch.arange(T) < lengths).long()
    ids = torch.randint(3, VOCABULARY, (n, T), generator=chance) * mask
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "label":
        return Batch(inputs, torch.arange(n) % LABELS, torch.arange(LABELS))
    if kind == "pairs":
        decoded = torch.randint(3, VOCABULARY, (n, 5), generator=chance)
        return Batch(inputs | {"decoder_input_ids": decoded}, decoded.roll(-1, 1), nets.NO_LABELS)
    targets = ids % LABELS if kind == "tokens" else ids
    return Batch(inputs, targets.masked_fill(mask == 0, -100), nets.NO_LABELS)


def tasks_of(kind, m=3):
    return [Episode(texts(kind, 2 * i), texts(kind, 2 * i + 1, 3)) for i in range(m)]


def loss_of(kind):
    return F.cross_entropy if kind == "label" else nets.cross_entropy


def fingerprint(module):
    whole = hashlib.sha256(str(module.config).encode())
    for tensor in [*module.parameters(), *module.buffers()]:
        whole.update(tensor.detach().numpy().tobytes())
    modes = [part.training for part in module.modules()]
    hooks = [len(part._forward_pre_hooks) for part in module.modules()]
    return whole.hexdigest(), modes, hooks, module.config._attn_implementation


@pytest.fixture
def all_in_float64(monkeypatch):
    """Models that go down to float32 in softmax, norms and rotations stay in float64."""
    to, softmax = torch.Tensor.to, F.softmax

    def wide(dtype):
        return torch.float64 if dtype is torch.float32 else dtype

    def stay(self, *args, **options):
        if self.dtype is torch.float64:
            args = tuple(wide(a) if isinstance(a, torch.dtype) else a for a in args)
            options = {k: wide(v) if k == "dtype" else v for k, v in options.items()}
        return to(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", stay)
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self.double())
    monkeypatch.setattr(F, "softmax", lambda *a, dtype=None, **o: softmax(*a, dtype=wide(dtype), **o))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_exact_and_the_model_is_as_it_was(name, all_in_float64):
    kind, module = made(name)
    before = fingerprint(module)
    model, tasks = ModuleModel(module, loss_of(kind)), tasks_of(kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The model cannot be run")
        for first_order in (False, True):
            learner = nets.maml(2, 0.05, first_order=first_order)
            meta = learner.init(model, torch.Generator())
            found = nets.gradient(learner, model, meta, tasks)[1]
            assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-10
            if not first_order:
                assert nets.finite_difference(learner, model, meta, tasks) < 1e-6
    assert fingerprint(module) == before


@pytest.mark.parametrize("name", MODELS)
def test_the_forward_is_the_models_own(name):
    kind, module = made(name)
    model, batch = ModuleModel(module, loss_of(kind)), texts(kind, 0)
    with torch.no_grad():
        found = model.forward(model.init(0), batch)
        expected = module.eval()(**batch.inputs).logits
    real = batch.inputs["attention_mask"].bool() if kind in {"tokens", "language"} else slice(None)
    assert torch.allclose(found[real], expected[real], atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "distilbert", "deberta-v2", "modernbert", "t5"])
def test_padding_changes_nothing(name):
    kind, module = made(name)
    model, batch = ModuleModel(module, loss_of(kind)), texts(kind, 3)
    other = {**batch.inputs, "input_ids": batch.inputs["input_ids"] + 1 - batch.inputs["attention_mask"]}
    one, two = (
        model.forward(model.init(0), Batch(i, batch.targets, batch.classes)) for i in (batch.inputs, other)
    )
    assert torch.allclose(one, two, atol=1e-7)


def test_a_boolean_mask_of_four_dimensions_is_read_as_a_mask():
    kind, module = made("bert")
    model, batch = ModuleModel(module), texts(kind, 0)
    mask = batch.inputs["attention_mask"]
    expected = model.forward(model.init(0), batch)
    for four in (
        mask.bool()[:, None, None],
        mask[:, None, None],
        mask.bool()[:, None, None].expand(-1, 1, T, T),
    ):
        again = Batch({**batch.inputs, "attention_mask": four}, batch.targets, batch.classes)
        assert torch.allclose(model.forward(model.init(0), again), expected, atol=1e-12)


def test_a_wholly_padded_text_is_finite_and_moves_no_other(all_in_float64):
    kind, module = made("gemma3")
    model, batch = ModuleModel(module, nets.cross_entropy), texts(kind, 0)
    expected = model.forward(model.init(0), batch)
    mask = batch.inputs["attention_mask"].clone()
    mask[1] = 0
    targets = batch.targets.masked_fill(mask == 0, -100)
    empty = Batch({**batch.inputs, "attention_mask": mask}, targets, batch.classes)
    found = model.forward(model.init(0), empty)
    assert bool(torch.isfinite(found).all())
    real = mask.bool()
    assert torch.allclose(found[real], expected[real], atol=1e-10)
    learner = nets.maml(2, 0.05)
    gradient = nets.gradient(
        learner, model, learner.init(model, torch.Generator()), [Episode(empty, batch)] * 2
    )[1]
    assert all(bool(torch.isfinite(g).all()) for g in gradient.values())


def test_masks_outside_of_metaglot_are_as_transformers_makes_them():
    from transformers import masking_utils

    _, module = made("bert")
    ModuleModel(module)
    build = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["eager"]
    options = {"batch_size": 2, "q_length": 3, "kv_length": 3, "allow_is_bidirectional_skip": True}
    options |= {"mask_function": masking_utils.bidirectional_mask_function}
    assert build(**options, attention_mask=torch.ones(2, 3, dtype=torch.bool)) is None


def test_labels_among_the_inputs_and_the_models_own_loss():
    kind, module = made("t5")
    model = ModuleModel(module, lambda loss, targets: loss, output=lambda found: found.loss)
    plain = ModuleModel(module, nets.cross_entropy)

    def own(batch):
        inputs = {n: v for n, v in batch.inputs.items() if n != "decoder_input_ids"}
        return Batch(inputs | {"labels": batch.targets}, batch.targets, batch.classes)

    def shifted(batch):
        decoded = torch.cat([torch.zeros_like(batch.targets[:, :1]), batch.targets[:, :-1]], 1)
        return Batch({**batch.inputs, "decoder_input_ids": decoded}, batch.targets, batch.classes)

    tasks, learner = tasks_of(kind), nets.maml(2, 0.05)
    meta = learner.init(model, torch.Generator())
    found = []
    for one, form in ((model, own), (plain, shifted)):
        formed = [Episode(form(t.support), form(t.query)) for t in tasks]
        found.append(nets.gradient(learner, one, meta, formed)[1])
    assert nets.apart(*found) < 1e-6


def test_tied_embeddings_are_one_parameter():
    _, module = made("gpt2")
    assert module.lm_head.weight is module.transformer.wte.weight
    assert "lm_head.weight" not in ModuleModel(module, nets.cross_entropy).init(0)


def test_gradient_checkpointing_is_off_in_what_runs_and_on_in_the_model():
    kind, module = made("bert")
    module.gradient_checkpointing_enable()
    model, learner = ModuleModel(module, dropout=True), nets.maml(1, 0.05)
    nets.gradient(learner, model, learner.init(model, torch.Generator()), tasks_of(kind, 2))
    assert any(getattr(part, "gradient_checkpointing", False) for part in module.modules())


@pytest.mark.parametrize(
    ("inputs", "hint"),
    [({"input_ids", "attention_masks"}, "attention_mask"), ({"input_idz", "attention_mask"}, "input_ids")],
)
def test_a_misspelt_input_is_refused_though_the_model_takes_anything(inputs, hint):
    model = ModuleModel(made("bert")[1])
    batch = Batch(
        {name: torch.ones(2, T, dtype=torch.int64) for name in inputs}, torch.tensor([0, 1]), torch.arange(2)
    )
    with pytest.raises(DataError, match=f"Did you mean '{hint}'"):
        model.forward(model.init(0), batch)


def bare(**options):
    torch.manual_seed(0)
    return hf.BertModel(hf.BertConfig(**SIZES), add_pooling_layer=False, **options)


def test_mean_pooling_leaves_padding_out():
    pooled, batch = MeanPooled(bare().eval()), texts("label", 0)
    found = pooled(**batch.inputs)
    states = pooled.encoder(**batch.inputs).last_hidden_state
    for i, length in enumerate(batch.inputs["attention_mask"].sum(1)):
        assert torch.allclose(found[i], states[i, :length].mean(0))
    nothing = torch.zeros_like(batch.inputs["attention_mask"])
    assert not bool(pooled(batch.inputs["input_ids"], nothing).any())
    full = torch.ones_like(nothing)
    assert torch.allclose(pooled(batch.inputs["input_ids"]), pooled(batch.inputs["input_ids"], full))
    with pytest.raises(SettingsError, match="BertForMaskedLM with logits"):
        MeanPooled(made("masked")[1])(**batch.inputs)


@pytest.mark.parametrize("learner", [ProtoNet(), nets.maml(2, 0.1)])
def test_an_encoder_within_a_module_under_a_head(learner):
    model = EmbeddingModel(MeanPooled(bare()), 8)
    tasks = tasks_of("label")
    meta = nets.moved(learner, model, noise=0.1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The model cannot be run")
        found = nets.gradient(learner, model, meta, tasks)[1]
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-6


def test_an_encoder_that_is_not_pooled_is_refused_with_the_remedy():
    model = EmbeddingModel(bare(), 8)
    with pytest.raises(SettingsError, match=r"BaseModelOutput\w* with last_hidden_state.*\n.*output=lambda"):
        model.forward(model.init(3), texts("label", 0))


def test_an_image_model():
    torch.manual_seed(0)
    config = {k: v for k, v in LABELLED.items() if k not in {"vocab_size", "max_position_embeddings"}}
    module = hf.ViTForImageClassification(hf.ViTConfig(image_size=8, patch_size=4, **config)).double()
    model, learner = ModuleModel(module), nets.maml(2, 0.05)
    tasks = nets.episodes(2, shape=(3, 8, 8), name="pixel_values")
    meta = nets.moved(learner, model, noise=0.1)
    found = nets.gradient(learner, model, meta, tasks)[1]
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-6


def test_a_model_in_a_module_of_ones_own_is_fitted_too(all_in_float64):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = made("bert")[1]
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, ids, mask):
            return self.inner(input_ids=ids, attention_mask=mask).logits * self.scale

    def renamed(batch):
        inputs = {"ids": batch.inputs["input_ids"], "mask": batch.inputs["attention_mask"]}
        return Batch(inputs, batch.targets, batch.classes)

    model, learner = ModuleModel(Scaled()), nets.maml(2, 0.05)
    tasks = [Episode(renamed(t.support), renamed(t.query)) for t in tasks_of("label")]
    meta = learner.init(model, torch.Generator())
    found = nets.gradient(learner, model, meta, tasks)[1]
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-10
