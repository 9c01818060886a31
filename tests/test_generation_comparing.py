"""Models that write: learners beside baselines; which languages joint training and episodes have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaglot.errors import SettingsError
from metaglot.families import branch
from metaglot.generation import adapting
from metaglot.generation.comparing import COPY, JOINT, SCRATCH, check_comparison, compare
from metaglot.generation.corpora import teach
from metaglot.generation.drawing import shared_out
from metaglot.generation.recipe import EpisodeSettings, GenerationRecipe, JointSettings
from metaglot.generation.scores import score
from metaglot.generation.training import sides

CODES = ("acu", "agr", "cak", "deu", "eng", "fra", "jac", "spa", "swh", "zul")
WORDS = ("one", "two", "three", "four", "five", "six", "red", "green", "blue")


@given(st.sets(st.sampled_from(CODES), min_size=1), st.floats(0, 0.99))
def test_languages_are_shared_out(codes, fresh):
    joint, own = shared_out(codes, fresh)
    assert set(joint) | set(own) == codes
    if set(joint) == set(own) == codes:
        return
    assert not set(joint) & set(own)
    assert min(len(joint), len(own)) >= 2
    assert abs(len(own) - fresh * len(codes)) < 1


def test_kin_are_on_both_sides():
    joint, own = shared_out(CODES, 0.5)
    assert {branch(code) for code in ("acu", "cak")} <= {branch(code) for code in joint}
    assert {branch(code) for code in ("acu", "cak")} <= {branch(code) for code in own}
    with pytest.raises(SettingsError, match="fresh"):
        shared_out(CODES, 1.0)


def test_without_joint_training_there_is_nothing_to_keep_apart():
    recipe = GenerationRecipe(corpus="x", kind="translation", train=EpisodeSettings(fresh=0.5))
    assert [len(side) for side in sides(recipe, CODES)] == [5, 5]
    for change in ({"joint": JointSettings(steps=0)}, {"learner": "multitask"}):
        assert [len(side) for side in sides(recipe.model_copy(update=change), CODES)] == [10, 10]


@pytest.fixture(autouse=True)
def few_updates(monkeypatch):
    """So that choosing them takes no time."""
    monkeypatch.setattr(adapting, "STEPS", (2, 6))
    monkeypatch.setattr(adapting, "MULTIPLES", (1.0, 3.0))


@pytest.fixture(scope="module")
def bitext(tmp_path_factory):
    """Four languages that are English with other endings, as tables."""
    folder = tmp_path_factory.mktemp("pairs")
    for code, end in {"deu": "en", "fra": "e", "spa": "o", "swh": "a"}.items():
        for split, numbers in {"train": range(60), "test": range(60, 80)}.items():
            place = folder / split
            place.mkdir(exist_ok=True)
            rows = []
            for number in numbers:
                words = [WORDS[(number * step + step) % len(WORDS)] for step in (1, 2, 5)]
                rows.append(
                    f"{' '.join(word + end for word in words)} {number}\t{' '.join(words)} {number}\n"
                )
            (place / f"{code}-eng.tsv").write_text("".join(rows), "utf-8")
    return folder


def tiny(corpus, kind="translation", **changes):
    values = {"width": 8, "layers": 1, "heads": 2, "vocabulary": 420, "held_out": ("swh",)} | changes
    return GenerationRecipe(
        corpus=str(corpus),
        kind=kind,
        joint=JointSettings(steps=6, batch=8),
        train=EpisodeSettings(steps=2, query=4, support=8),
        learner_options={"steps": 2, "batch": 4},
        **values,
    )


def test_translation_is_compared(bitext):
    recipe = tiny(bitext)
    taught = teach(recipe)
    records = compare(recipe, taught, ["fomaml"], shots=(0, 12), draws=2)
    assert {r.method for r in records} == {"fomaml", SCRATCH, JOINT, COPY}
    assert {(r.shots, r.draw) for r in records} == {(0, 0), (12, 0), (12, 1)}
    assert all(r.language == "swh" and set(r.metrics) == {"chrf++", "bleu"} for r in records)
    assert {r.learned for r in records if r.method == "fomaml"} == {True}
    copied = [r.metrics["chrf++"] for r in records if r.method == COPY]
    tests = taught.data.select("swh", "test")
    (wanted,) = score([p.source for p in tests], [p.target for p in tests], ["chrf++"], language="eng")
    assert copied == pytest.approx([wanted.value / 100] * 3)
    again = compare(recipe, taught, ["fomaml"], baselines=(), shots=(0, 12), draws=2)
    assert [r.metrics for r in again] == [r.metrics for r in records if r.method == "fomaml"]
    with pytest.raises(SettingsError, match="at least 100 pairs"):
        compare(recipe, taught, ["fomaml"], baselines=(), shots=(100,))


def test_language_models_are_compared(tmp_path):
    for code in ("deu", "fra", "spa", "swh"):
        lines = [f"{code} {WORDS[n % 9]} {WORDS[n * 7 % 9]} {n}\n" for n in range(300)]
        (tmp_path / f"{code}.txt").write_text("".join(lines), "utf-8")
    recipe = tiny(tmp_path, "language-modelling", vocabulary=0, limit=32)
    records = compare(recipe, teach(recipe), ["reptile"], baselines=(SCRATCH,), shots=(0, 1))
    assert len(records) == 4
    for record in records:
        assert record.metrics["saved"] == pytest.approx(1 - record.metrics["bits_per_byte"] / 8)
    found = {(r.method, r.shots): r.metrics["bits_per_byte"] for r in records}
    assert found["reptile", 1] < found["reptile", 0] < found[SCRATCH, 0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["ridge"], [], [1]), "gradient steps"),
        ((["fomaml"], ["joints"], [1]), "joint-fine-tuned"),
        ((["fomaml"], [], [-1]), "at least 0"),
        ((["fomaml"], [], []), "at least 0"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments, said):
    with pytest.raises(SettingsError, match=said):
        check_comparison(*arguments)
