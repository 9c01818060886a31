"""Searching for settings: which combinations, which folds, what is kept, and what is never looked at."""

import json
import re
import tomllib
from dataclasses import replace
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest

import metaglot
from metaglot import searching
from metaglot.augmentation import AUGMENTATIONS, find_augmentation
from metaglot.cli.search import _values
from metaglot.config import Recipe, TrainSettings, read_recipe
from metaglot.data import load_corpus
from metaglot.distributed import Processes
from metaglot.errors import DataError, SettingsError, TrainingError, UnknownNameError
from metaglot.searching import Judged, SearchResult, combinations, search
from metaglot.searching.choices import FIXED, Combination
from metaglot.searching.folds import language_folds
from metaglot.space import TaskSpace
from metaglot.types import Corpus
from village import QUICK, refused, write_corpus
from village import metaglot as command

RECIPE = Recipe(
    corpus="village",
    encoder="ngrams:256",
    held_out=("swh",),
    learner="ridge",
    train=TrainSettings(steps=2, shots=(1, 2)),
)


@pytest.fixture
def village(tmp_path, own_cache):
    return load_corpus(write_corpus(tmp_path / "village.csv"), parallel=False)


def tried(recipe, choices, **options):
    return [dict(one.values) for one in combinations(recipe, choices, **options)]


# --- Combinations.


def test_every_combination_and_the_recipe_first():
    choices = {"train.steps": [2, 4], "train.mixup": [0.0, 0.5]}
    found = combinations(RECIPE, choices)
    assert [dict(one.values) for one in found] == [
        {},
        {"train.steps": 2, "train.mixup": 0.5},
        {"train.steps": 4, "train.mixup": 0.0},
        {"train.steps": 4, "train.mixup": 0.5},
    ]
    assert found[0].recipe == RECIPE
    assert (found[3].recipe.train.steps, found[3].recipe.train.mixup) == (4, 0.5)
    assert [str(one) for one in found[:2]] == ["the recipe as it stands", "train.steps=2, train.mixup=0.5"]
    assert str(Combination({"augment": ["noise", "case"], "groups": []}, RECIPE)) == (
        "augment=noise+case, groups=none"
    )


def test_an_option_is_tried_with_the_learners_that_have_it():
    choices = {"learner": ["auto", "ridge"], "learner_options.steps": [2, 8]}
    assert tried(RECIPE, choices) == [
        {},
        {"learner": "auto", "learner_options.steps": 2},
        {"learner": "auto", "learner_options.steps": 8},
    ]
    # The options of the recipe's own learner are not another's.
    recipe = RECIPE.model_copy(update={"learner": "auto", "learner_options": {"steps": 3}})
    _, other = combinations(recipe, {"learner": ["auto", "ridge"]})
    assert (other.recipe.learner, other.recipe.learner_options) == ("ridge", {})


def test_some_of_them_by_chance():
    choices = {"train.steps": list(range(2, 12)), "train.rate": [0.5, 1.0, 2.0]}
    some = tried(RECIPE, choices, random=5)
    assert len(some) == 6
    assert some[0] == {}
    assert some == tried(RECIPE, choices, random=5)
    other = RECIPE.model_copy(update={"train": TrainSettings(steps=2, seed=1)})
    assert some != tried(other, choices, random=5)
    assert len(tried(RECIPE, choices, random=1000)) == 30


def test_very_many_are_refused_unless_by_chance():
    many = {f"train.{name}": list(range(1, 101)) for name in ("steps", "episodes", "pool", "queries", "seed")}
    with pytest.raises(SettingsError, match="10,000 combinations or fewer, found 10,000,000,000") as told:
        combinations(RECIPE, many)
    assert "--random N" in told.value.hint
    some = tried(RECIPE, many, random=3)
    assert len(some) == 4
    assert some == tried(RECIPE, many, random=3)


@pytest.mark.parametrize(
    "name",
    [
        *sorted(set(Recipe.model_fields) - {"train"}),
        *(f"train.{name}" for name in TrainSettings.model_fields),
    ],
)
def test_every_setting_of_a_recipe_can_be_tried_but_what_the_folds_are_made_from(name):
    value = RECIPE.model_dump()
    for part in name.split("."):
        value = value[part]
    with pytest.raises(SettingsError, match="which data" if name in FIXED else "not in the recipe already"):
        combinations(RECIPE, {name: [value]})


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        ({}, "expected settings to try"),
        ({"held_out": [["tha"]]}, "nothing to do with which data"),
        ({"columns.text": ["a"]}, "nothing to do with which data"),
        ({"train.steps": []}, "values to try for 'train.steps'"),
        ({"train.steps": [2]}, "not in the recipe already"),
        ({"train.stepz": [2]}, "train.stepz: no such setting. Did you mean 'steps'"),
        ({"train.steps": [0]}, "train.steps: "),
        ({"learner_options.stepz": [1]}, "expected an option of the learner 'ridge'"),
    ],
)
def test_what_cannot_be_tried_is_said(choices, problem):
    with pytest.raises(SettingsError, match=problem):
        combinations(RECIPE, choices)


def test_a_learner_that_is_not_there_is_named():
    with pytest.raises(UnknownNameError, match="Did you mean 'ridge'"):
        combinations(RECIPE, {"learner": ["rigde"]})
    with pytest.raises(SettingsError, match="random ≥ 1"):
        combinations(RECIPE, {"learner": ["auto"]}, random=0)


# --- Folds.


def test_folds_have_every_source_once_and_nothing_of_the_held_out(make_corpus):
    corpus = make_corpus()
    space = TaskSpace.of(corpus, ["swh"])
    found = language_folds(space, 3)
    assert sorted(code for part in found.parts for code in part) == ["amh", "eng", "hau", "yor"]
    assert [len(part) for part in found.parts] == [2, 1, 1]
    assert "swh" not in found.corpus.languages
    learned = {e.text for task in space.sources for e in task.pool}
    assert {e.text for e in found.corpus.examples} == learned
    for code in found.corpus.languages:
        shares = [len(found.corpus.select(code, split)) for split in ("train", "dev")]
        assert shares == [28, 12]
    for task in TaskSpace.of(found.corpus, found.parts[0]).sources:  # a source teaches with all it has
        assert len(task.pool) == 40
    assert found == language_folds(space, 3)
    assert found.parts != language_folds(space, 3, seed=1).parts
    assert len(language_folds(space, 9).parts) == 4


def test_a_group_is_on_one_side_whatever_labels_it_has(make_corpus):
    corpus = make_corpus(train=12, dev=0)
    grouped = [
        type(e)(e.id, e.text, e.label, e.language, e.split, group=e.text.split()[2][0])
        for e in corpus.examples
    ]
    made = language_folds(TaskSpace.of(Corpus("grouped", tuple(grouped)), ["swh"]), 2)
    for code in made.corpus.languages:
        sides = [{e.group for e in made.corpus.select(code, split)} for split in ("train", "dev")]
        assert sides[0]
        assert sides[1]
        assert not sides[0] & sides[1]


def test_what_is_of_one_group_alone_stays_to_be_learned_from(make_corpus):
    corpus = make_corpus(train=12, dev=0)
    groups = {"greet": "one template"}
    grouped = [replace(e, group=groups.get(e.label, "")) for e in corpus.examples]
    found = language_folds(TaskSpace.of(Corpus("grouped", tuple(grouped)), ["swh"]), 2)
    assert {e.split for e in found.corpus.examples if e.label == "greet"} == {"train"}
    assert {e.split for e in found.corpus.examples if e.label == "music"} == {"train", "dev"}


def test_contents_of_a_parallel_corpus_are_on_one_side_and_never_the_held_out_languages(make_corpus):
    corpus = make_corpus(train=40, dev=4, test=8, parallel=True)
    space = TaskSpace.of(corpus, ["swh"])
    (target,) = space.held_out
    made = language_folds(space, 2)
    contents = {split: set() for split in ("train", "dev")}
    for e in made.corpus.examples:
        contents[e.split].add(e.id.removeprefix("search:"))
    assert not contents["train"] & contents["dev"]
    assert not (contents["train"] | contents["dev"]) & {e.id for e in (*target.pool, *target.test)}
    fold = TaskSpace.of(made.corpus, made.parts[0])
    seen = {e.id for task in fold.sources for e in task.pool}
    assert all(not seen & {e.id for e in (*task.pool, *task.test)} for task in fold.held_out)
    assert all(len(task.labels) == 4 for task in (*fold.sources, *fold.held_out))


def test_a_language_with_too_little_is_always_a_source(make_corpus):
    corpus = make_corpus()
    few = [e for e in corpus.examples if e.language != "amh" or e.id.endswith(("-0", "-1"))]
    found = language_folds(TaskSpace.of(Corpus("few", tuple(few)), ["swh"]), 4)
    assert sorted(code for part in found.parts for code in part) == ["eng", "hau", "yor"]
    assert "amh" in found.corpus.languages
    assert "(amh) is in every fold a source" in found.notices[0]


def test_one_source_is_too_few_to_choose_on(make_corpus):
    with pytest.raises(DataError, match="two source languages or more"):
        language_folds(TaskSpace.of(make_corpus(("eng", "swh")), ["swh"]), 4)
    with pytest.raises(SettingsError, match="two folds of languages or more, found 1"):
        language_folds(TaskSpace.of(make_corpus(), ["swh"]), 1)


# --- The search.


def test_every_combination_is_judged_on_every_source_and_goes_on_where_it_was(village, tmp_path, monkeypatch):
    results, fits = tmp_path / "results.jsonl", []
    fit = searching.fit

    def counted(corpus, recipe, **options):
        fits.append(recipe)
        assert "swh" not in corpus.languages
        return fit(corpus, recipe, **options)

    monkeypatch.setattr(searching, "fit", counted)
    choices = {"learner": ["ridge", "auto"], "augment": [[], ["case"]]}
    options = {"folds": 3, "shots": (1, 2), "draws": 2, "results": results}
    said = []
    whole = metaglot.search(village, RECIPE, choices, **options, notices=said.extend)
    assert [set(one.accuracy) for one in whole.ranked] == [{"deu", "eng", "spa"}] * 4
    assert len(fits) == 3 * 2  # each fold once without copies and once with
    assert {recipe.held_out for recipe in fits} == {("deu",), ("eng",), ("spa",)}
    text = results.read_text(encoding="utf-8")
    header, *lines = map(json.loads, text.splitlines())
    assert header["folds"] == [list(recipe.held_out) for recipe in fits[::2]]
    assert len(lines) == 4 * 3

    fits.clear()
    again = search(village, RECIPE, choices, **options)
    assert (fits, again.as_dict()) == ([], whole.as_dict())

    # A kill in the middle of a line: that one and what was to come is judged again, with the same result.
    results.write_text("".join(f"{line}\n" for line in text.splitlines()[:6]) + text[-40:-1])
    assert search(village, RECIPE, choices, **options).as_dict() == whole.as_dict()
    assert sorted(results.read_text(encoding="utf-8").splitlines()) == sorted(text.splitlines())
    more = search(village, RECIPE, {"learner": ["mixture"]}, **options)
    assert len(more.ranked) == 2
    assert len(results.read_text(encoding="utf-8").splitlines()) == 13 + 3

    with pytest.raises(SettingsError, match="expected draws to be as in the results that are there, 2"):
        search(village, RECIPE, choices, **options | {"draws": 3})
    for broken in ("text\n", "", "[1]\n", text + '{"fold": 1}\n'):
        results.write_text(broken)
        with pytest.raises(DataError, match="line of a search's results"):
            search(village, RECIPE, choices, **options)


def test_what_was_judged_before_a_kill_is_kept_within_a_fold(village, tmp_path, monkeypatch):
    results, train, left = tmp_path / "results.jsonl", searching.train_learners, [2]

    def killed(fitted, recipe, names):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return train(fitted, recipe, names)

    monkeypatch.setattr(searching, "_TOGETHER", 2)
    monkeypatch.setattr(searching, "train_learners", killed)
    options = {"folds": 2, "shots": (1,), "draws": 1, "results": results}
    with pytest.raises(KeyboardInterrupt):
        search(village, RECIPE, {"train.steps": [3, 4]}, **options)
    assert len(results.read_text(encoding="utf-8").splitlines()) == 1 + 2
    left[0] = 4  # of the six there are two left out, and no more is trained than that
    assert len(search(village, RECIPE, {"train.steps": [3, 4]}, **options).ranked) == 3
    assert left == [0]


def test_combinations_are_fitted_together_unless_their_sources_differ():
    recipes = {
        "as it stands": RECIPE,
        "learner": RECIPE.model_copy(update={"learner": "auto"}),
        "loop": RECIPE.model_copy(update={"train": TrainSettings(steps=5, mixup=0.5)}),
        "seed": RECIPE.model_copy(update={"train": TrainSettings(seed=1)}),
        "groups": RECIPE.model_copy(update={"groups": "none"}),
        "copies": RECIPE.model_copy(update={"augment": ("noise",), "augment_copies": 2}),
    }
    found = searching._fitted_alike({name: Combination({}, recipe) for name, recipe in recipes.items()})
    assert [list(alike) for alike in found] == [
        ["as it stands", "learner", "loop"],
        ["seed"],
        ["groups"],
        ["copies"],
    ]


def test_results_are_of_the_encoder_as_it_was():
    one = Combination({}, RECIPE)
    keys = [searching._key(one, SimpleNamespace(fingerprint=print_)) for print_ in ("a", "a", "b")]
    assert keys[0] == keys[1] != keys[2]


def test_several_processes_are_refused(village, monkeypatch):
    monkeypatch.setattr(searching, "processes", lambda: Processes(size=2))
    with pytest.raises(SettingsError, match="one process to search, found 2"):
        search(village, RECIPE, {"train.steps": [3]})


def test_every_combination_is_judged_by_its_own_recipe(village):
    choices = {"learner": ["ridge", "auto"], "train.shots": [[1, 2], [2]], "augment": [[], ["noise:0.5"]]}
    coarse = RECIPE.model_copy(update={"encoder": "ngrams:16"})  # so few columns that mistakes are made
    found = search(village, coarse, choices, folds=3, shots=(1, 2), draws=2)
    divided = language_folds(TaskSpace.of(village, RECIPE.held_out), 3)
    accuracies = set()
    for one in found.ranked:
        for part in divided.parts:
            recipe = one.combination.recipe.model_copy(update={"held_out": part})
            fitted = metaglot.fit(divided.corpus, recipe)
            ((learner, result),) = metaglot.train_learners(fitted, recipe, [recipe.learner]).values()
            records = metaglot.run_grid(
                fitted.sources,
                fitted.space,
                {"x": (learner, result.meta)},
                baselines=(),
                shots=(1, 2),
                draws=2,
            )
            for k in (1, 2):
                by_hand = [r.metrics["accuracy"] for r in records if r.shots == k]
                assert one.accuracy[part[0]][k] == pytest.approx(sum(by_hand) / len(by_hand))
        accuracies.add(json.dumps(one.accuracy, sort_keys=True))
    assert len(accuracies) > 1  # else this could not tell one recipe from another


def test_training_that_diverges_is_a_result_too(village, monkeypatch):
    train = searching.train_learners

    def diverging(fitted, recipe, names):
        if recipe.train.rate > 1:
            raise TrainingError("the loss is no number")
        return train(fitted, recipe, names)

    monkeypatch.setattr(searching, "train_learners", diverging)
    found = search(village, RECIPE, {"train.rate": [9.0]}, folds=2, shots=(1,), draws=1)
    assert found.best is found.reference
    assert found.ranked[-1].failed == "the loss is no number"
    assert found.gain(found.ranked[-1]) is None
    assert "Nothing that was tried is better" in found.verdict()
    assert found.as_dict()["combinations"][-1]["mean"] is None
    broken = RECIPE.model_copy(update={"train": RECIPE.train.model_copy(update={"rate": 3.0})})
    found = search(village, broken, {"train.rate": [1.0]}, folds=2, shots=(1,), draws=1)
    assert "the recipe as it stands failed: the loss is no number" in found.verdict()
    found = search(village, broken, {"train.rate": [5.0]}, folds=2, shots=(1,), draws=1)
    assert "Everything that was tried failed" in found.verdict()


def test_languages_that_the_loop_names_are_left_out_with_their_fold(village):
    train = RECIPE.train.model_copy(update={"validation": ("deu",), "weights": {"Spanish": 2.0, "eng": 0.5}})
    recipe = RECIPE.model_copy(update={"train": train})
    found = {
        part: searching._without(recipe, ("deu", "eng", "spa"), (part,)).train
        for part in ("deu", "eng", "spa")
    }
    assert [settings.validation for settings in found.values()] == [(), ("deu",), ("deu",)]
    assert [settings.weights for settings in found.values()] == [
        {"spa": 2.0, "eng": 0.5},
        {"spa": 2.0},
        {"eng": 0.5},
    ]
    shared = recipe.model_copy(update={"train": train.model_copy(update={"validation": 0.5})})
    assert searching._without(shared, ("deu", "eng", "spa"), ("deu",)).train.validation == 0.5
    search(village, recipe, {"train.mixup": [0.5]}, folds=3, shots=(1,), draws=1)


def test_a_gain_is_paired_by_language():
    reference = Judged(Combination({}, RECIPE), {"a": {1: 0.1, 8: 0.5}, "b": {1: 0.5, 8: 0.9}})
    better = Judged(Combination({"x": 1}, RECIPE), {"a": {1: 0.2, 8: 0.5}, "b": {1: 0.6, 8: 0.9}})
    mixed = Judged(Combination({"x": 2}, RECIPE), {"a": {1: 0.0, 8: 0.3}, "b": {1: 0.9, 8: 0.96}})
    found = SearchResult([reference, better, mixed], (8, 1))
    assert [one.combination.values.get("x") for one in found.ranked] == [1, 2, None]
    gain = found.gain(better)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.05, 0.05, 0.05))
    assert found.verdict() == "Best: x=1, +5.0 (+5.0 to +5.0) points against the recipe as it stands."
    gain = found.gain(mixed)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.04, -0.15, 0.23))
    doubtful = SearchResult([reference, mixed], (1, 8))
    assert "The interval has zero in it" in doubtful.verdict()


def test_the_recipe_on_the_page_is_one():
    page = (Path(__file__).parent.parent / "docs" / "overfitting.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    recipe = Recipe.model_validate(tomllib.loads(text))
    assert all(find_augmentation(name) for name in recipe.augment)
    table = page.partition("## Changed copies of texts")[2].partition("```toml")[0]
    named = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) \|$", table, re.M))
    assert named == {
        name: f"{signature(find_augmentation(name)).parameters['strength'].default:g}" for name in named
    }
    assert set(named) == set(AUGMENTATIONS)


# --- The command.


def test_the_command_writes_a_recipe_that_train_takes(tmp_path, own_cache):
    corpus = write_corpus(tmp_path / "village.csv")
    asked = (
        "search", corpus, "--held-out", "swh", *QUICK, "--try", "learner=auto,ridge", "--try",
        "train.shots=[1],[1, 2]", "--folds", 3, "--draws", 1, "--shots", "1,2",
        "--out", tmp_path / "best.toml",
    )  # fmt: skip
    done = command(*asked)
    assert "the recipe as it stands" in done.out
    assert "learner=ridge, train.shots=1+2" in " ".join(done.out.split())
    recipe = read_recipe(tmp_path / "best.toml", {})
    assert (recipe.held_out, recipe.train.steps) == (("swh",), 3)
    assert (tmp_path / "best.jsonl").is_file()
    told = json.loads(command(*asked, "--json").out)
    assert len(told["combinations"]) == 5
    best = told["combinations"][0]["values"]
    assert all(
        value == {"learner": recipe.learner, "train.shots": list(recipe.train.shots)}[name]
        for name, value in best.items()
    )
    assert tomllib.loads((tmp_path / "best.toml").read_text(encoding="utf-8"))["learner"] == recipe.learner
    command("train", "--recipe", tmp_path / "best.toml", "--out", tmp_path / "model")


def test_where_everything_fails_nothing_is_written(tmp_path, own_cache, monkeypatch):
    def diverging(fitted, recipe, names):
        raise TrainingError("the loss is no number")

    monkeypatch.setattr(searching, "train_learners", diverging)
    corpus, out = write_corpus(tmp_path / "village.csv"), tmp_path / "best.toml"
    asked = (corpus, *QUICK, "--try", "train.rate=9", "--out", out, "--folds", 2, "--draws", 1)
    assert "the loss is no number" in command("search", *asked, may=(2,)).err
    assert not out.exists()


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("60,120", [60, 120]),
        ("auto, ridge", ["auto", "ridge"]),
        ("noise:0.5,case", ["noise:0.5", "case"]),
        ("0.3,true,'a,b'", [0.3, True, "a,b"]),
        ("[1],[4, 8]", [[1], [4, 8]]),
        ("[],[noise,case]", [[], ["noise", "case"]]),
        ("none,{swh = 'coast', zul = 'south'}", ["none", {"swh": "coast", "zul": "south"}]),
        (",", []),
    ],
)
def test_values_are_written_as_in_a_recipe_or_shorter(written, values):
    assert _values(written) == values


def test_what_cannot_be_asked_is_refused_before_anything_is_read(tmp_path):
    asked = ("search", tmp_path / "none.csv", *QUICK)
    for more, problem in (
        ((), "expected --try SETTING=VALUE,VALUE, such as"),
        (("--try", "train.steps"), "found 'train.steps'"),
        (("--try", "train.steps="), "found 'train.steps='"),
        (("--try", "train.steps=1", "--try", "train.steps=2"), "every setting once"),
        (("--try", "learner=auto,rigde"), "Did you mean 'ridge'"),
        (("--try", "train.steps=fast"), "train.steps: "),
        (("--try", "train.steps=,"), "values to try for 'train.steps'"),
        (("--try", "train.steps=9", "--shots", "few"), "expected numbers"),
        (("--try", "train.steps=9", "--out", "best.jsonl"), "expected --out to end in .toml"),
        (("--try", "train.steps=9", "--out", "a.toml", "--results", "a.toml"), "another file than --out"),
    ):
        assert problem in refused(*asked, *more)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('corpus = "home-assistant"\n')
    said = refused("search", "--recipe", recipe, "--try", "train.steps=9", "--out", recipe)
    assert "another file than --recipe" in said
