"""The commands of models that write: train, adapt, translate, generate, evaluate; what they refuse."""

import io
import json
import shutil
import sys

import polib
import pytest

import village
from metaglot.generation import adapting, artifact
from metaglot.storage import file_hash
from village import metaglot, refused

pytestmark = pytest.mark.usefixtures("own_cache")
WORDS = ("one", "two", "three", "red", "green", "blue", "sees", "has", "a")
TINY = ["--steps", 2, *(p for s in ("joint.steps=4", "joint.batch=4", "width=8", "layers=1", "heads=2",
        "vocabulary=420", "train.query=4", "learner_options.steps=2", "learner_options.batch=4")
        for p in ("--set", s))]  # fmt: skip


def phrase(number):
    return " ".join(WORDS[number * step % 9] for step in (1, 2, 4)) + f" {number}"


def write_pairs(folder):
    for code, end in {"deu": "en", "fra": "e", "spa": "o", "swh": "a"}.items():
        for split, numbers in {"train": range(40), "test": range(40, 52)}.items():
            (folder / split).mkdir(parents=True, exist_ok=True)
            rows = [f"{phrase(n)}\t{phrase(n).replace(' ', end + ' ')}\n" for n in numbers]
            (folder / split / f"eng-{code}.tsv").write_text("".join(rows), "utf-8")
    return folder


def write_texts(folder):
    folder.mkdir()
    for code in ("deu", "fra", "spa"):
        lines = [f"{code} {phrase(n)}\n" for n in range(200)]
        (folder / f"{code}.txt").write_text("".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of a translation model out of English and of a language model, not to be changed."""
    home = tmp_path_factory.mktemp("writing")
    pairs, texts = write_pairs(home / "pairs"), write_texts(home / "texts")
    options = ["--kind", "translation", "--out-of", "eng", "--held-out", "swh", *TINY]
    metaglot("train", pairs, *options, "--out", home / "drafts")
    plain = [option for option in TINY if option != "vocabulary=420"]
    plain = [p for i, p in enumerate(plain) if not (p == "--set" and plain[i + 1 : i + 2] == ["--set"])]
    metaglot(
        "train", texts, "--kind", "language-modelling", *plain, "--set", "limit=16", "--out", home / "lm"
    )
    return home


@pytest.fixture(autouse=True)
def few_updates(monkeypatch):
    monkeypatch.setattr(adapting, "STEPS", (2, 6))
    monkeypatch.setattr(adapting, "MULTIPLES", (3.0,))


@pytest.fixture
def drafts(trained, tmp_path):
    return shutil.copytree(trained / "drafts", tmp_path / "drafts")


@pytest.fixture
def catalogue(tmp_path):
    """Of ten messages every second has a translation; one has placeholders."""
    made = polib.POFile()
    made.metadata = {"Language": "sw", "Content-Type": "text/plain; charset=utf-8"}
    for number in range(24):
        text = phrase(number).replace(" ", "a ") if number % 2 else ""
        made.append(polib.POEntry(msgid=phrase(number), msgstr=text))
    made.append(polib.POEntry(msgid="%(name)s has <b>one</b>", msgstr=""))
    made.save(str(tmp_path / "sw.po"))
    return tmp_path / "sw.po"


def test_what_was_trained_can_be_listed_and_read(trained):
    kinds = json.loads(metaglot("list", "kinds", "--json").out)
    assert {"translation", "language-modelling", "tagging"} <= set(kinds)
    assert artifact.kind_of(trained / "drafts") == "translation"
    assert "swh" in (trained / "drafts" / "README.md").read_text("utf-8")
    assert not list(trained.glob(".*checkpoint*"))


def test_adapt_then_translate(drafts, catalogue):
    before = json.loads(metaglot("translate", drafts, "one red", "--language", "swh", "--json").out)
    said = metaglot("translate", drafts, "one red", "--language", "Swahili")
    assert "was never adapted" in said.err
    found = json.loads(metaglot("adapt", drafts, "--language", "swh", "--examples", catalogue, "--json").out)
    assert found["examples"] == 12
    assert found["estimate"]["after"] < found["estimate"]["before"]
    assert found["updates"] in (2, 6)
    after = json.loads(metaglot("translate", drafts, "one red", "--language", "swh", "--json").out)
    assert before["text"] == after["text"] == "one red"
    assert "was never adapted" not in metaglot("translate", drafts, "one", "--language", "swh").err
    fixed = metaglot("adapt", drafts, "--language", "swh", "--examples", catalogue, "--updates", 3)
    assert "3 updates" in fixed.out
    assert "kept apart" not in fixed.out


def test_lines_are_translated_as_they_come(drafts, tmp_path, monkeypatch):
    texts = "one two\n\n%(count)d red\n"
    (tmp_path / "lines.txt").write_text(texts, "utf-8")
    options = ["translate", drafts, "--language", "fra", "--beam", 1]
    lines = metaglot(*options, "--input", tmp_path / "lines.txt").out.split("\n")
    assert len(lines) == 4
    assert lines[1] == lines[3] == ""
    assert "%(count)d" in lines[2]
    monkeypatch.setattr(sys, "stdin", io.StringIO(texts))
    assert metaglot(*options, "--input", "-", "--batch", 1).out.split("\n") == lines


def test_a_catalogue_is_filled_and_nothing_else_is_touched(drafts, catalogue, tmp_path):
    metaglot("adapt", drafts, "--language", "swh", "--examples", catalogue)
    target = tmp_path / "filled.po"
    before = file_hash(catalogue)
    found = json.loads(
        metaglot(
            "translate", drafts, "--language", "swh", "--fill", catalogue, "--output", target, "--json"
        ).out
    )
    assert file_hash(catalogue) == before
    old, new = polib.pofile(str(catalogue)), polib.pofile(str(target))
    assert found["filled"] == sum(entry.fuzzy for entry in new)
    for one, other in zip(old, new, strict=True):
        if one.msgstr:
            assert (one.msgstr, other.fuzzy) == (other.msgstr, False)
    marked = next(entry for entry in new if "%(name)s" in entry.msgid)
    if marked.msgstr:
        assert all(marked.msgstr.count(part) == 1 for part in ("%(name)s", "<b>", "</b>"))


def test_a_language_model_is_adapted_and_writes(trained, tmp_path):
    folder = shutil.copytree(trained / "lm", tmp_path / "lm")
    (tmp_path / "text.txt").write_text("swh " * 100, "utf-8")
    metaglot("adapt", folder, "--language", "swh", "--examples", tmp_path / "text.txt", "--updates", 4)
    options = ["generate", folder, "swh", "--language", "swh", "--tokens", 12, "--seed", 3]
    first = metaglot(*options).out
    assert first == metaglot(*options).out
    assert first.startswith("swh")
    rows = metaglot(*options, "--temperature", 0, "--json").out
    assert set(json.loads(rows)) == {"prompt", "text"}


def test_they_are_compared(tmp_path):
    pairs = write_pairs(tmp_path / "pairs")
    options = ["--kind", "translation", "--into", "eng", "--held-out", "swh", *TINY, "--shots", "0,12"]
    done = metaglot("evaluate", pairs, *options, "--learners", "reptile", "--json", tmp_path / "grid.json")
    assert "joint-fine-tuned" in done.out
    found = json.loads((tmp_path / "grid.json").read_text("utf-8"))
    assert found["summary"]["metric"] == "chrf++"
    assert {row["method"] for row in found["records"]} == {"reptile", "scratch", "joint-fine-tuned", "copy"}


def test_data_are_looked_at(tmp_path):
    pairs, texts = write_pairs(tmp_path / "pairs"), write_texts(tmp_path / "texts")
    found = json.loads(metaglot("data", "inspect", pairs, "--kind", "translation", "--json").out)
    assert found["languages"]["eng-swh"]["train"] <= 40
    assert "pairs are left" in metaglot("data", "inspect", pairs, "--kind", "translation").out
    found = json.loads(metaglot("data", "inspect", texts, "--kind", "language-modelling", "--json").out)
    assert found["unit"] == "bytes"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["translate", "DRAFTS", "x"], "--language"),
        (["translate", "DRAFTS", "--language", "fra"], "one of texts"),
        (["translate", "DRAFTS", "x", "--language", "fra", "--input", "y"], "one of texts"),
        (["translate", "DRAFTS", "x", "--language", "eng"], "other side"),
        (["translate", "DRAFTS", "x", "--language", "fra", "--output", "y.po"], "--fill"),
        (["translate", "DRAFTS", "x", "--language", "fra", "--beam", 0], "at least 1"),
        (["translate", "LM", "x", "--language", "fra"], "metaglot generate"),
        (["translate", "nowhere", "x", "--language", "fra"], "metaglot train"),
        (["generate", "DRAFTS", "--language", "fra"], "metaglot translate"),
        (["generate", "LM", "--language", "fra", "--tokens", 0], "tokens ≥ 1"),
        (["adapt", "DRAFTS", "--language", "swh", "--examples", "nowhere.tsv"], "nowhere.tsv"),
        (["adapt", "LM", "--language", "swh", "--examples", "nowhere.txt"], "nowhere.txt"),
        (["adapt", "DRAFTS", "--language", "eng", "--examples", "FILE"], "other side"),
        (
            ["adapt", "DRAFTS", "--language", "swh", "--examples", "FILE", "--updates", 0],
            "at least one update",
        ),
        (["adapt", "DRAFTS", "--language", "swh", "--examples", "FILE", "--all-labels"], "with labels"),
        (["predict", "DRAFTS", "x", "--language", "fra"], "metaglot translate"),
        (
            ["train", "PAIRS", "--kind", "translation", "--into", "eng", "--out-of", "eng", "--out", "n"],
            "both",
        ),
        (["train", "PAIRS", "--kind", "translation", "--held-out", "swg", "--out", "n"], "swh"),
        (["train", "PAIRS", "--kind", "translation", "--set", "shots=[3]", "--out", "n"], "shots"),
        (["train", "PAIRS", "--kind", "translation", "--learner", "ridge", "--out", "n"], "gradient steps"),
        (["train", "PAIRS", "--kind", "translation", "--mend", "--out", "n"], "--mend"),
        (["train", "home-assistant", "--into", "eng", "--out", "n"], "--kind translation"),
        (["train", "TEXTS", "--kind", "language-modelling", "--into", "eng", "--out", "n"], "translation"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, said, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.tsv").write_text("one\tmoja\ntwo\tmbili\n", "utf-8")
    places = {
        "DRAFTS": trained / "drafts", "LM": trained / "lm", "PAIRS": trained / "pairs",
        "TEXTS": trained / "texts", "FILE": tmp_path / "pairs.tsv",
    }  # fmt: skip
    assert said in refused(*(places.get(a, a) for a in arguments))
    assert not (tmp_path / "n").exists()


def test_a_model_with_labels_does_not_translate(tmp_path):
    folder = village.assistant(tmp_path)
    assert "metaglot predict" in refused("translate", folder, "x", "--language", "swh")
