"""What models that write are trained on, and how they adapt: batches, episodes, inner steps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from metaglot.config import TrainSettings
from metaglot.errors import DataError, SettingsError
from metaglot.generation.drawing import EpisodeDraw, JointDraw, Sizes, untagged
from metaglot.generation.learning import (
    WRITING_LEARNERS,
    Updates,
    adapt,
    adapt_through,
    make_learner,
    nats,
    whole,
)
from metaglot.generation.material import Material, StateSources, TokenSources, in_order
from metaglot.learners.imaml import IMAML
from metaglot.learners.modules import ModuleModel
from metaglot.learners.stacking import Stack
from metaglot.outer_loop import optimize
from metaglot.sequences.blocks import StackConfig
from metaglot.sequences.loss import token_cross_entropy
from metaglot.sequences.transformer import LanguageModel, LanguageModelConfig
from metaglot.sequences.vocabulary import BEGIN, PADDING

V, TAG = 14, 3
SMALL = StackConfig(d=8, layers=1, heads=2, d_inner=12, dropout=0.0)
SEQUENCES = st.lists(st.lists(st.integers(1, V - 1), min_size=2, max_size=7), min_size=1, max_size=20)


def material(seed=0, n=30, group=-1, first=TAG):
    chance = np.random.default_rng(seed)
    rows = [[first, *chance.integers(4, V, size=int(chance.integers(1, 6))).tolist(), 2] for _ in range(n)]
    return Material(tuple(rows), group=group)


def model(groups=(), dtype=torch.float32):
    module = LanguageModel(LanguageModelConfig(V, SMALL, seed=1)).to(dtype)
    return ModuleModel(module, token_cross_entropy, groups=groups)


@given(SEQUENCES, st.integers(1, 8))
def test_a_turn_has_every_sequence_once(rows, size):
    known = Material(tuple(rows))
    found, batches = [], known.batches(size, 5)
    while len(found) < len(rows):
        batch = next(batches)
        for row, targets in zip(batch.inputs["target"], batch.targets, strict=True):
            kept = int((targets != PADDING).sum())
            found.append((int(row[0]), *targets[:kept].tolist()))
            assert (row[1:kept] == targets[: kept - 1]).all()
    assert sorted(found) == sorted(tuple(row) for row in rows)
    whole_turn = [tuple(b.targets.flatten().tolist()) for b in in_order(known, size)]
    assert sum(sum(t != PADDING for t in flat) for flat in whole_turn) == known.n_tokens


def test_batches_are_a_function_of_their_key():
    def first(*key):
        return next(material(n=50).batches(4, *key)).targets.tolist()

    assert first(1, "a") == first(1, "a")
    assert first(1, "a") != first(2, "a")


def test_sources_come_with_their_sequences():
    ids = ((5, 6), (7,), (8, 9, 10))
    states = tuple(np.full((len(row), 2), row[0], np.float16) for row in ids)
    for sources in (TokenSources(ids), StateSources(states)):
        known = Material(((1, 5, 2), (1, 7, 2), (1, 8, 2)), sources).rows([2, 0])
        batch = known.batch([1, 0])
        assert batch.inputs["source_mask"].tolist() == [[True, True, False], [True, True, True]]
        firsts = batch.inputs["source"][:, 0]
        assert (firsts if firsts.ndim == 1 else firsts[:, 0]).tolist() == [5, 8]
        assert batch.targets[:, 0].tolist() == [5, 8]
        assert known.lengths().tolist() == [2 + 3, 2 + 2]


def test_nothing_cannot_be_a_batch():
    with pytest.raises(DataError, match="at least one token"):
        Material(()).batch([])


def test_joint_batches_have_all_languages_alike():
    known = {code: material(i, n=10 + 40 * i, first=10 + i) for i, code in enumerate("abc")}
    draw = JointDraw(known, Sizes(joint=30, untagged=0.25), 7)
    counts = np.zeros(4)
    for step in range(40):
        episode = draw(step, 0)
        first = torch.cat([episode.support.inputs["target"][:, 0], episode.query.inputs["target"][:, 0]])
        assert len(first) == 30
        counts += [int((first == value).sum()) for value in (10, 11, 12, BEGIN)]
    assert counts[3] / counts.sum() == pytest.approx(0.25, abs=0.04)
    assert counts[:3] / counts[:3].sum() == pytest.approx([1 / 3] * 3, abs=0.04)
    again = JointDraw(known, Sizes(joint=30, untagged=0.25), 7)
    assert torch.equal(again(33, 0).support.targets, draw(33, 0).support.targets)  # in any order
    assert not torch.equal(again(33, 0).support.targets, again(34, 0).support.targets)


@settings(max_examples=30)
@given(st.integers(0, 50), st.integers(0, 3))
def test_episodes_are_of_one_language_and_its_sequences_on_one_side(step, place):
    numbers = {code: range(20 * i + 4, 20 * i + 24) for i, code in enumerate("ab")}
    known = {code: Material(tuple([TAG, n, 2] for n in found)) for code, found in numbers.items()}
    episode = EpisodeDraw(known, Sizes(support=8, query=6), 3)(step, place)
    sides = [set(side.targets[:, 0].tolist()) for side in (episode.support, episode.query)]
    assert [len(side) for side in sides] == [8, 6]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] <= set(numbers[episode.task])
    assert (episode.support.inputs["target"][:, 0] == BEGIN).all()
    again = EpisodeDraw(known, Sizes(support=8, query=6), 3)(step, place)
    assert torch.equal(again.support.targets, episode.support.targets)


def test_every_language_in_turn():
    known = {code: material(i) for i, code in enumerate("abc")}
    draw = EpisodeDraw(known, Sizes(), 0, every=True)
    assert [draw(4, place).task for place in range(6)] == list("abcabc")
    with pytest.raises(DataError, match="at least 2 sequences"):
        EpisodeDraw({"a": material(n=1)}, Sizes(), 0)


def test_adapting_is_adam_on_minibatches():
    """As torch.optim.Adam does it, on the same minibatches."""
    m, known = model(dtype=torch.float64), material()
    learner = make_learner("multitask", {"rate": 0.003})
    meta = learner.init(m, torch.Generator())
    found = adapt(m, learner, meta, known, Updates(6, 4, 2.0), 9, "swh")
    module = LanguageModel(LanguageModelConfig(V, SMALL, seed=1)).double()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.006)
    batches = known.batches(4, 9, "swh")
    for _ in range(6):
        batch = untagged(next(batches), 1.0, np.random.default_rng())
        optimizer.zero_grad()
        token_cross_entropy(module(batch.inputs["target"]), batch.targets).backward()
        optimizer.step()
    for name, value in module.named_parameters():
        assert torch.allclose(found[name], value, atol=1e-9), name


def test_stops_on_the_way_are_shorter_ways():
    m, known = model(), material()
    learner = make_learner("fomaml", {})
    meta = learner.init(m, torch.Generator())
    found = adapt_through(m, learner, meta, known, Updates(7, 4, 3.0), (2, 5, 99, 0), 1)
    assert sorted(found) == [2, 5, 7]
    for steps, own in found.items():
        alone = adapt(m, learner, meta, known, Updates(steps, 4, 3.0), 1)
        assert all(torch.equal(own[name], alone[name]) for name in alone)
    assert not torch.equal(found[2]["decoder.embedding"], found[5]["decoder.embedding"])


def test_a_multiple_is_of_learned_rates_and_of_fixed_ones():
    m, known = model(), material()
    for options in ({"learn_rates": "none"}, {"learn_rates": "parameter"}, {"learn_rates": "step"}):
        slow, fast = (make_learner("maml", options | {"rate": rate}) for rate in (0.001, 0.004))
        once = adapt(m, slow, slow.init(m, torch.Generator()), known, Updates(8, 4, 4.0), 1)
        other = adapt(m, fast, fast.init(m, torch.Generator()), known, Updates(8, 4, 1.0), 1)
        assert all(torch.allclose(once[name], other[name], atol=1e-6) for name in once)


def test_no_step_is_the_start_of_the_languages_group():
    m = model(("Bantu", "Mayan"))
    learner = make_learner("hierarchical", {})
    meta = learner.init(m, torch.Generator())
    meta["offset.context"] = torch.stack([torch.full((8,), 0.5), torch.full((8,), -0.5)])
    starts = [adapt(m, learner, meta, material(group=g), Updates(0))["context"] for g in (0, 1, -1)]
    assert [float(start[0]) for start in starts] == [0.5, -0.5, 0.0]


@pytest.mark.parametrize("name", WRITING_LEARNERS)
def test_every_learner_learns_and_adapts(name):
    m = model(("one", "two"))
    learner = make_learner(name, {"steps": 2, "batch": 4})
    known = {code: material(i, group=i) for i, code in enumerate("ab")}
    plan = TrainSettings(steps=2, episodes=2, pool=0)
    found = optimize(m, learner, EpisodeDraw(known, Sizes(support=8, query=4), 0), plan, name=name)
    start = learner.init(m, torch.Generator())
    assert any(not torch.equal(value, start[n]) for n, value in found.meta.items())
    new = material(5)
    own = adapt(m, learner, found.meta, new, Updates(30, 8, 10.0), 0)
    if name == "cavia":
        assert set(own) == {"context"}
    before = whole(m, learner, found.meta, adapt(m, learner, found.meta, new, Updates(0)), new.batch([0]))
    after = whole(m, learner, found.meta, own, new.batch([0]))
    assert nats(m, after, new) < nats(m, before, new)
    assert set(after) == set(m.init(0))


def test_nats_are_of_every_token():
    m, known = model(), material(n=9)
    params = m.init(0)
    found = 0.0
    for row in known.targets:
        ids = torch.tensor([[BEGIN, *row[1:]]])
        logits = functional_call(LanguageModel(LanguageModelConfig(V, SMALL, seed=1)), params, (ids[:, :-1],))
        log_p = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])
        found -= float(log_p.sum())
    assert nats(m, params, known, 4) == pytest.approx(found, rel=1e-5)
    assert math.isfinite(found)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: make_learner("ridge", {}), "gradient steps"),
        (lambda: make_learner("fomaml", {"stepps": 1}), "options"),
        (lambda: Updates(-1), "steps ≥ 0"),
        (lambda: Updates(1, 8, 0.0), "multiple > 0"),
        (lambda: make_learner("fomaml", {"batch": -1}), "batch ≥ 0"),
    ],
)
def test_settings_out_of_range_are_said(make, said):
    with pytest.raises(SettingsError, match=said):
        make()


def test_inner_steps_go_through_a_support_set_in_turn():
    """Two steps on four examples, two at a time, are a step on the first two and one on the others."""
    m, known = model(dtype=torch.float64), material(n=4)
    batch = known.batch(range(4))
    options = {"steps": 2, "batch": 2, "optimizer": "sgd", "rate": 0.1, "learn_rates": "none"}
    learner = make_learner("maml", options)
    meta = learner.init(m, torch.Generator())
    found = learner.adapt(m, meta, batch)
    theta = m.init(0)
    for rows in ([0, 1], [2, 3]):
        theta = {n: v.detach().requires_grad_() for n, v in theta.items()}
        part = batch[torch.tensor(rows)]
        gradients = torch.autograd.grad(m.loss(m.forward(theta, part), part.targets), list(theta.values()))
        theta = {n: v - 0.1 * g for (n, v), g in zip(theta.items(), gradients, strict=True)}
    assert all(torch.allclose(found[name], theta[name], atol=1e-12) for name in theta)
    parts = Stack.of([batch]).parts(3)
    assert [part.targets.shape[1] for part in parts] == [3, 1]
    with pytest.raises(TypeError, match="batch"):
        IMAML(batch=2)  # its solution is of the whole support set
