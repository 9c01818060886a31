"""Models that write from training to use: resumed runs, artifacts, tags, placeholders."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaglot import meta_loss
from metaglot.bitext.placeholders import faults
from metaglot.errors import ArtifactError, DataError, LanguageError
from metaglot.generation import artifact
from metaglot.generation.adapting import adapt_to, choose, material_of
from metaglot.generation.corpora import teach
from metaglot.generation.learning import Updates
from metaglot.generation.recipe import EpisodeSettings, GenerationRecipe, JointSettings
from metaglot.generation.training import train
from metaglot.generation.using import translate
from metaglot.sequences.vocabulary import BEGIN

WORDS = ("one", "two", "three", "red", "green", "blue", "sees", "has", "a")


def phrase(number):
    return " ".join(WORDS[number * step % 9] for step in (1, 2, 4)) + f" {number}"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for code, end in {"deu": "en", "fra": "e", "spa": "o", "swh": "a"}.items():
        for split, numbers in {"train": range(40), "test": range(40, 48)}.items():
            (folder / split).mkdir(exist_ok=True)
            rows = [f"{phrase(n)} %(n)s\t{phrase(n).replace(' ', end + ' ')} %(n)s\n" for n in numbers]
            (folder / split / f"eng-{code}.tsv").write_text("".join(rows), "utf-8")
    return folder


def tiny(corpus, **changes):
    values = {
        "corpus": str(corpus),
        "kind": "translation",
        "out_of": "eng",
        "held_out": ("swh",),
        "width": 8,
        "layers": 1,
        "heads": 2,
        "vocabulary": 420,
        "joint": JointSettings(steps=5, batch=4),
        "train": EpisodeSettings(steps=3, episodes=1, query=4, checkpoint_every=1),
        "learner_options": {"steps": 2, "batch": 4},
    }
    return GenerationRecipe(**values | changes)


@pytest.fixture(scope="module")
def made(pairs):
    return train(tiny(pairs))


@pytest.mark.parametrize("stop", [3, 7])
def test_a_run_that_was_stopped_goes_on(pairs, made, stop, tmp_path, monkeypatch):
    """In joint training (3 of 5 steps) and in episodes (2 of 3): the result is the same, bit for bit."""
    calls, gradient = 0, meta_loss.MetaLoss.gradient

    def counted(self, *arguments):
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return gradient(self, *arguments)

    monkeypatch.setattr(meta_loss.MetaLoss, "gradient", counted)
    place = tmp_path / "run.checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(tiny(pairs), checkpoint=place)
    again = train(tiny(pairs), checkpoint=place)
    assert calls < 2 * 8
    assert all(torch.equal(again.meta[name], value) for name, value in made.meta.items())


def test_what_is_saved_is_what_is_used(made, tmp_path):
    examples = teach(made.recipe).data.restrict(["swh"])
    material, _ = material_of(made, examples, "swh")
    made.adaptations["swh"] = adapt_to(made, material, "swh", updates=Updates(4, 4, 3.0))
    artifact.save(made, tmp_path / "model")
    again = artifact.load(tmp_path / "model")
    texts = ["one two %(n)s", "", "red"]
    for language in ("swh", "deu", "zul"):
        assert translate(again, texts, language) == translate(made, texts, language)
    assert again.facts == made.facts
    assert again.recipe == made.recipe
    del made.adaptations["swh"]


@pytest.mark.parametrize("part", ["manifest.json", "recipe.toml", "vocabulary.json", "learner.safetensors"])
def test_damage_is_seen(made, part, tmp_path):
    artifact.save(made, tmp_path / "model")
    file = tmp_path / "model" / part
    content = file.read_bytes()
    changed = content.replace(b'"into": false', b'"into": true') if part == "manifest.json" else content[:-7]
    assert changed != content
    file.write_bytes(changed)
    with pytest.raises(ArtifactError, match="expected"):
        artifact.load(tmp_path / "model")
    file.unlink()
    with pytest.raises(ArtifactError, match="found"):
        artifact.load(tmp_path / "model")


def test_another_models_adaptation_is_refused(made, pairs, tmp_path):
    examples = teach(made.recipe).data.restrict(["swh"])
    material, _ = material_of(made, examples, "swh")
    artifact.save(made, tmp_path / "model")
    artifact.save(train(tiny(pairs, learner_options={"steps": 1})), tmp_path / "other")
    file = artifact.save_adaptation(adapt_to(made, material, "swh", updates=Updates(1)), tmp_path / "model")
    target = tmp_path / "other" / "adaptations" / file.name
    target.parent.mkdir()
    target.write_bytes(file.read_bytes())
    with pytest.raises(ArtifactError, match="another training run"):
        artifact.load(tmp_path / "other")


def test_a_language_that_was_learned_from_has_a_tag_and_others_begin(made):
    known, new = (made.codec.material(teach(made.recipe).data.select(code)) for code in ("deu", "swh"))
    assert {row[0] for row in known.targets} == {made.vocabulary.tag("deu")}
    assert {row[0] for row in new.targets} == {BEGIN}
    assert set(made.facts["tagged"]) == {"deu", "fra", "spa"}
    fresh = tiny(made.recipe.corpus, train=EpisodeSettings(steps=1, episodes=1, fresh=0.5))
    assert set(train(fresh).facts["tagged"]) <= {"deu", "fra", "spa"}


PIECES = st.lists(
    st.sampled_from(["%(n)s", "{0}", "<b>", "</b>", "one", "two", " ", "\n", "100"]), max_size=8
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PIECES)
def test_no_draft_loses_a_placeholder(made, pieces):
    """Whatever the model writes: this one has learned next to nothing."""
    text = "".join(pieces)
    draft = translate(made, [text], "swh", width=1)[0]
    assert [fault for fault in faults(text, draft) if "order" not in fault] == []
    assert bool(draft) == bool(text)


def test_too_many_placeholders_are_said(made):
    with pytest.raises(DataError, match="at most 16 placeholders"):
        translate(made, [" ".join(f"%(a{n})s" for n in range(17))], "swh")


def test_updates_are_those_that_do_best_on_what_is_kept_apart(made, monkeypatch):
    examples = teach(made.recipe).data.restrict(["swh"])
    material, _ = material_of(made, examples, "swh")
    monkeypatch.setattr("metaglot.generation.adapting.STEPS", (1, 30))
    monkeypatch.setattr("metaglot.generation.adapting.MULTIPLES", (1e-6, 5.0))
    found = choose(made, material, "swh", 0)
    assert (found.updates.steps, found.updates.multiple) == (30, 5.0)
    assert found.after < found.before
    few = choose(made, material.rows(range(9)), "swh", 0)
    assert few.before is few.after is None


def test_what_cannot_be_adapted_on_is_said(made):
    with pytest.raises(DataError, match="sentence pairs"):
        material_of(made, "some text", "swh")
    with pytest.raises(LanguageError, match="other side"):
        material_of(made, teach(made.recipe).data, "eng")
    with pytest.raises(DataError, match="found deu, eng"):
        material_of(made, teach(made.recipe).data.restrict(["deu"]), "swh")


def test_the_card_says_what_it_is(made, tmp_path):
    artifact.save(made, tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "translates from English (eng) into many languages" in text
    assert "Swahili (swh)" in text
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text("utf-8"))
    assert manifest["kind"] == "translation"
