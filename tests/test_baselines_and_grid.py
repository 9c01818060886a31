"""Baselines with known answers, and the grid: every method on the same draws."""

import dataclasses
import importlib
import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

from metaglot.errors import DataError, SettingsError, UnknownNameError
from metaglot.evaluation import fine_tuning
from metaglot.evaluation.baselines import BASELINES, default_baselines, fitting_baselines
from metaglot.evaluation.fine_tuning import descend
from metaglot.evaluation.grid import adapted_head, judge_task, run_grid
from metaglot.evaluation.logistic import logistic_heads
from metaglot.evaluation.source_tuning import best_setting, power_of_shots, tuning_episode
from metaglot.learners import LEARNERS
from metaglot.learners.ridge import Ridge
from metaglot.model import fit_sources, target_table
from metaglot.space import TaskSpace, draw_support, generator

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
    logits = sources.model.task_model.forward(sources.model.zero_shot_head(torch.arange(4)), query)
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


def test_prototypes_are_the_nearest_class_means_by_cosine(noisy_sources, space):
    model, query = noisy_sources.model, query_of(noisy_sources, space)
    fit = BASELINES["prototypes"](noisy_sources).fit
    for shots in (1, 4):
        support = support_of(noisy_sources, space, shots)
        X, new = support.inputs["dense"], query.inputs["dense"]
        means = torch.stack([X[support.targets == label].mean(0) for label in range(4)])
        cosines = F.cosine_similarity(new.unsqueeze(1), means.unsqueeze(0), dim=2)
        logits = model.task_model.forward(fit(model, support), query)
        assert torch.equal(logits.argmax(1), cosines.argmax(1))
        if shots == 1:
            assert torch.allclose(logits, 8.0 * cosines * new.norm(dim=1, keepdim=True), atol=1e-4)


def test_prototypes_take_the_sharpness_of_the_best_leave_one_out_likelihood(noisy_sources, space):
    model, support = noisy_sources.model, support_of(noisy_sources, space, 4)
    X, left_out = support.inputs["dense"], []
    for i in range(len(support)):
        rest = torch.arange(len(support)) != i
        means = torch.stack([X[rest & (support.targets == label)].mean(0) for label in range(4)])
        left_out.append(X[i] @ F.normalize(means, dim=1).T)
    scores = torch.stack(left_out)
    best = max(
        (2.0 ** (i / 2) for i in range(15)),
        key=lambda s: -F.cross_entropy(s * scores, support.targets).item(),
    )
    head = BASELINES["prototypes"](noisy_sources).fit(model, support)
    norms = head["weight.dense"].norm(dim=1)
    assert torch.allclose(norms, torch.full_like(norms, best), rtol=1e-4)


@pytest.mark.parametrize("n_labels", [2, 4])
def test_logistic_mteb_is_scikit_learns_on_the_encoders_own_features(n_labels, make_corpus, tiny_encoder):
    encoder = tiny_encoder()
    space = TaskSpace.of(make_corpus(labels=("greet", "music", "timer", "weather")[:n_labels]), ["swh"])
    sources = fit_sources(space, encoder)
    (task,) = space.held_out
    rows = draw_support(task.pool, task.labels, 2, 0)
    raw = encoder.encode([task.pool[i].text for i in rows])["dense"]
    fitted = LogisticRegression(C=1.0, max_iter=100).fit(raw, [task.pool[i].label for i in rows])
    new = encoder.encode([e.text for e in task.test])["dense"]
    head = BASELINES["logistic-mteb"](sources).fit(sources.model, support_of(sources, space, 2))
    found = sources.model.task_model.forward(head, query_of(sources, space)).softmax(1)
    assert torch.allclose(found.double(), torch.from_numpy(fitted.predict_proba(new)).double(), atol=1e-4)


@pytest.mark.parametrize("blocks", [{"dense": 16, "lexical": 32}, {"dense": 4}])
def test_logistic_heads_are_scikit_learns(blocks, space, tiny_encoder):
    # 16 examples of 48 columns are solved in their kernel, of 4 columns as they stand.
    sources = fit_sources(space, tiny_encoder(blocks, noise=2.5))
    support, query = support_of(sources, space, 4), query_of(sources, space)
    X, new = side_by_side(support.inputs, blocks), side_by_side(query.inputs, blocks)
    strengths = (0.1, 1.0, 100.0)
    for head, strength in zip(logistic_heads(sources.model, support, strengths), strengths, strict=True):
        fitted = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(
            X.numpy(), support.targets.numpy()
        )
        found = sources.model.task_model.forward(head, query).softmax(1)
        assert torch.allclose(found.double(), torch.from_numpy(fitted.predict_proba(new.numpy())), atol=5e-3)


def test_a_setting_is_chosen_by_accuracy_then_log_loss():
    targets = torch.tensor([0, 1])
    right, wrong = torch.eye(2), 1 - torch.eye(2)
    assert best_setting("abc", [([wrong, right, 3 * right], targets), ([right] * 3, targets)], "a") == "c"
    assert best_setting("ab", [([right, wrong], targets), ([right, 5 * right], targets)], "b") == "a"
    assert best_setting("ab", [], "b") == "b"


@pytest.mark.parametrize(("count", "power"), [(1, 1), (2, 2), (3, 4), (11, 8), (12, 16), (28, 32)])
def test_settings_are_for_powers_of_two(count, power, toy_episode):
    assert power_of_shots(toy_episode((count,) * 3).support) == power


@pytest.mark.parametrize("name", ["logistic-tuned", "joint-fine-tuned"])
def test_tuning_is_once_for_a_number_of_shots_and_sees_no_target(name, noisy_sources, space, monkeypatch):
    module = importlib.import_module(
        f"metaglot.evaluation.{'logistic' if 'logistic' in name else 'fine_tuning'}"
    )
    drawn = []

    def watched(model, table, shots, *rest):
        drawn.append((table.task.language, shots))
        return tuning_episode(model, table, shots, *rest)

    monkeypatch.setattr(module, "tuning_episode", watched)
    fit = BASELINES[name](noisy_sources).fit
    for shots in (2, 2, 3, 4):
        fit(noisy_sources.model, support_of(noisy_sources, space, shots))
    sources = [table.task.language for table in noisy_sources.tables]
    assert sorted(drawn) == sorted((code, shots) for code in sources for shots in (2, 4))


@pytest.mark.parametrize("name", ["logistic-tuned", "joint-fine-tuned"])
def test_languages_with_too_few_examples_leave_the_default(name, make_corpus, tiny_encoder):
    space = TaskSpace.of(make_corpus(train=4, dev=0), ["swh"])
    sources = fit_sources(space, tiny_encoder())
    few = tuple(
        dataclasses.replace(t, examples=t.examples[:2], inputs={n: b[:2] for n, b in t.inputs.items()})
        for t in sources.tables
    )
    sources = dataclasses.replace(sources, tables=few)
    assert all(tuning_episode(sources.model, table, 1) is None for table in few)
    head = BASELINES[name](sources).fit(sources.model, support_of(sources, space, 2))
    assert all(bool(torch.isfinite(value).all()) for value in head.values())


def test_descent_in_the_kernel_is_descent_in_the_weights():
    chance = torch.Generator().manual_seed(0)
    X, W = torch.randn(9, 5, generator=chance).double(), torch.randn(5, 3, generator=chance).double()
    targets = torch.arange(9) % 3
    kernel, rate = X @ X.T, 0.5
    found = descend(kernel, X @ W, targets, rate, [0, 3, 20])
    curvature = float(torch.linalg.matrix_norm(kernel, 2)) / (2 * 9)
    assert torch.equal(found[0], torch.zeros(9, 3).double())
    weights = torch.nn.Parameter(W.clone())
    losses = []
    before = ahead = W
    for step in range(1, 21):
        weights.data = ahead
        loss = F.cross_entropy(X @ weights, targets)
        (slope,) = torch.autograd.grad(loss, weights)
        now = ahead - rate / curvature * slope
        ahead, before = now + step / (step + 3) * (now - before), now
        losses.append(loss.item())
        if step in (3, 20):
            assert torch.allclose(W + X.T @ found[1 if step == 3 else 2], now, atol=1e-4)
    assert losses[-1] < losses[0] / 2


def test_fine_tuning_starts_from_the_joint_head_of_the_sources(noisy_sources, space):
    model, query = noisy_sources.model, query_of(noisy_sources, space)
    baseline = BASELINES["joint-fine-tuned"](noisy_sources)
    assert baseline.zero_shots
    logits = model.task_model.forward(baseline.fit(model, support_of(noisy_sources, space, 0)), query)
    X = torch.cat([side_by_side(t.inputs) for t in noisy_sources.tables])
    place = {label: row for row, label in enumerate(model.labels)}
    Y = one_hot(torch.tensor([place[e.label] for t in noisy_sources.tables for e in t.examples]))
    assert proportional(logits, ridge_scores(X, Y, side_by_side(query.inputs), 30.0))


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("held_out", [["swh"], ["swh", "amh", "eng", "hau"]])
def test_fine_tuning_is_tuned_with_heads_that_saw_neither_language_nor_content(
    parallel, held_out, make_corpus, tiny_encoder, monkeypatch
):
    # In a parallel corpus, and with a single source, one half of the contents judges the other's head.
    monkeypatch.setattr(fine_tuning, "find_parallel", lambda examples: "shared ids" if parallel else None)
    space = TaskSpace.of(make_corpus(train=40), held_out)
    sources = fit_sources(space, tiny_encoder(noise=2.5))
    _, unseen = fine_tuning._heads(sources)
    halved = parallel or len(sources.tables) == 1
    place = {label: row for row, label in enumerate(sources.model.labels)}
    for language in unseen:
        code, judged = language.table.task.language, {language.table.examples[i].id for i in language.rows}
        assert (len(judged) < len(language.table.examples)) == halved
        learned = [
            (row, table)
            for table in sources.tables
            if table.task.language != code or len(sources.tables) == 1
            for row, e in enumerate(table.examples)
            if not halved or int(generator("tuning half", e.id).integers(2)) == 1
        ]
        assert not judged & {table.examples[row].id for row, table in learned}
        X = torch.stack([side_by_side(table.inputs)[row] for row, table in learned])
        Y = one_hot(torch.tensor([place[table.examples[row].label] for row, table in learned]))
        expected = ridge_scores(X, Y, torch.eye(X.shape[1]).double(), 30.0)
        assert torch.allclose(language.weights.double(), expected, atol=1e-4)
    assert [u.table.task.language for u in unseen] == sorted(t.task.language for t in sources.tables)


def test_default_baselines_are_closed_forms_that_differ(space, tiny_encoder):
    quick = ("majority", "zero-shot", "target-only", "target-only-dense", "target-only-lexical", "joint")
    both = fit_sources(space, tiny_encoder()).model
    assert fitting_baselines(both) == tuple(BASELINES)
    assert default_baselines(both) == quick
    dense = fit_sources(space, tiny_encoder({"dense": 16}))
    assert default_baselines(dense.model) == ("majority", "zero-shot", "target-only", "joint")
    assert set(BASELINES) - set(fitting_baselines(dense.model)) == {
        "target-only-dense",
        "target-only-lexical",
    }
    with pytest.raises(
        SettingsError, match=r"target-only-lexical needs lexical features, and 'tiny' has none"
    ):
        BASELINES["target-only-lexical"](dense)
    lexical = fit_sources(space, tiny_encoder({"lexical": 32}))
    for name in ("target-only-dense", "prototypes", "logistic-mteb"):
        assert name not in fitting_baselines(lexical.model)
        with pytest.raises(SettingsError, match=f"{name} needs dense features"):
            BASELINES[name](lexical)
    for sources in (dense, lexical):
        names = fitting_baselines(sources.model)
        records = run_grid(sources, space, {}, baselines=names, shots=(0, 2), draws=1)
        assert len(records) == len(names) + 3  # three of them predict without examples


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


def test_a_task_is_judged_by_itself_as_in_the_grid(noisy_sources, make_corpus, trained):
    space = TaskSpace.of(make_corpus(), ["swh"])
    made = {name: BASELINES[name](noisy_sources) for name in ("majority", "joint")}
    options = {"shots": (2, 0), "draws": 2, "seed": 3}
    (task,) = space.held_out
    found = judge_task(noisy_sources.model, task, trained, made, **options)
    assert list(found) == run_grid(noisy_sources, space, trained, baselines=list(made), **options)


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
