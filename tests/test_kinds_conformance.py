"""Every kind with every learner and every baseline: each pair works, or is refused early by both names."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from benchmarks.kinds_table import filled, pairs
from benchmarks.markers import ROOT

from kind_corpora import corpus, encoder
from metaglot import artifact as artifacts
from metaglot.adapting import adapt
from metaglot.augmentation import check_kind
from metaglot.config import Recipe, TrainSettings
from metaglot.drawing import SHOTS, source_episode
from metaglot.errors import DataError, SettingsError
from metaglot.evaluation.baselines import fitting_baselines
from metaglot.evaluation.grid import adapted_head, run_grid
from metaglot.kinds import KINDS
from metaglot.kinds.trees import well_formed
from metaglot.learners import LEARNERS
from metaglot.model import batch_of
from metaglot.outer_loop import meta_train
from metaglot.predicting import predict
from metaglot.space import TaskSpace, draw_episode, draw_support
from metaglot.training import Fitted, assemble, fit, make_learner
from metaglot.tuning import tune
from metaglot.types import Answer, Example

every_kind = pytest.mark.parametrize("kind", list(KINDS))
SETTINGS = TrainSettings(steps=2, pool=4, episodes=2, queries=2)


@pytest.fixture(scope="session")
def fitted():
    """Kind → its corpus, fitted once."""
    made: dict[str, Fitted] = {}

    def make(kind):
        if kind not in made:
            recipe = Recipe(corpus="toy", encoder="tiny", held_out=("swh",), train=SETTINGS)
            made[kind] = fit(corpus(kind), recipe, encoder=encoder())
        return made[kind]

    return make


def trained(found, name):
    recipe = Recipe(corpus="toy", encoder="tiny", held_out=("swh",), learner=name, train=SETTINGS)
    learner = make_learner(recipe)
    return assemble(found, recipe, learner, meta_train(found.sources, learner, SETTINGS, name=name))


@every_kind
@pytest.mark.parametrize("name", list(LEARNERS))
def test_every_pair_works_or_is_refused_by_both_names(fitted, kind, name):
    found = fitted(kind)
    if not pairs()[name]:
        with pytest.raises(SettingsError) as refused:
            trained(found, name)
        assert repr(name) in str(refused.value) and repr(kind) in str(refused.value)
        return
    made = trained(found, name)
    (task,) = found.space.held_out
    adapted = adapt(made, "swh", task.pool[:12], estimate=False, new_labels=True)
    assert all(bool(value.isfinite().all()) for value in adapted.adaptation.head.values())
    predictions = predict(made, task.test, "swh", adaptation=adapted.adaptation)
    assert len(predictions) == len(task.test)
    for prediction in predictions:
        assert all(0 <= p <= 1 and math.isfinite(p) for _, p in (*prediction.labels, *prediction.spans))
        spans = [span for span, _ in prediction.spans]
        if kind == "parsing":
            assert not well_formed(spans)
        else:
            assert all(a.end <= b.start for a, b in pairwise(spans))
        assert prediction.labels or kind in ("tagging", "parsing")


@every_kind
def test_every_baseline_judges_every_kind(fitted, kind):
    found = fitted(kind)
    names = fitting_baselines(found.sources.model)
    records = run_grid(found.sources, found.space, {}, baselines=names, shots=(0, 1, 3), draws=2)
    assert {r.method for r in records} == set(names)
    metrics = found.sources.model.kind.metrics
    for record in records:
        assert tuple(record.metrics)[: len(metrics)] == metrics
        assert all(0 <= record.metrics[name] <= 1 for name in metrics)


@every_kind
def test_right_answers_are_judged_perfect_and_answers_depend_on_scores_alone(fitted, kind):
    found = fitted(kind)
    model, (task,) = found.sources.model, found.space.held_out
    table = next(t for t in found.sources.tables if t.task.language == "eng")
    right = [Answer(e.label, e.spans if model.kind.shots == "example" else ()) for e in table.examples]
    assert set(model.kind.judge(table.examples, right).values()) == {1.0}
    batch = table.batch(model, range(len(table.examples)), table.task.labels)
    sure = 20.0 * torch.nn.functional.one_hot(batch.targets, len(table.task.labels))
    answers = model.answers(table, range(len(table.examples)), sure.float(), table.task.labels)
    assert model.kind.judge(table.examples, answers)[model.kind.metrics[0]] == 1.0
    blank = tuple(replace(e, label="") for e in table.examples)
    assert (
        model.answers(
            replace(table, examples=blank), range(4), sure[: int(table.ends[3])].float(), table.task.labels
        )
        == answers[:4]
    )
    assert task.shots == model.kind.shots


@every_kind
def test_an_artifact_keeps_its_kind_and_its_predictions(fitted, kind, tmp_path, monkeypatch):
    found = fitted(kind)
    made = trained(found, "auto")
    (task,) = found.space.held_out
    adapted = adapt(made, "swh", task.pool[:10], new_labels=True)
    artifacts.save(made, tmp_path / "model")
    artifacts.save_adaptation(adapted.adaptation, tmp_path / "model")
    monkeypatch.setattr(artifacts, "load_encoder", lambda name, cache: encoder())
    loaded = artifacts.load(tmp_path / "model")
    assert loaded.model.kind_name == kind
    before = predict(made, task.test, "swh", adaptation=adapted.adaptation)
    assert [p.as_dict() for p in predict(loaded, task.test, "swh")] == [p.as_dict() for p in before]
    assert predict(loaded, task.test, "deu")  # zero-shot, with the prior as it was saved
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert card.count(kind.capitalize())


@every_kind
def test_draws_keep_support_and_query_apart_and_are_nested(kind):
    space = TaskSpace.of(corpus(kind), ["swh"])
    (task,) = space.held_out
    few, more = (draw_support(task.pool, task.labels, k, 7, by=task.shots).tolist() for k in (2, 5))
    assert set(few) <= set(more) and len(set(more)) == len(more)
    if task.shots == "example":
        assert (len(few), len(more)) == (2, 5)
    for number in range(5):
        drawn = draw_episode(task.pool, task.labels, 4, 6, "draw", number, by=task.shots)
        assert not set(drawn.support.tolist()) & set(drawn.query.tolist())
        assert len(drawn.support) and len(drawn.query)


def test_groups_of_sentences_stand_on_one_side():
    pool = [replace(e, group=str(int(e.id) % 4)) for e in corpus("tagging").select("eng", "train")]
    for number in range(8):
        drawn = draw_episode(pool, ("O", "B-name"), 9, 9, number, by="example")
        sides = [{pool[row].group for row in rows.tolist()} for rows in (drawn.support, drawn.query)]
        assert not sides[0] & sides[1]
    with pytest.raises(DataError, match="two or more groups"):
        draw_episode([replace(e, group="one") for e in pool], ("O", "B-name"), 9, 9, 0, by="example")


def test_the_first_sentence_of_a_draw_has_a_span_where_any_has_one():
    plain = [replace(e, spans=()) for e in corpus("tagging").select("eng", "train")]
    pool = [*plain[:20], *corpus("tagging").select("deu", "train")[:1]]
    assert all(draw_support(pool, (), 1, n, by="example").tolist() == [20] for n in range(6))


def test_training_episodes_have_two_labels_or_more(fitted):
    sources = fitted("tagging").sources
    settings = TrainSettings(shots=(1,), queries=2)
    for place in range(40):
        assert len(source_episode(sources, settings, place).support.targets.unique()) > 1
    assert set(SHOTS) == {"label", "example"}


def test_a_support_set_of_one_label_predicts_zero_shot_and_is_refused_by_adapt(fitted):
    found = fitted("tagging")
    made, model = trained(found, "auto"), found.sources.model
    (task,) = found.space.held_out
    bare = [replace(e, spans=()) for e in task.pool[:2]]
    head = adapted_head(model, made.learner, made.meta, batch_of(model, "swh", bare, task.labels))
    without = model.zero_shot_head(model.classes(task.labels))
    assert all(torch.equal(head[name], value) for name, value in without.items())
    with pytest.raises(DataError, match="at least two labels, found only 'O'"):
        adapt(made, "swh", bare)


def test_labels_that_no_source_has_can_be_adapted_to(fitted):
    made = trained(fitted("tagging"), "auto")
    (task,) = fitted("tagging").space.held_out
    renamed = [replace(e, spans=tuple(replace(s, label="person") for s in e.spans)) for e in task.pool]
    adapted = adapt(made, "swh", renamed, estimate=False).adaptation
    assert {"B-name", "B-person", "O"} <= set(adapted.labels)
    found = predict(made, [e.text for e in task.test], "swh", adaptation=adapted)
    assert {span.label for p in found for span, _ in p.spans} == {"person"}


@every_kind
def test_what_is_for_labelled_texts_alone_is_refused_by_the_kind_s_name(fitted, kind, tmp_path):
    if kind == "classification":
        check_kind(kind)
        return
    made = trained(fitted(kind), "auto")
    (task,) = fitted(kind).space.held_out
    with pytest.raises(SettingsError, match=repr(kind)):
        adapt(made, "swh", task.pool[:12], augment=("noise",), new_labels=True)
    if kind != "pairs":
        with pytest.raises(SettingsError, match=repr(kind)):
            tune(corpus(kind), out=tmp_path / "tuned")
    if task.shots == "example":
        for option in ({"top": 2}, {"precision": 0.9}, {"coverage": 0.9}):
            with pytest.raises(SettingsError, match=repr(kind)):
                predict(made, ["text"], "swh", **option)


def test_two_answers_for_one_text_are_refused(fitted):
    made = trained(fitted("tagging"), "auto")
    (task,) = fitted("tagging").space.held_out
    twice = [task.pool[0], replace(task.pool[0], spans=()), *task.pool[1:5]]
    with pytest.raises(DataError, match="same spans wherever a text occurs"):
        adapt(made, "swh", twice)


def test_texts_alone_are_enough_for_spans_and_trees(fitted):
    for kind in ("tagging", "frames", "parsing"):
        made = trained(fitted(kind), "auto")
        (found,) = predict(made, ["swhplay juma swhnow"], "swh", unsure_below=0.999999)
        assert found.as_dict()["text"] and found.sure in (True, False)
        assert predict(made, [Example("1", "", "", "swh")], "swh")  # nothing to say of nothing


def test_the_table_of_the_documentation_is_made_of_what_works():
    page = ROOT / "docs" / "kinds.md"
    assert filled(page) == page.read_text(encoding="utf-8")
