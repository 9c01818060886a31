"""Baselines with known answers, and the grid: every method on the same draws."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge as SklearnRidge

from metaglot.errors import DataError, SettingsError, UnknownNameError
from metaglot.evaluation.baselines import BASELINES, default_baselines, zero_shot_head
from metaglot.evaluation.grid import adapted_head, run_grid
from metaglot.learners import LEARNERS
from metaglot.learners.ridge import Ridge
from metaglot.model import fit_sources, target_table
from metaglot.space import TaskSpace, draw_support

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)


def support_of(sources, space, shots, name=None):
    """A support set, with a baseline's extra blocks."""
    (task,) = space.held_out
    table = target_table(sources.model, task, task.pool)
    if name is not None and (extra := BASELINES[name](sources).extra) is not None:
        table = dataclasses.replace(table, inputs={**table.inputs, **extra(table.inputs)})
    return table.batch(sources.model, draw_support(task.pool, task.labels, shots, 0), task.labels)


def query_of(sources, space):
    (task,) = space.held_out
    table = target_table(sources.model, task, task.test)
    return table.batch(sources.model, torch.arange(len(task.test)), task.labels)


def side_by_side(inputs, blocks=("dense", "lexical")):
    return torch.cat([inputs[name] for name in blocks], 1).double()


def one_hot(targets, n_labels=4):
    return F.one_hot(targets, n_labels).double() - 1 / n_labels


def ridge_scores(features, targets, new, penalty, weights=None):
    fitted = SklearnRidge(alpha=penalty, fit_intercept=False, solver="cholesky")
    fitted.fit(features.numpy(), targets.numpy(), sample_weight=None if weights is None else weights.numpy())
    return torch.from_numpy(fitted.predict(new.numpy()))


def proportional(one, other):
    return torch.allclose(
        F.normalize(one.double().flatten(), dim=0), F.normalize(other.flatten(), dim=0), atol=2e-4
    )


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("target-only", ("dense", "lexical")),
        ("target-only-dense", ("dense",)),
        ("target-only-lexical", ("lexical",)),
    ],
)
def test_a_probe_is_ridge_on_the_support_set_alone(name, blocks, noisy_sources, space):
    model, query = noisy_sources.model, query_of(noisy_sources, space)
    for shots, penalties in ((1, (1.0,)), (4, PENALTIES)):
        support = support_of(noisy_sources, space, shots)
        head = BASELINES[name](noisy_sources).fit(model, support)
        logits = model.task_model.forward(head, query)
        X, new = side_by_side(support.inputs, blocks), side_by_side(query.inputs, blocks)
        expected = [ridge_scores(X, one_hot(support.targets), new, penalty) for penalty in penalties]
        assert sum(proportional(logits, e) for e in expected) == 1
        if shots == 1:
            assert torch.allclose(logits.double(), 8.0 * expected[0], atol=1e-3)


def test_a_probe_takes_the_penalty_and_sharpness_of_the_best_leave_one_out_likelihood(noisy_sources, space):
    model, support = noisy_sources.model, support_of(noisy_sources, space, 4)
    head = BASELINES["target-only"](noisy_sources).fit(model, support)
    X, Y = side_by_side(support.inputs), one_hot(support.targets)
    best = (-math.inf, 0.0, 0.0)
    for penalty in PENALTIES:
        rows = []
        for i in range(len(support)):
            rest = [j for j in range(len(support)) if j != i]
            rows.append(ridge_scores(X[rest], Y[rest], X[[i]], penalty)[0])
        left_out = torch.stack(rows)
        for sharpness in [2.0 ** (i / 2) for i in range(15)]:
            likelihood = -F.cross_entropy(sharpness * left_out, support.targets).item()
            best = max(best, (likelihood, penalty, sharpness))
    expected = best[2] * ridge_scores(X, Y, X, best[1])
    assert torch.allclose(model.task_model.forward(head, support).double(), expected, atol=2e-3)


@pytest.mark.parametrize("shots", [1, 4])
def test_joint_is_ridge_refitted_on_sources_and_weighted_support_together(shots, noisy_sources, space):
    model, query = noisy_sources.model, query_of(noisy_sources, space)
    support = support_of(noisy_sources, space, shots, "joint")
    head = BASELINES["joint"](noisy_sources).fit(model, support)
    logits = model.task_model.forward(head, query)
    place = {label: row for row, label in enumerate(model.labels)}
    source_X = torch.cat([side_by_side(t.inputs) for t in noisy_sources.tables])
    source_Y = one_hot(torch.tensor([place[e.label] for t in noisy_sources.tables for e in t.examples]))
    X = torch.cat([source_X, side_by_side(support.inputs)])
    Y = torch.cat([source_Y, one_hot(support.targets)])
    matches = []
    for weight in (10.0,) if shots == 1 else (1.0, 3.0, 10.0, 30.0):
        weights = torch.cat([torch.ones(len(source_X)), torch.full((len(support),), weight)])
        matches.append(ridge_scores(X, Y, side_by_side(query.inputs), 30.0, weights))
    assert sum(proportional(logits, m) for m in matches) == 1
    if shots == 1:
        assert torch.allclose(logits.double(), 8.0 * matches[0], atol=2e-3)


def test_zero_shot_is_the_prior_and_needs_no_examples(sources, space):
    query = query_of(sources, space)
    baseline = BASELINES["zero-shot"](sources)
    assert baseline.zero_shots
    logits = sources.model.task_model.forward(zero_shot_head(sources.model, 4), query)
    assert torch.allclose(logits, sources.model.prior.sharpness * query.prior)
    head = baseline.fit(sources.model, support_of(sources, space, 0))
    assert torch.equal(sources.model.task_model.forward(head, query), logits)


def test_majority_is_the_most_frequent_label_of_the_sources(make_corpus, tiny_encoder):
    corpus = make_corpus()
    kept = tuple(e for i, e in enumerate(corpus.examples) if e.label in {"music", "greet"} or i % 2)
    kept = tuple(e for e in kept if e.label != "greet" or e.language == "swh" or e.id[-1] in "02468")
    space = TaskSpace.of(dataclasses.replace(corpus, examples=kept), ["swh"])
    sources = fit_sources(space, tiny_encoder())
    logits = sources.model.task_model.forward(
        BASELINES["majority"](sources).fit(sources.model, support_of(sources, space, 0)),
        query_of(sources, space),
    )
    assert {sources.model.labels[i] for i in logits.argmax(1).tolist()} == {"music"}
    count = [sum(e.label == x for t in sources.tables for e in t.examples) for x in sources.model.labels]
    assert torch.allclose(logits[0].exp(), torch.tensor(count) + 1.0)


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_baseline_takes_new_labels(name, make_corpus, tiny_encoder):
    corpus = make_corpus()
    kept = tuple(e for e in corpus.examples if e.label != "greet" or e.language == "swh")
    space = TaskSpace.of(dataclasses.replace(corpus, examples=kept), ["swh"])
    sources = fit_sources(space, tiny_encoder())
    support = support_of(sources, space, 2, name)
    assert support.classes.tolist() == [-1, 0, 1, 2]
    head = BASELINES[name](sources).fit(sources.model, support)
    logits = sources.model.task_model.forward(head, query_of(sources, space))
    assert logits.shape == (16, 4)
    assert bool(torch.isfinite(logits).all())


def test_default_baselines_are_those_that_differ(space, tiny_encoder):
    both = fit_sources(space, tiny_encoder()).model
    assert default_baselines(both) == tuple(BASELINES)
    dense = fit_sources(space, tiny_encoder({"dense": 16}))
    assert default_baselines(dense.model) == ("majority", "zero-shot", "target-only", "joint")
    with pytest.raises(
        SettingsError, match=r"target-only-lexical needs lexical features, and 'tiny' has none"
    ):
        BASELINES["target-only-lexical"](dense)
    lexical = fit_sources(space, tiny_encoder({"lexical": 32}))
    with pytest.raises(SettingsError, match=r"target-only-dense needs dense features"):
        BASELINES["target-only-dense"](lexical)
    for sources in (dense, lexical):
        records = run_grid(
            sources, space, {}, baselines=default_baselines(sources.model), shots=(0, 2), draws=1
        )
        assert len(records) == 6


@pytest.fixture(scope="module")
def trained(noisy_sources):
    made = {name: LEARNERS[name]() for name in ("ridge", "auto")}
    model = noisy_sources.model.task_model
    return {name: (x, x.init(model, torch.Generator())) for name, x in made.items()}


def test_the_grid_has_every_method_on_every_draw(noisy_sources, space, trained):
    records = run_grid(
        noisy_sources,
        space,
        trained,
        baselines=["zero-shot", "target-only", "joint"],
        shots=(2, 0, 1),
        draws=3,
    )
    found = {(r.method, r.learned, r.shots, r.draw) for r in records}
    assert len(found) == len(records)
    expected = {(m, m in trained, k, d) for m in (*trained, "zero-shot") for k in (1, 2) for d in range(3)}
    expected |= {(m, False, k, d) for m in ("target-only", "joint") for k in (1, 2) for d in range(3)}
    expected |= {(m, m in trained, 0, 0) for m in (*trained, "zero-shot")}
    assert found == expected
    assert {(r.shots, r.examples) for r in records} == {(0, 0), (1, 4), (2, 8)}
    assert {r.language for r in records} == {"swh"}
    for record in records:
        assert set(record.metrics) == {"accuracy", "macro_f1", "log_loss", "calibration_error"}
        assert record.as_dict()["metrics"] == record.metrics


def test_with_no_shots_every_learner_is_zero_shot(noisy_sources, space, trained):
    records = run_grid(noisy_sources, space, trained, baselines=["zero-shot"], shots=(0,))
    assert len(records) == 3
    assert all(r.metrics == records[0].metrics for r in records)


def test_a_cell_is_what_adapting_by_hand_gives(noisy_sources, space, trained):
    records = run_grid(noisy_sources, space, trained, baselines=[], shots=(1,), draws=2, seed=5)
    (task,) = space.held_out
    model, query = noisy_sources.model, query_of(noisy_sources, space)
    table = target_table(model, task, task.pool)
    for record in records:
        rows = draw_support(task.pool, task.labels, 1, 5, "swh", record.draw)
        learner, meta = trained[record.method]
        head = adapted_head(model, learner, meta, table.batch(model, rows, task.labels))
        logits = model.task_model.forward(head, query)
        hits = (logits.argmax(1) == query.targets).double().mean().item()
        assert record.metrics["accuracy"] == pytest.approx(hits)
        assert record.metrics["log_loss"] == pytest.approx(F.cross_entropy(logits, query.targets).item())


def test_a_method_is_judged_alike_whatever_stands_beside_it(noisy_sources, space, trained):
    alone = run_grid(noisy_sources, space, {"ridge": trained["ridge"]}, baselines=[], shots=(2,), draws=2)
    beside = run_grid(noisy_sources, space, trained, baselines=list(BASELINES), shots=(1, 2), draws=3)
    chosen = [r for r in beside if r.method == "ridge" and r.shots == 2 and r.draw < 2]
    assert chosen == alone


def test_more_examples_help(noisy_sources, space, trained):
    records = run_grid(noisy_sources, space, trained, baselines=["target-only"], shots=(1, 8), draws=6)
    for method in ("target-only", "ridge", "auto"):
        loss = {
            k: sum(r.metrics["log_loss"] for r in records if r.method == method and r.shots == k)
            for k in (1, 8)
        }
        assert loss[8] < loss[1]


@pytest.mark.parametrize("options", [{"draws": 0}, {"shots": ()}, {"shots": (-1, 2)}])
def test_a_grid_that_makes_no_sense_is_refused(options, sources, space):
    with pytest.raises(SettingsError, match="expected draws ≥ 1 and shots ≥ 0"):
        run_grid(sources, space, {}, baselines=["zero-shot"], **options)


def test_a_grid_needs_a_held_out_language_and_names_that_are_known(sources, space, make_corpus):
    with pytest.raises(DataError, match="at least one held-out language"):
        run_grid(sources, TaskSpace.of(make_corpus()), {}, baselines=["zero-shot"])
    with pytest.raises(UnknownNameError, match="Did you mean 'zero-shot'"):
        run_grid(sources, space, {}, baselines=["zeroshot"])
    twice = {"joint": (Ridge(), Ridge().init(sources.model.task_model, torch.Generator()))}
    with pytest.raises(SettingsError, match="found 'joint' twice"):
        run_grid(sources, space, twice, baselines=["joint"])
    with pytest.raises(SettingsError, match="at least one learner or baseline"):
        run_grid(sources, space, {}, baselines=[])
    with pytest.raises(SettingsError, match="a method that predicts without examples"):
        run_grid(sources, space, {}, baselines=["target-only"], shots=(0,))
