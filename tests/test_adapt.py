"""Adapting and predicting: what an adaptation is, what it is worth, what is said about it."""

from dataclasses import replace

import pytest
import torch

from metaglot.adapting import adapt, language_code
from metaglot.artifact import Artifact
from metaglot.calibration import Calibration
from metaglot.config import Recipe
from metaglot.cross_validation import Estimate, cross_validate
from metaglot.errors import DataError, LanguageError, SettingsError
from metaglot.learners import LEARNERS
from metaglot.model import target_table
from metaglot.predicting import predict
from metaglot.space import Task
from metaglot.types import Example

LABELS = ("greet", "music", "timer", "weather")


@pytest.fixture(scope="module", params=[n for n in LEARNERS if n != "boil"])
def model(request, sources):
    """An artifact of every learner that works on heads, untrained: adapting asks for no more."""
    learner = LEARNERS[request.param]()
    meta = learner.init(sources.model.task_model, torch.Generator().manual_seed(0))
    facts = {"sources": ["amh", "eng", "hau", "yor"], "held_out": ["swh"], "metrics": {}}
    return Artifact(sources.model, learner, meta, Recipe(corpus="tiny", learner=request.param), facts)


@pytest.fixture(scope="module")
def auto(sources):
    """An artifact of the default learner."""
    learner = LEARNERS["auto"]()
    meta = learner.init(sources.model.task_model, torch.Generator())
    return Artifact(
        sources.model, learner, meta, Recipe(corpus="tiny"), {"sources": ["eng"], "held_out": ["swh"]}
    )


@pytest.fixture(scope="module")
def noisy(noisy_sources):
    """The same on sources so noisy that predictions are often wrong."""
    learner = LEARNERS["auto"]()
    meta = learner.init(noisy_sources.model.task_model, torch.Generator())
    facts = {"sources": ["eng"], "held_out": ["swh"]}
    return Artifact(noisy_sources.model, learner, meta, Recipe(corpus="tiny"), facts)


def support(labels=LABELS, shots=4, language="swh"):
    return [
        Example(f"{label}-{i}", f"{language} {label} {i}", label, language)
        for label in labels
        for i in range(shots)
    ]


def best(predictions):
    return [p.labels[0][0] for p in predictions]


def test_every_learner_adapts_to_a_new_language(model):
    made = adapt(model, "Swahili", support())
    assert (made.adaptation.language, made.adaptation.labels, made.adaptation.examples) == ("swh", LABELS, 16)
    assert made.notices == ()
    texts = [f"swh {label} {i}" for label in LABELS for i in range(20, 25)]
    found = predict(model, texts, "swh", adaptation=made.adaptation)
    assert all(p.adapted for p in found)
    truth = [text.split()[1] for text in texts]
    assert sum(a == b for a, b in zip(best(found), truth, strict=True)) >= 18
    assert model.adaptations == {}


def test_an_adaptation_holds_what_float16_holds(auto):
    head = adapt(auto, "swh", support()).adaptation.head
    for value in head.values():
        assert value.dtype == torch.float32
        assert torch.equal(value, value.half().float())
        assert torch.isfinite(value).all()


def test_the_same_examples_make_the_same_adaptation(auto):
    one, two = (adapt(auto, "swh", support()).adaptation for _ in range(2))
    assert one.estimate == two.estimate
    assert all(torch.equal(one.head[name], two.head[name]) for name in one.head)


def test_without_an_adaptation_predictions_are_zero_shot(auto):
    (found,) = predict(auto, ["swh music 3"], "swh", top=9)
    assert not found.adapted
    assert {label for label, _ in found.labels} == set(LABELS)
    chances = [chance for _, chance in found.labels]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1, abs=1e-5)
    row = found.as_dict()
    assert (row["adapted"], row["language"], row["labels"][0]["label"]) == (False, "swh", found.labels[0][0])


def test_no_texts_give_no_predictions_and_top_is_checked(auto):
    assert predict(auto, [], "swh") == []
    with pytest.raises(SettingsError, match="1 or more, found 0"):
        predict(auto, [], "swh", top=0)


def test_labels_without_examples_are_left_out_and_said_or_kept(auto):
    made = adapt(auto, "swh", support(LABELS[:2]))
    assert made.adaptation.labels == LABELS[:2]
    assert "2 of the model's 4 labels have no example" in made.notices[0]
    assert "(timer, weather)" in made.notices[0]
    kept = adapt(auto, "swh", support(LABELS[:2]), all_labels=True)
    assert kept.adaptation.labels == LABELS
    assert kept.notices == ()
    (found,) = predict(auto, ["swh music 9"], "swh", top=9, adaptation=kept.adaptation)
    assert len(found.labels) == 4


def test_a_label_that_no_source_has_is_learned_and_said(auto):
    examples = [
        *support(shots=12),
        *(Example(f"n{i}", f"swh kettle {i}", "kettle", "swh") for i in range(12)),
    ]
    made = adapt(auto, "swh", examples)
    assert made.adaptation.labels == tuple(sorted([*LABELS, "kettle"]))
    assert [n for n in made.notices if "'kettle' is new" in n]
    found = predict(auto, [f"swh kettle {i}" for i in range(20, 30)], "swh", adaptation=made.adaptation)
    assert best(found).count("kettle") >= 8


def test_labels_that_look_misspelt_are_refused_unless_meant(auto):
    examples = [*support(), Example("x", "swh muzik 1", "muzic", "swh")]
    with pytest.raises(DataError, match=r"found 'muzic', which looks misspelt\. Did you mean 'music'"):
        adapt(auto, "swh", examples)
    assert "muzic" in adapt(auto, "swh", examples, new_labels=True).adaptation.labels


@pytest.mark.parametrize(
    ("examples", "problem"),
    [
        ([], "expected labelled examples, found none"),
        (support(LABELS[:1]), "at least two labels, found only 'greet'"),
        ([*support(), Example("x", "swh music 0", "timer", "swh")], "one label for a text, found both"),
    ],
)
def test_examples_that_cannot_be_meant_are_refused(auto, examples, problem):
    with pytest.raises(DataError, match=problem):
        adapt(auto, "swh", examples)


def test_an_example_that_occurs_twice_counts_twice_and_is_said(auto):
    made = adapt(auto, "swh", [*support(), support()[0]])
    assert made.notices == ("1 example(s) occur more than once; they count as often.",)
    assert made.adaptation.examples == 17


# --- the estimate


def test_the_estimate_is_the_share_that_is_right(auto):
    made = adapt(auto, "swh", support(shots=6)).adaptation
    found = Estimate(**made.estimate)
    assert (found.judged, found.folds) == (24, 5)
    texts = [e.text for e in support(shots=6)]
    truth = [e.label for e in support(shots=6)]
    zero_shot = sum(a == b for a, b in zip(best(predict(auto, texts, "swh")), truth, strict=True)) / 24
    assert found.zero_shot == pytest.approx(zero_shot)
    assert 0 <= found.adapted <= 1
    assert found.low <= found.gain <= found.high
    assert f"gain {100 * found.gain:+.1f} points" in str(found)


def test_labels_of_one_example_are_not_judged(auto):
    examples = [*support(LABELS[:2], shots=2), *support(LABELS[2:], shots=1)]
    made = adapt(auto, "swh", examples).adaptation
    assert (made.estimate["judged"], made.estimate["folds"]) == (4, 2)


def test_too_few_examples_give_no_estimate_and_say_so(auto):
    made = adapt(auto, "swh", [*support(LABELS[:1], shots=5), *support(LABELS[1:], shots=1)])
    assert made.adaptation.estimate is None
    assert "could not be estimated" in made.notices[0]
    assert adapt(auto, "swh", support(shots=1), estimate=False).notices == ()


def test_each_example_is_judged_by_a_head_that_never_saw_it(auto):
    seen = []

    class Remembering:
        def adapt(self, model, meta, batch):
            seen.append(batch)
            return auto.learner.adapt(model, meta, batch)

        predict = staticmethod(auto.learner.predict)

    spy = Artifact(auto.model, Remembering(), auto.meta, auto.recipe, auto.facts)
    task = Task("swh", LABELS, tuple(support()))
    table = target_table(auto.model, task, task.pool)
    batch = table.batch(auto.model, range(16), LABELS)
    assert cross_validate(spy, table, LABELS, folds=4).estimate.judged == 16
    key = [{tuple(row.tolist()) for row in b.inputs["lexical"]} for b in seen]
    whole = {tuple(row.tolist()) for row in batch.inputs["lexical"]}
    left_out = [whole - rows for rows in key]
    assert len(seen) == 4
    assert sum(map(len, left_out)) == len(whole) == len(set().union(*left_out))


def test_examples_of_one_group_and_equal_texts_are_judged_together(auto):
    rows = [Example(f"{label}-{i}", f"swh {label} {i}", label, "swh") for label in LABELS for i in range(4)]
    alike = [replace(e, group=f"template {i // 2 % 2}") for i, e in enumerate(rows)]
    assert adapt(auto, "swh", alike).adaptation.estimate["folds"] == 2
    assert adapt(auto, "swh", rows).adaptation.estimate["folds"] == 4
    twice = [replace(e, text=e.text[:-1] + "0") for e in rows]
    assert adapt(auto, "swh", twice).adaptation.estimate is None


# --- how sure


def test_probabilities_are_tempered_and_labels_stay(noisy):
    made = adapt(noisy, "swh", support(shots=6)).adaptation
    assert made.calibration.temperature != 1
    plain = replace(made, calibration=Calibration())
    texts = [f"swh {label} {i}" for label in LABELS for i in range(20, 25)]
    warm, cold = (predict(noisy, texts, "swh", adaptation=a) for a in (made, plain))
    assert best(warm) == best(cold)
    above = [a.labels[0][1] < b.labels[0][1] for a, b in zip(warm, cold, strict=True)]
    assert set(above) == {made.calibration.temperature > 1}


def test_without_cross_validation_nothing_is_calibrated(auto):
    for made in (adapt(auto, "swh", support(), estimate=False), adapt(auto, "swh", support(shots=1))):
        assert made.adaptation.calibration == Calibration()
        (found,) = predict(auto, ["swh music 9"], "swh", adaptation=made.adaptation)
        assert (found.sure, found.scope, found.in_scope) == (None, None, None)
        assert found.as_dict().keys() == {"text", "language", "adapted", "labels"}


def test_what_is_not_probable_enough_is_unsure(noisy):
    made = adapt(noisy, "swh", support(shots=6)).adaptation
    texts = [f"swh {label} {i}" for label in LABELS for i in range(20, 40)]
    for options, least in (
        ({"unsure_below": 0.5}, 0.5),
        ({"precision": 0.7}, made.calibration.threshold(0.7).value),
    ):
        found = predict(noisy, texts, "swh", adaptation=made, **options)
        assert [p.sure for p in found] == [p.labels[0][1] >= least for p in found]
        assert len({p.sure for p in found}) == 2
    assert found[0].as_dict()["sure"] == found[0].sure


def test_sets_of_labels_hold_the_true_one(noisy):
    made = adapt(noisy, "swh", support(shots=8)).adaptation
    texts = [f"swh {label} {i}" for label in LABELS for i in range(20, 60)]
    found = predict(noisy, texts, "swh", adaptation=made, coverage=0.9)
    held = [text.split()[1] in dict(p.labels) for text, p in zip(texts, found, strict=True)]
    assert sum(held) / len(held) > 0.8
    assert len({len(p.labels) for p in found}) > 1


def test_texts_of_no_known_label_are_unlike_the_examples(auto):
    made = adapt(auto, "swh", support(shots=10)).adaptation
    known = predict(
        auto, [f"swh {label} {i}" for label in LABELS for i in range(20, 30)], "swh", adaptation=made
    )
    other = predict(auto, [f"swh pizza {i}" for i in range(40)], "swh", adaptation=made)
    assert sum(p.in_scope for p in known) > 30
    assert sum(p.in_scope for p in other) < 20
    assert all(p.in_scope == (p.scope > 0.05 + 1e-9) for p in known + other)
    strict = predict(auto, [p.text for p in known], "swh", adaptation=made, recall=0.5)
    assert sum(p.in_scope for p in strict) < sum(p.in_scope for p in known)
    assert other[0].as_dict()["in_scope"] is other[0].in_scope


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"precision": 95}, "--precision between 0 and 1, such as 0.9, found 95"),
        ({"unsure_below": 0.0}, "--unsure-below between 0 and 1"),
        ({"coverage": 1.0}, "--coverage between 0 and 1"),
        ({"recall": -0.5}, "--recall between 0 and 1"),
        ({"precision": 0.9, "unsure_below": 0.5}, "either --precision or --unsure-below, found both"),
        ({"coverage": 0.9, "top": 2}, "either --coverage or --top, found both"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(auto, options, problem):
    with pytest.raises(SettingsError, match=problem):
        predict(auto, ["swh music 1"], "swh", **options)


# --- names of languages


@pytest.mark.parametrize(
    ("name", "code"),
    [("swh", "swh"), ("Swahili", "swh"), ("sw", "swh"), ("pt-BR", "por"), ("Èdè Yorùbá", "yor")],
)
def test_names_become_codes(auto, name, code):
    assert language_code(auto, name) == (code, [])


@pytest.mark.parametrize(
    ("name", "code"),
    [("Klingonish!", "klingonish"), ("../x", "x"), ("a b\\c", "a-b-c"), ("ŁÓDŹKI 2", "łódźki-2")],
)
def test_a_name_that_no_standard_knows_is_cleaned_and_said(auto, name, code):
    found, notices = language_code(auto, name)
    assert found == code
    assert f"kept as {code!r}" in notices[0]


@pytest.mark.parametrize("name", ["", " ", "..", "--", "\0", "\ud800"])
def test_a_name_without_letters_is_refused(auto, name):
    with pytest.raises(LanguageError):
        language_code(auto, name)


def test_a_language_of_the_model_needs_no_standard(auto):
    made = adapt(auto, "Klingonish!", support())
    auto.adaptations["klingonish"] = made.adaptation
    try:
        assert language_code(auto, "KLINGONISH") == ("klingonish", [])
        assert predict(auto, ["swh music 1"], "Klingonish!")[0].adapted
    finally:
        auto.adaptations.clear()
