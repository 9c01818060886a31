"""The snippets of the pages on models that write run, and the pages say what the code says."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("django")
pytest.importorskip("polib")

from metaglot.config import read_settings, write_recipe
from metaglot.generation.adapting import MULTIPLES, STEPS
from metaglot.generation.artifact import load
from metaglot.generation.learning import WRITING_LEARNERS
from metaglot.generation.recipe import EpisodeSettings, GenerationRecipe, JointSettings

ROOT = Path(__file__).parent.parent
SNIPPETS = ROOT / "docs_src"
TRANSLATION = (ROOT / "docs" / "translation.md").read_text(encoding="utf-8")
MODELLING = (ROOT / "docs" / "language-modelling.md").read_text(encoding="utf-8")
RECIPES = {"localise": TRANSLATION, "language_model": MODELLING}
TINY = {
    "width": 16,
    "heads": 2,
    "layers": 1,
    "joint": JointSettings(steps=4, batch=8),
    "train": EpisodeSettings(steps=1, episodes=1, support=4, query=2),
    "learner_options": {"steps": 1, "batch": 4},
}
CATALOGUE = """msgid ""
msgstr ""
"Language: ast\\n"
"Content-Type: text/plain; charset=UTF-8\\n"

"""


def run(name, folder, monkeypatch, **changes):
    """A snippet's variables, run in a folder with its recipe, made tiny."""
    recipe = read_settings(GenerationRecipe, SNIPPETS / f"{name}.toml", {})
    changed = recipe.model_copy(update=TINY | changes)
    (folder / f"{name}.toml").write_text(write_recipe(changed), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("metaglot.generation.adapting.STEPS", (1, 2))
    return runpy.run_path(str(SNIPPETS / f"{name}.py"))


def test_localising(tmp_path, monkeypatch, capsys):
    done = [(f"Choose item {n}", f"Escueye l'elementu {n}") for n in range(12)]
    gaps = ["Choose %(name)s", "Please log in again."]
    entries = [f'msgid "{a}"\nmsgstr "{b}"\n' for a, b in [*done, *((gap, "") for gap in gaps)]]
    before = CATALOGUE + "\n".join(entries)
    (tmp_path / "ast.po").write_text(before, encoding="utf-8")
    options = {"languages": ["spa", "por", "ast"]}
    left = run("localise", tmp_path, monkeypatch, corpus_options=options, vocabulary=400, most=40)

    printed = " ".join(capsys.readouterr().out.split())  # rich breaks lines where a terminal would
    assert re.search(r"\d+ updates \{'before': [\d.]+, 'after': [\d.]+\}", printed)
    assert left["adapted"].examples == 12
    assert (tmp_path / "drafts" / "adaptations" / "ast.safetensors").is_file()
    assert (tmp_path / "ast.po").read_text(encoding="utf-8") == before
    after = (tmp_path / "ast-drafts.po").read_text(encoding="utf-8")
    assert all(f'msgid "{a}"\nmsgstr "{b}"\n' in after for a, b in done)
    drafts = after.split('msgid "Choose %(name)s"')[1]
    assert ("%(name)s" in drafts) == ("2 of 2 gaps filled" in printed)
    assert after.count("#, fuzzy") == int(re.search(r"(\d) of 2 gaps", printed)[1])


def test_a_language_model(tmp_path, monkeypatch, capsys):
    texts = {
        "zul": "Umuntu ngumuntu ngabantu.",
        "xho": "Molo, unjani namhlanje?",
        "deu": "Guten Morgen, wie geht es?",
        "nld": "Goedemorgen, hoe gaat het?",
    }
    (tmp_path / "texts").mkdir()
    for code, line in {**texts, "swh": "Habari ya asubuhi."}.items():
        lines = "".join(f"{line} {n}\n" for n in range(60))
        (tmp_path / "texts" / f"{code}.txt").write_text(lines, encoding="utf-8")
    (tmp_path / "swahili.txt").write_text("Habari ya jioni, rafiki yangu.\n" * 60, encoding="utf-8")
    left = run("language_model", tmp_path, monkeypatch, limit=32)

    said, written = capsys.readouterr().out.split("\n", 1)
    assert re.fullmatch(r"1,860 bytes, \d+ updates, \{'before': [\d.]+, 'after': [\d.]+\}", said)
    assert written.startswith("Habari ")
    assert set(left["model"].groups.names) == {"Bantu", "Germanic"}
    assert set(load(tmp_path / "lm").adaptations) == {"swh"}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_shown_as_they_are(name):
    text = (SNIPPETS / f"{name}.toml").read_text(encoding="utf-8")
    assert f"```toml\n{text}```" in RECIPES[name]
    assert tomllib.loads(text)["kind"] == read_settings(GenerationRecipe, SNIPPETS / f"{name}.toml", {}).kind


def rows(heading):
    """First cells of the tables below a heading of the page on translation, with the second ones."""
    below = TRANSLATION.split(f"\n{heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.-]+)` \| ([^|]+) \|", below, re.M))


def test_the_page_has_every_setting_with_its_default():
    written = rows("## Settings")
    named = set(GenerationRecipe.model_fields) - {"joint", "train"}
    named |= {f"joint.{name}" for name in JointSettings.model_fields}
    own = {name for name in EpisodeSettings.__annotations__ if not name.startswith("_")}
    named |= {f"train.{name}" for name in own}
    assert set(written) == named
    defaults = {
        **{name: field.default for name, field in GenerationRecipe.model_fields.items()},
        **{f"joint.{name}": field.default for name, field in JointSettings.model_fields.items()},
        **{f"train.{name}": field.default for name, field in EpisodeSettings.model_fields.items()},
    }
    numbers = {name: text for name, text in written.items() if re.fullmatch(r"[\d.,]+", text)}
    assert len(numbers) > 12
    for name, text in numbers.items():
        assert float(text.replace(",", "")) == defaults[name], name


def test_the_page_has_every_learner_and_what_is_tried():
    assert tuple(rows("## Learners")) == WRITING_LEARNERS
    *others, last = STEPS
    assert f"{', '.join(map(str, others))} or {last} updates" in TRANSLATION
    assert f"{', '.join(f'{m:g}' for m in MULTIPLES[:-1])} or {MULTIPLES[-1]:g} times" in TRANSLATION


def test_scoring(capsys):
    pytest.importorskip("sacrebleu")
    runpy.run_path(str(SNIPPETS / "score.py"))
    printed = capsys.readouterr().out
    assert "nrefs:1|case:mixed" in printed
    assert "+41.9" in printed
