"""A compiled inner step has the plain one's derivatives, or runs as the plain one and says so."""

import shutil
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import networks as nets
from metaglot.errors import DataError, SettingsError
from metaglot.learners import compiled
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.modules import EmbeddingModel, ModuleModel
from metaglot.learners.protomaml import ProtoMAML
from metaglot.types import Batch, Episode

WORDS = 60


class Small(nn.Module):
    """An embedding with padding, a LayerNorm and an MLP, with something detached by itself."""

    def __init__(self, outputs=3, words=WORDS):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(words, 6, padding_idx=0)
        self.norm, self.hidden = nn.LayerNorm(6), nn.Linear(6, 8)
        self.last = nn.Linear(8, outputs)

    def forward(self, x):
        rows = self.norm(self.table(x).mean(1))
        hidden = self.hidden(rows).tanh()
        with torch.no_grad():
            size = hidden.abs().mean(1, keepdim=True)
        return self.last(hidden / size * rows.detach().square().mean(1, keepdim=True))


def tasks(m, *, n=6, length=4):
    chance = torch.Generator().manual_seed(5)

    def batch():
        ids = torch.randint(0, WORDS, (n, length), generator=chance)
        ids[0, 0] = 0
        return Batch({"x": ids}, torch.arange(n) % 3, torch.arange(3))

    return [Episode(batch(), batch()) for _ in range(m)]


@pytest.fixture(autouse=True)
def eager_backend(monkeypatch):
    monkeypatch.setattr(compiled, "_BACKEND", "aot_eager")


def both(learner, episodes, *, make=Small, loss=F.cross_entropy, **options):
    """The plain and the compiled meta-gradient, and the compiled model."""
    found = []
    for compile in (False, True):
        model = ModuleModel(make(), loss, compile=compile)
        found.append(meta_gradient(learner, model, nets.moved(learner, model), episodes, **options))
    (plain_loss, plain), (loss, gradient) = found
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=1e-6)
    return plain, gradient, model


def made(model):
    """How many functions were compiled for a model."""
    known = compiled._KNOWN.get(model, {})
    assert all(known.values())
    return len(known)


@pytest.mark.parametrize(
    ("first_order", "options", "words"),
    [
        (False, {}, WORDS),
        (False, {}, 20),
        (False, {"chunk": 1}, WORDS),
        (False, {"recompute": True}, WORDS),
        (True, {}, WORDS),
    ],
    ids=["rows", "table", "one task", "recompute", "first order"],
)
def test_the_meta_gradient_is_the_plain_one(first_order, options, words):
    episodes = tasks(3)
    if words < WORDS:
        for episode in episodes:
            for batch in (episode.support, episode.query):
                batch.inputs["x"].remainder_(words)
    learner = nets.maml(3, 0.1, first_order=first_order)
    plain, found, model = both(learner, episodes, make=lambda: Small(words=words), **options)
    assert nets.apart(found, plain) < 1e-6
    assert made(model) == (2 if options.get("recompute") and not first_order else 1)


def test_it_is_second_order_that_is_compiled():
    """The test above could not tell if the curvature were small."""
    exact = both(nets.maml(3, 0.1), tasks(2))[1]
    assert nets.apart(both(nets.maml(3, 0.1, first_order=True), tasks(2))[1], exact) > 1e-2


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "learn_rates": "parameter"},
        {"adapt": "head", "learn_rates": "element", "clip": 0.5},
    ],
)
def test_inner_loops_of_all_kinds(options):
    plain, found, model = both(nets.maml(2, 0.05, **options), tasks(2))
    assert nets.apart(found, plain) < 1e-5
    assert made(model) == 1


def test_an_embedding_model_and_a_learner_that_makes_its_head():
    class Body(Small):
        def forward(self, x):
            return self.hidden(self.norm(self.table(x).mean(1))).tanh()

    learner, found = ProtoMAML(2, 0.1), []
    for compile in (False, True):
        body = Body()
        body.last = nn.Identity()
        model = EmbeddingModel(body, 8, compile=compile)
        found.append(meta_gradient(learner, model, nets.moved(learner, model), tasks(2))[1])
    assert nets.apart(found[1], found[0]) < 1e-6
    assert made(model) == 1


def test_one_function_serves_all_of_its_shapes_and_no_others():
    learner, model = nets.maml(3, 0.1), ModuleModel(Small(), compile=True)
    plain = ModuleModel(Small())
    for seed in range(3):
        meta = nets.moved(learner, model, seed=seed)
        _, found = meta_gradient(learner, model, meta, tasks(seed + 2), chunk=1)
        assert nets.apart(found, meta_gradient(learner, plain, meta, tasks(seed + 2))[1]) < 1e-6
        assert made(model) == 1
    meta_gradient(learner, model, meta, tasks(2, n=9), chunk=1)
    assert made(model) == 2
    meta_gradient(learner, model, meta, tasks(2), chunk=2)
    assert made(model) == 3
    learner.adapt(model, meta, tasks(1)[0].support)  # whose gradients are not differentiated
    assert made(model) == 4


def test_it_says_that_it_compiles_and_how_long_it_took(capsys):
    both(nets.maml(1), tasks(2), chunk=1)
    said = capsys.readouterr().err
    assert said.count("compiling the inner step of 1 task at a time") == 1
    assert "compiled it in" in said


class Peeks(Small):
    """Takes a number out of its inputs, which a trace would have as a constant."""

    def forward(self, x):
        return super().forward(x) * (1 + x.numpy().ravel()[1])


class Branches(Small):
    def forward(self, x):
        return super().forward(x) * (2 if x.sum() > 7 else 1)


class Draws(Small):
    def forward(self, x):
        return super().forward(x) + 0 * torch.rand(1)


@pytest.mark.parametrize(("make", "why"), [(Peeks, "differ"), (Branches, "trac"), (Draws, "random")])
def test_what_cannot_be_compiled_runs_uncompiled_with_one_warning(make, why):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plain, found, model = both(nets.maml(2, 0.1), tasks(3), make=make, chunk=1)
        meta_gradient(nets.maml(2), model, nets.moved(nets.maml(2), model), tasks(2, n=9), chunk=1)
    said = [str(w.message) for w in caught if "compiled" in str(w.message)]
    assert len(said) == 1
    assert why in said[0]
    assert nets.apart(found, plain) == 0


def test_a_compiler_that_fails(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiled, "_BACKEND", broken)
    with pytest.warns(UserWarning, match="no compiler here"):
        plain, found, _ = both(nets.maml(2), tasks(2), chunk=1)
    assert nets.apart(found, plain) == 0


def test_a_wrong_label_is_what_the_plain_model_says_of_it():
    learner, model = nets.maml(2), ModuleModel(Small(), compile=True)
    meta, episodes = nets.moved(learner, model), tasks(1)
    meta_gradient(learner, model, meta, episodes)
    episodes[0].support.targets[2] = 7
    with pytest.raises(DataError, match="label numbers from 0 to 2"):
        meta_gradient(learner, model, meta, episodes)


def test_dropout_and_threads_are_refused():
    with pytest.raises(SettingsError, match="compile=True or dropout=True"):
        ModuleModel(Small(), compile=True, dropout=True)
    with pytest.raises(SettingsError, match="compile=True or dropout=True"):
        EmbeddingModel(Small(), 3, compile=True, dropout=True)
    learner, model = nets.maml(1), ModuleModel(Small(), compile=True)
    with pytest.raises(SettingsError, match="threads=1"):
        meta_gradient(learner, model, nets.moved(learner, model), tasks(2), threads=2)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_inductor(monkeypatch):
    monkeypatch.setattr(compiled, "_BACKEND", "inductor")
    plain, found, model = both(nets.maml(2, 0.1), nets.episodes(2), make=nets.mlp, chunk=1)
    assert nets.apart(found, plain) < 1e-6
    assert made(model) == 1
