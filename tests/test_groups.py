"""Groups of languages, from the recipe to the batch of a new language and back from the folder."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import village
from metaglot import adapting, artifact, cross_validation
from metaglot.adapting import adapt
from metaglot.config import Recipe, read_recipe, write_recipe
from metaglot.drawing import source_episode
from metaglot.errors import LanguageError, SettingsError
from metaglot.learners import LEARNERS
from metaglot.model import batch_of, fit_sources, target_table
from metaglot.predicting import predict
from metaglot.space import Groups
from metaglot.training import fit
from metaglot.types import Example
from village import metaglot

SOURCES = ("deu", "eng", "spa", "swh", "village-talk")


@pytest.mark.parametrize(
    ("by", "names", "numbers"),
    [
        ("branch", ("Bantu", "Germanic", "Romance"), {"deu": 1, "nld": 1, "zul": 0, "ita": 2, "hin": -1}),
        ("family", ("Atlantic-Congo", "Indo-European"), {"deu": 1, "hin": 1, "ewe": 0, "tur": -1}),
        ("none", (), {"deu": -1, "swh": -1}),
        ({"German": "a", "en": "a", "swa": "b", "yor": "c"}, ("a", "b"), {"deu": 0, "swh": 1, "yor": -1}),
    ],
    ids=["branch", "family", "none", "own"],
)
def test_a_language_finds_the_group_of_its_kin(by, names, numbers):
    groups = Groups.of(SOURCES, by)
    assert groups.names == names
    assert {code: groups.number(code) for code in numbers} == numbers
    assert groups.number("village-talk") == groups.number("klingonish") == -1
    assert Groups(**groups.as_dict() | {"names": groups.names}) == groups


def test_scripts_and_regions_are_of_the_languages_group():
    own = Groups.of(["zho_Hans", "por_BR"], {"zh-Hans": "simple", "por": "south"})
    assert own.names == ("simple", "south")
    assert [own.number(c) for c in ("zho_Hans", "zho_Hant", "por_BR", "por_PT")] == [0, -1, 1, 1]
    assert Groups.of(["zho_Hans", "spa"], "branch").number("zho_Hant") == 0


def test_a_language_that_no_standard_knows_may_be_given_a_group():
    groups = Groups.of(SOURCES, {"village-talk": "near", "Kpele of the hills": "near", "deu": "far"})
    assert groups.number("village-talk") == groups.number("kpele-of-the-hills") == 1
    assert groups.number("eng") == -1


@pytest.mark.parametrize(
    ("by", "error", "words"),
    [
        ("genus", SettingsError, ["branch, family, none", "'genus'"]),
        ({"Germann": "a"}, LanguageError, ["'Germann'", "Did you mean"]),
        ({"vilage-talk": "a"}, LanguageError, ["'vilage-talk'", "'village-talk'"]),
        ({"sw": "a", "swh": "b"}, SettingsError, ["Swahili", "'a'", "'b'"]),
    ],
)
def test_what_makes_no_sense_is_refused(by, error, words):
    with pytest.raises(error) as caught:
        Groups.of(SOURCES, by)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("value", ["genus", 3, [], {}, {"deu": 1}, {"deu": ""}, True, None])
def test_a_recipe_refuses_other_groups(tmp_path, value):
    overrides = {"corpus": "c", "groups": value}
    if value is None:  # None is "not given"
        assert read_recipe(None, overrides).groups == "branch"
        return
    with pytest.raises(SettingsError, match=r"groups: .*'branch', 'family', 'none' or a table") as caught:
        read_recipe(None, overrides)
    assert "found 1 wrong setting(s)" in str(caught.value)


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.sampled_from(["branch", "family", "none"]) | st.dictionaries(words, words, min_size=1, max_size=4))
def test_a_recipe_keeps_its_groups(tmp_path_factory, groups):
    path = tmp_path_factory.getbasetemp() / "groups.toml"
    path.write_text(write_recipe(Recipe(corpus="c", groups=groups)), encoding="utf-8")
    assert read_recipe(path, {}).groups == groups


def test_every_batch_has_its_languages_group(space, sources, tiny_encoder):
    model = sources.model
    assert model.groups.names == ("Defoid", "Germanic", "Semitic", "West Chadic")
    assert model.task_model.groups == model.groups.names
    settings = Recipe(corpus="c").train
    for place in range(12):
        episode = source_episode(sources, settings, place)
        own = model.groups.names.index(model.groups.name(episode.task))
        assert episode.support.group == episode.query.group == own
        assert episode.support[:2].group == own
    texts = [Example("1", "yor greet 1", "greet", "yor"), Example("2", "yor music 1", "music", "yor")]
    batches = [batch_of(model, language, texts, ["greet", "music"]) for language in ("yor", "xyz")]
    assert [batch.group for batch in batches] == [0, -1]
    (task,) = space.held_out
    table = target_table(model, task, task.pool)
    assert table.batch(model, torch.arange(2), task.labels).group == -1
    together = fit_sources(space, tiny_encoder(), {"swh": "here", "yor": "here", "amh": "there"}).model
    assert table.batch(together, torch.arange(2), task.labels).group == 0


def test_adapting_and_predicting_find_the_group(sources, monkeypatch):
    seen = []
    learner = LEARNERS["ridge"]()
    meta = learner.init(sources.model.task_model, torch.Generator())
    facts = {"sources": [], "held_out": []}
    made = artifact.Artifact(sources.model, learner, meta, Recipe(corpus="tiny", learner="ridge"), facts)

    def head(model, learner, meta, support):
        seen.append(support.group)
        return sources.model.task_model.init(len(support.classes))

    for place in (adapting, cross_validation):
        monkeypatch.setattr(place, "adapted_head", head)
    rows = [Example(f"{x}{i}", f"a {x} {i}", x, "a") for x in ("greet", "music") for i in range(2)]
    for language in ("Tigrinya", "nld", "French", "village-talk"):
        seen.clear()
        adapt(made, language, rows)
        assert len(seen) == 3  # the head, and two folds of the estimate
        assert set(seen) == {sources.model.groups.number(adapting.language_code(made, language)[0])}
        predict(made, ["a greet"], language)
    assert sources.model.groups.number("tir") == 2


def test_an_artifact_keeps_its_groups(tmp_path, own_cache):
    corpus = village.write_corpus(tmp_path / "village.csv")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'corpus = "{corpus}"\nlearner = "hierarchical"\n[groups]\nGerman = "north"\neng = "north"\n'
    )
    folder = tmp_path / "assistant"
    metaglot("train", "--recipe", recipe, "--out", folder, "--held-out", "swh", *village.QUICK)
    loaded = artifact.load(folder)
    assert loaded.model.groups == Groups({"deu": "north", "eng": "north"}, ("north",))
    assert loaded.recipe.groups == {"German": "north", "eng": "north"}
    # What was made before there were groups has none.
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    del manifest["groups"], manifest["hash"]
    manifest["hash"] = artifact.manifest_hash(manifest)
    path.write_text(json.dumps(manifest), "utf-8")
    assert artifact.load(folder).model.groups == Groups()


def test_a_recipes_groups_reach_the_model(make_corpus, monkeypatch, tiny_encoder):
    monkeypatch.setattr("metaglot.training.load_encoder", lambda name: tiny_encoder())
    recipe = Recipe(corpus="tiny", held_out=("swh",), groups="family")
    names = fit(make_corpus(), recipe).sources.model.groups.names
    assert names == ("Afro-Asiatic", "Atlantic-Congo", "Indo-European")
    model = fit(make_corpus(), recipe.model_copy(update={"groups": "none"})).sources.model
    assert model.groups.names == model.task_model.groups == ()
    assert replace(model, groups=Groups("family", names)).task_model.groups == names
