"""Recipes: every wrong setting is named at once, and what is written is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaglot.config import Recipe, TrainSettings, read_recipe, write_recipe
from metaglot.errors import SettingsError

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    words | st.booleans() | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
recipes = st.builds(
    Recipe,
    corpus=words,
    columns=st.dictionaries(words, words, max_size=3),
    encoding=words,
    corpus_options=st.dictionaries(words, values, max_size=3),
    parallel=st.none() | st.booleans(),
    encoder=words,
    held_out=st.lists(words, max_size=3).map(tuple),
    sources=st.none() | st.lists(words, max_size=3).map(tuple),
    learner=words,
    learner_options=st.dictionaries(words, values, max_size=3),
    train=st.builds(
        TrainSettings,
        steps=st.integers(1),
        rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        shots=st.lists(st.integers(1), min_size=1, max_size=4).map(tuple),
        seed=st.integers(),
    ),
)


def test_every_error_is_named_at_once(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('lerner = "maml"\n[train]\nsteps = 0\nepisodez = 3\nrate = "fast"\nshots = []\n')
    with pytest.raises(SettingsError) as error:
        read_recipe(path, {})
    message = str(error.value)
    assert str(path) in message
    assert "found 6 wrong setting(s)" in message
    for place in ("corpus", "lerner", "train.steps", "train.episodez", "train.rate", "train.shots"):
        assert f"\n  {place}: " in message
    assert "Did you mean 'learner'" in message
    assert "Did you mean 'episodes'" in message
    assert "'fast'" in message


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_is_a_positive_number(rate):
    with pytest.raises(SettingsError, match=r"train\.rate"):
        read_recipe(None, {"corpus": "c", "train.rate": rate})


def test_options_lie_over_the_file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        '\ufeffcorpus = "one"\nlearner = "maml"\n[train]\nsteps = 3\nseed = 4\n', encoding="utf-8"
    )
    recipe = read_recipe(path, {"corpus": "two", "learner": None, "train.seed": 5, "held_out": ["swh"]})
    assert (recipe.corpus, recipe.learner, recipe.held_out) == ("two", "maml", ("swh",))
    assert (recipe.train.steps, recipe.train.seed) == (3, 5)
    assert read_recipe(None, {"corpus": "x", "train.steps": 7}).train.steps == 7


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"corpus = ", "expected TOML"), (b'corpus = "\xff"', "expected TOML"), (b"train = 3", "train: ")],
)
def test_a_broken_file_is_named(tmp_path, data, problem):
    path = tmp_path / "recipe.toml"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=problem) as error:
        read_recipe(path, {"train.steps": 2})
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"expected a recipe, found none"):
        read_recipe(tmp_path / "none.toml", {})


@given(recipes)
def test_what_is_written_is_read_back(tmp_path_factory, recipe):
    path = tmp_path_factory.getbasetemp() / "written.toml"
    path.write_text(write_recipe(recipe), encoding="utf-8")
    assert read_recipe(path, {}) == recipe
