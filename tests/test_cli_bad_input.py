"""What users get wrong: one message that says where and what to do, exit code 2, nothing changed."""

import contextlib
import csv
import errno
import io
import json
import os
import shutil
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import village
from metaglot import artifact
from metaglot.cli import main
from village import QUICK, metaglot, refused, snapshot, write_corpus, write_examples

pytestmark = pytest.mark.usefixtures("own_cache")
GOOD = "label,text\n" + "".join(f"{label},{text}\n" for label, text in village.WORDS["swh"].items())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained model's folder with one adaptation, not to be changed."""
    folder = tmp_path_factory.mktemp("village")
    made = village.assistant(folder)
    metaglot("adapt", made, "--language", "swh", "--examples", write_examples(folder / "swahili.csv"))
    return made


@pytest.fixture
def assistant(trained):
    """The trained model, of which nothing may be changed by what is refused."""
    before = snapshot(trained.parent)
    yield trained
    assert snapshot(trained.parent) == before


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "village.csv")


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def says(message, *parts):
    """Check that a message is one error that has all these parts."""
    assert message.count("error: ") == 1
    assert "unexpected" not in message
    assert [part for part in parts if str(part) not in message] == []


# --- examples to adapt on

BAD_EXAMPLES = {
    "an empty file": (b"", ["expected rows, found none: the file is empty"]),
    "a mark alone": (b"\xef\xbb\xbf", ["the file is empty"]),
    "a header alone": (b"label,text\n", ["expected rows, found none"]),
    "no header": (b"music,muziki\ntimer,alamu\n", ["expected a column for the text", "'music', 'muziki'"]),
    "no label column": (
        b"n,text\n1,muziki\n",
        ["expected a column for the label (", "found the columns 'n', 'text'", "--column label=n"],
    ),
    "one label": (b"label,text\nmusic,a\nmusic,b\n", ["at least two labels, found only 'music'"]),
    "an empty text": (b"label,text\nmusic,a\ntimer,\n", ["line 3", "'text'", "found an empty one"]),
    "an empty label": (b"label,text\nmusic,a\n,b\n", ["line 3", "'label'", "found an empty cell"]),
    "a cell too many": (b"label,text\nmusic,a,b\n", ["line 2", "expected 2 cells", "found 3"]),
    "an open quote": (b'label,text\nmusic,"a\ntimer,b\n', ["line 2", "a quote that is opened"]),
    "two labels for a text": (
        b"label,text\nmusic,weka\ntimer,weka\n",
        ["one label for a text", "'music'", "'timer'", "'weka'"],
    ),
    "an id twice": (
        b"id,label,text\n1,music,a\n1,timer,b\n2,timer,c\n",
        ["line 3", "field 'id'", "found '1', which line 2 has", "--column id="],
    ),
    "a misspelt label": (
        b"label,text\nmusci,muziki\ntimer,alamu\n",
        ["found 'musci', which looks misspelt", "Did you mean 'music'?", "--new-labels"],
    ),
    "another language": (
        b"language,label,text\nswh,music,a\nyor,timer,b\n",
        ["line 3", "'language'", "Swahili alone, found 'yor'"],
    ),
    "latin-1": ("label,text\nmusic,a\ntimer,café\n".encode("latin-1"), ["line 3", "0xe9", "likely cp1252"]),
    "utf-16": (GOOD.encode("utf-16"), ["line 1", "0xff", "--encoding", "utf-16"]),
    "utf-16 without a mark": (GOOD.encode("utf-16-le"), ["line 1", "NUL byte", "utf-16-le"]),
    "a NUL": (b"label,text\nmusic,a\ntimer,b\0c\n", ["line 3", "NUL byte"]),
}


@pytest.mark.parametrize("case", BAD_EXAMPLES)
def test_examples_that_are_refused(assistant, tmp_path, case):
    content, parts = BAD_EXAMPLES[case]
    file = write(tmp_path / "bad.csv", content)
    where = [] if case in {"one label", "two labels for a text", "a misspelt label"} else [file]
    says(refused("adapt", assistant, "--language", "swh", "--examples", file), *where, *parts)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("x.jsonl", b'{"label": "music", "text": 3}\n', ["line 1", "'text'", "found '3' (int)"]),
        ("x.jsonl", b'{"label": "music", "text": "\\ud83d"}\n', ["line 1", "half a character (U+D83D)"]),
        ("x.jsonl", b'{"label": "music", "text": "a\\u0000"}\n', ["line 1", "NUL character"]),
        ("x.jsonl", b'{"label": "music",\n', ["line 1", "expected JSON"]),
        ("x.jsonl", b"[1, 2]\n", ["line 1", "expected a JSON object, found '1'"]),
        ("x.parquet", b"PAR1", ["expected a Parquet file"]),
        ("x.xlsx", b"PK", ["known format", "'.xlsx'"]),
    ],
)
def test_other_formats_that_are_refused(assistant, tmp_path, name, content, parts):
    file = write(tmp_path / name, content)
    says(refused("adapt", assistant, "--language", "swh", "--examples", file), file, *parts)


def test_every_fault_is_told_at_once(assistant, tmp_path):
    file = write(tmp_path / "bad.csv", "label,text\n" + "music,\n" * 30)
    said = refused("adapt", assistant, "--language", "swh", "--examples", file)
    says(said, "found 30 faults", "line 2,", "line 11,", "and 20 more")


def test_a_missing_file_and_a_folder_are_no_examples(assistant, tmp_path):
    write(tmp_path / "swahili.csv", GOOD)
    said = refused("adapt", assistant, "--language", "swh", "--examples", tmp_path / "swahilli.csv")
    says(said, "swahilli.csv", "Did you mean 'swahili.csv'?")
    says(refused("adapt", assistant, "--language", "swh", "--examples", tmp_path), tmp_path, "found a folder")
    says(refused("predict", assistant, "--language", "swh", "--input", tmp_path), tmp_path)
    said = refused("predict", assistant, "--language", "swh", "--input", tmp_path / "swahilli.csv")
    says(said, "Did you mean 'swahili.csv'?")


def test_new_labels_are_taken_and_said(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    file = write(tmp_path / "new.csv", "label,text\nmusci,muziki\nfarewell,kwaheri\nfarewell,kwa heri\n")
    done = metaglot("adapt", copy, "--language", "swh", "--examples", file, "--new-labels")
    assert "The label 'farewell' is new" in done.err
    assert "The label 'musci' is new" in done.err
    assert (
        "4 of the model's 4 labels have no example and will not be predicted in Swahili (greet," in done.err
    )
    assert "--all-labels" in done.err
    assert "could not be estimated" in done.err
    done = metaglot("predict", copy, "--language", "swh", "--json", "--top", 9, "kwaheri sana")
    assert {r["label"] for r in json.loads(done.out)["labels"]} == {"musci", "farewell"}
    file = write(tmp_path / "far.csv", "label,text\nmusic,muziki\nfarewell,kwaheri\nfarewell,kwaheri\n")
    done = metaglot("adapt", copy, "--language", "swh", "--examples", file, "--all-labels", "--json")
    found = json.loads(done.out)
    assert found["labels"] == ["farewell", *village.LABELS]
    assert [n for n in found["notices"] if "'farewell' is new" in n]
    assert [n for n in found["notices"] if "1 example(s) occur more than once" in n]
    done = metaglot("predict", copy, "--language", "swh", "--json", "kwaheri sana")
    assert len(json.loads(done.out)["labels"]) == 3
    done = metaglot("predict", copy, "--language", "swh", "--json", "--top", 9, "kwaheri sana")
    assert {r["label"] for r in json.loads(done.out)["labels"]} == {"farewell", *village.LABELS}


@pytest.mark.parametrize(
    ("options", "encode"),
    [
        ([], lambda text: b"\xef\xbb\xbf" + text.encode()),
        ([], lambda text: text.replace("\n", "\r\n").encode()),
        (["--encoding", "utf-16"], lambda text: text.encode("utf-16")),
        (["--encoding", "latin-1"], lambda text: text.encode("latin-1")),
    ],
    ids=["mark", "crlf", "utf-16", "latin-1"],
)
def test_marks_line_ends_and_encodings_change_nothing(trained, tmp_path, options, encode):
    text = village.WORDS["swh"] | {"greet": "halo café"}
    text = "label,text\n" + "".join(f"{label},{x}\n" for label, x in text.items())
    made = []
    for name, content, more in (("plain", text.encode(), []), ("other", encode(text), options)):
        copy = shutil.copytree(trained, tmp_path / name)
        file = write(tmp_path / f"{name}.csv", content)
        metaglot("adapt", copy, "--language", "swh", "--examples", file, *more)
        made.append((copy / "adaptations" / "swh.safetensors").read_bytes())
    assert made[0] == made[1]


def test_long_texts_emoji_and_right_to_left_writing_work(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    texts = ["muziki " * 150_000, "👩‍👩‍👧 🎵🎵", "שלום עולם", "مرحبا\u202e بك"]
    with (tmp_path / "odd.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("label", "text"), *zip(village.LABELS, texts, strict=True)])
    metaglot("adapt", copy, "--language", "swh", "--examples", tmp_path / "odd.csv")
    done = metaglot("predict", copy, "--language", "swh", "--json", "--input", tmp_path / "odd.csv")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [p["text"] for p in found] == texts
    assert {row["label"] for p in found for row in p["labels"]} == set(village.LABELS)


# --- languages


def test_an_unknown_language_is_kept_and_said(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    file = write(tmp_path / "new.csv", GOOD)
    done = metaglot("adapt", copy, "--language", "../../Elvish tongue", "--examples", file)
    assert "No standard knows the language '../../Elvish tongue': it is kept as 'elvish-tongue'." in done.err
    assert {p.name for p in (copy / "adaptations").iterdir()} == {
        "swh.safetensors",
        "elvish-tongue.safetensors",
    }
    assert {p.name for p in tmp_path.iterdir()} - {"cache"} == {"copy", "new.csv"}
    done = metaglot("predict", copy, "--language", "Elvish Tongue", "--json", "alamu")
    assert (json.loads(done.out)["language"], json.loads(done.out)["adapted"]) == ("elvish-tongue", True)


def test_an_unknown_language_is_predicted_zero_shot_with_a_suggestion(assistant):
    done = metaglot("predict", assistant, "--language", "swahilli", "alamu")
    assert (
        "No standard knows the language 'swahilli': it is kept as 'swahilli'. Did you mean swh (Swahili)"
        in done.err
    )
    assert "never adapted" in done.err


@pytest.mark.parametrize("name", ["", " ", "!?", "../..", "\udcff"])
def test_a_name_without_letters_is_no_language(assistant, tmp_path, name):
    file = write(tmp_path / "good.csv", GOOD)
    says(refused("adapt", assistant, "--language", name, "--examples", file), "expected a language code")
    says(refused("predict", assistant, "--language", name, "alamu"), "expected")


# --- commands: (what is typed after the command's corpus, parts of the message)

BAD_TRAINING = {
    "no --out": ([], ["expected --out DIR"]),
    "a misspelt held-out language": (
        ["--held-out", "swahilli", "--out", "new"],
        ["expected a language of the corpus 'village', found 'swahilli'", "'swahili'?", "deu, eng, spa, swh"],
    ),
    "a held-out language that the corpus lacks": (
        ["--held-out", "yor", "--out", "new"],
        ["found 'yor'", "It has: deu, eng, spa, swh"],
    ),
    "a source that it lacks": (["--sources", "eng,fra", "--out", "new"], ["found 'fra'"]),
    "all held out": (
        ["--held-out", "deu,eng,spa,swh", "--out", "new"],
        ["at least one source language", "hold out fewer"],
    ),
    "one language on both sides": (
        ["--held-out", "swh", "--sources", "swh,eng", "--out", "new"],
        ["sources and held-out languages to differ", "'swh'"],
    ),
    "a learner": (
        ["--learner", "mamel", "--out", "new"],
        ["expected a learner", "found 'mamel'. Did you mean ", "'maml'"],
    ),
    "an encoder": (["--encoder", "e5-smal", "--out", "new"], ["expected an encoder", "'e5-small'?"]),
    "an encoder's option": (["--encoder", "ngrams:many", "--out", "new"], ["from 16 to", "'many'"]),
    "an encoder twice": (["--encoder", "ngrams+ngrams", "--out", "new"], ["'ngrams' twice"]),
    "an encoder's folder": (["--encoder", "./none", "--out", "new"], ["no such folder", "none"]),
    "steps": (["--steps", "0", "--out", "new"], ["train.steps", "greater than or equal to 1", "found 0"]),
    "a rate": (["--rate", "nan", "--out", "new"], ["train.rate", "found nan"]),
    "a column": (["--column", "text=utt", "--out", "new"], ["column 'utt' for the text", "'text'"]),
    "a field": (["--column", "txt=text", "--out", "new"], ["expected a field to map", "'text'?"]),
    "a pair": (["--column", "text", "--out", "new"], ["expected --column FIELD=COLUMN", "'text'"]),
    "an encoding": (["--encoding", "utf-9", "--out", "new"], ["name of a text encoding, found 'utf-9'"]),
    "another encoding": (["--encoding", "utf-16", "--out", "new"], ["village.csv", "expected utf-16"]),
    "a recipe": (["--recipe", "none.toml", "--out", "new"], ["none.toml", "expected a recipe, found none"]),
    "no name": (["--out", "."], ["expected a folder with a name"]),
    "the folder above": (["--out", ".."], ["expected a folder with a name"]),
    "a name too long": (["--out", "x" * 4000], ["could not write", "File name too long"]),
    "a file's place": (
        ["--out", "village.csv"],
        ["village.csv", "found something else; it is left as it is"],
    ),
    "below a file": (["--out", "village.csv/new", *QUICK], ["village.csv", "expected a folder to make"]),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_training_that_is_refused(corpus, tmp_path, monkeypatch, case):
    options, parts = BAD_TRAINING[case]
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    done = metaglot("train", corpus, *options, may=(2,))
    says(done.err, *parts)
    assert done.out == ""
    assert snapshot(tmp_path) == before


def test_a_loss_that_is_no_number_is_said_with_its_step(corpus, tmp_path, monkeypatch):
    from metaglot import meta_loss

    real, steps = meta_loss.meta_gradient, []

    def broken(*arguments, **options):
        steps.append(1)
        loss, gradients = real(*arguments, **options)
        return loss * (float("nan") if len(steps) > 2 else 1.0), gradients

    monkeypatch.setattr(meta_loss, "meta_gradient", broken)
    said = metaglot("train", corpus, *QUICK, "--out", tmp_path / "new", may=(2,)).err
    says(said, "the loss of the learner 'auto' is nan since step 2", "--rate")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_any_whole_number_is_a_seed(corpus, tmp_path, seed):
    metaglot("train", corpus, *QUICK, "--seed", seed, "--out", tmp_path / "new")
    assert json.loads((tmp_path / "new" / "manifest.json").read_text())["seed"] == seed


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([], ["expected --held-out LANGUAGES"]),
        (["--held-out", "swh", "--shots", "1,two"], ["expected numbers such as 0,1,4,8,16, found '1,two'"]),
        (["--held-out", "swh", "--shots", "-1"], ["shots ≥ 0", "[-1]"]),
        (["--held-out", "swh", "--shots", ","], ["shots ≥ 0"]),
        (["--held-out", "swh", "--draws", "0"], ["draws ≥ 1", "draws=0"]),
        (["--held-out", "swh", "--learners", "auto,rigde"], ["expected a learner", "Did you mean 'ridge'?"]),
        (["--held-out", "swh", "--learners", "auto,auto"], ["different names", "'auto' twice"]),
        (["--held-out", "swh", "--baselines", "zeroshot"], ["expected a baseline", "'zero-shot'?"]),
        (
            ["--held-out", "swh", "--baselines", "none", "--learners", ""],
            ["at least one learner or baseline"],
        ),
        (["--held-out", "swh", "--plot", "plot.xyz"], [".png, .svg, .pdf, found 'plot.xyz'"]),
    ],
)
def test_evaluation_is_refused_before_anything_is_learned(corpus, tmp_path, monkeypatch, options, parts):
    from metaglot import training

    monkeypatch.setattr(training, "fit", lambda *_: pytest.fail("learned first"))
    before = snapshot(tmp_path)
    says(refused("evaluate", corpus, *options), *parts)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--baselines", "target-only-dense"], ["needs dense features", "e5-small"]),
        (["--shots", "0", "--learners", "", "--baselines", "joint"], ["without examples"]),
    ],
)
def test_baselines_that_do_not_suit_the_run(corpus, options, parts):
    says(metaglot("evaluate", corpus, "--held-out", "swh", *QUICK, *options, may=(2,)).err, *parts)


def test_a_held_out_language_needs_something_to_be_judged_on(tmp_path):
    corpus = write_corpus(tmp_path / "village.csv", test=0)
    said = refused("evaluate", corpus, "--held-out", "swh", *QUICK)
    says(said, "expected a test or dev split for the held-out language 'swh'", "test.csv")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["the file is empty"]),
        (b"language,label,text\n", ["found none"]),
        (b"label,text\nmusic,a\n", ["expected a language", "--column language="]),
        (b"language,text\neng,a\n", ["expected a column for the label"]),
        (b"language,label,text\neng,music,a\neng,music,b\n", ["at least two labels", "'eng'"]),
        (GOOD.encode("utf-16"), ["--encoding", "likely utf-16"]),
    ],
)
@pytest.mark.parametrize("command", ["train", "data inspect"])
def test_corpora_that_are_refused(tmp_path, content, parts, command):
    corpus = write(tmp_path / "corpus.csv", content)
    if command == "data inspect" and "at least two labels" in parts:
        assert metaglot("data", "inspect", corpus).code == 0
        return
    out = ("--out", tmp_path / "new", *QUICK) if command == "train" else ()
    says(refused(*command.split(), corpus, *out), *parts)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["train", "home-asistant", "--out", "x"],
            ["found none called 'home-asistant'", "'home-assistant'?"],
        ),
        (["train", "--out", "x"], ["expected CORPUS or --recipe FILE, found neither"]),
        (["data", "inspect", "y" * 4000], ["could not be read: File name too long"]),
        (["list", "lerners"], ["found 'lerners'", "Did you mean 'learners'"]),
        (["predict", "none", "--language", "swh", "x"], ["expected an artifact", "none", "metaglot train"]),
        (["adapt", "none", "--language", "swh", "--examples", "x"], ["expected an artifact"]),
        (["predict", "none", "x"], ["expected --language"]),
        (["predict", "none", "--language", "swh"], ["either texts or --input FILE, found neither"]),
        (["predict", "none", "--language", "swh", "--input", "a", "b"], ["--input FILE, found both"]),
    ],
)
def test_commands_that_are_refused(tmp_path, monkeypatch, arguments, parts):
    monkeypatch.chdir(tmp_path)
    says(refused(*arguments), *parts)
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trian"], ["No such command 'trian'", "train"]),
        (["train", "--learnr", "x"], ["No such option", "--learnr", "--learner"]),
        (["train", "a", "--steps", "many"], ["Invalid value for '--steps'", "valid integer"]),
        (["adapt", "x", "--language", "swh"], ["Missing option", "--examples"]),
        (["list"], ["Missing argument"]),
    ],
)
def test_wrong_usage_is_told_by_the_command_line(arguments, parts):
    done = metaglot(*arguments, may=(2,))
    assert [part for part in parts if part not in done.err] == []
    assert done.out == ""


def test_top_is_one_or_more(assistant):
    says(
        refused("predict", assistant, "--language", "swh", "--top", "0", "x"),
        "--top to be 1 or more, found 0",
    )


# --- recipes


def test_all_that_is_wrong_in_a_recipe_is_told_at_once(tmp_path):
    recipe = write(
        tmp_path / "recipe.toml",
        'corpus = "x"\nlerner = "maml"\nheld_out = "swh"\n[train]\nsteps = 0\nseeds = 1\n',
    )
    said = refused("train", "--recipe", recipe, "--out", tmp_path / "new")
    says(said, recipe, "4 wrong setting(s)", "lerner: no such setting. Did you mean 'learner'?")
    says(said, "held_out: ", "train.steps: ", "train.seeds: no such setting. Did you mean 'seed'")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("corpus = ", ["recipe.toml", "expected TOML"]),
        (b"corpus = '\xff'", ["recipe.toml", "expected TOML"]),
        ("[train]\nsteps = 3\n", ["corpus: Field required"]),
        ("corpus = '{}'\n[learner_options]\nstep = 3\n", ["option of the learner", "'steps'?"]),
        ("corpus = '{}'\n[learner_options]\nsteps = 'x'\n", ["expected a whole number of steps"]),
        ("corpus = '{}'\n[learner_options]\nsteps = -1\n", ["expected a whole number of steps"]),
        ("corpus = '{}'\n[corpus_options]\nper_intent = 9\n", ["are for built-in corpora"]),
        ("corpus = 'home-assistant'\n[corpus_options]\nper_intend = 9\n", ["'per_intent'?"]),
        ("corpus = 'home-assistant'\n[corpus_options]\nper_intent = 'x'\n", ["options of the corpus"]),
        ("corpus = 'home-assistant'\n[corpus_options]\nlanguages = 3\n", ["options of the corpus"]),
        ("corpus = 'home-assistant'\n[corpus_options]\nlanguages = ['xx']\n", ["'xx'"]),
    ],
)
def test_recipes_that_are_refused(corpus, tmp_path, content, parts):
    content = content if isinstance(content, bytes) else content.replace("{}", str(corpus))
    recipe = write(tmp_path / "recipe.toml", content)
    says(refused("train", "--recipe", recipe, "--out", tmp_path / "new", *QUICK), *parts)
    assert not (tmp_path / "new").exists()


# --- the machine's faults


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_costs_nothing_saved(assistant, corpus, tmp_path, monkeypatch):
    file = write(tmp_path / "good.csv", GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        said = refused("adapt", assistant, "--language", "swh", "--examples", file)
        says(
            said, "swh.safetensors", "No space left", "What was saved before is untouched", "The disk is full"
        )
        done = metaglot("train", corpus, *QUICK, "--out", tmp_path / "new", may=(2,))
        says(done.err, "No space left")
        grid = ("evaluate", corpus, "--held-out", "swh", "--shots", 1, "--draws", 1, *QUICK)
        done = metaglot(*grid, "--json", tmp_path / "grid.json", may=(2,))
        says(done.err, "grid.json", "No space left")
        assert "zero-shot" in done.out  # what took long is shown all the same
    assert {p.name for p in tmp_path.iterdir()} <= {"good.csv", "village.csv", "cache"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file sizes are POSIX's")
def test_a_file_that_cannot_grow_is_said(assistant, tmp_path):
    """The system itself refuses to write, not a stand-in."""
    import resource
    import signal

    file = write(tmp_path / "good.csv", GOOD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        said = refused("adapt", assistant, "--language", "swh", "--examples", file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    says(said, "swh.safetensors", "could not write: File too large")


def test_no_permission_is_said(assistant, tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    file = write(tmp_path / "good.csv", GOOD)
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp", denied)
        said = refused("adapt", assistant, "--language", "swh", "--examples", file)
    says(said, "swh.safetensors", "Permission denied", "choose another folder")
    with monkeypatch.context() as patch:
        patch.setattr(artifact, "file_hash", denied)
        said = refused("predict", assistant, "--language", "swh", "x")
    says(said, "recipe.toml", "could not be read: Permission denied")


def test_a_bug_is_called_one(assistant, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the [/sky] is falling")

    monkeypatch.setattr(artifact, "load", broken)
    done = metaglot("predict", assistant, "--language", "swh", "x", may=(1,))
    assert "unexpected error: RuntimeError: the [/sky] is falling This is a bug of metaglot." in done.err
    assert "METAGLOT_DEBUG=1" in done.err


# --- anything at all

ANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
PIECES = [
    *("label", "text", ",", "\n", "\r", '"', "music", "timer", "\t", "{", "}", ":", "[", "]", "id", "1"),
    *("\ufeff", "\0", "语", "🎵", '{"text": "a", "label": "music"}\n'),
]
CONTENTS = st.binary(max_size=80) | st.lists(st.sampled_from(PIECES), max_size=30).map("".join).map(
    str.encode
)


@ANY
@given(texts=st.lists(st.text(st.characters(exclude_categories=[])) | st.sampled_from(["", "\0", "\ud800"])))
def test_any_texts_are_predicted(trained, texts):
    loaded = LOADED.setdefault(trained, artifact.load(trained))
    from metaglot import predict

    for language in ("swh", "yor"):
        found = predict(loaded, texts, language, top=4)
        assert [p.text for p in found] == texts
        assert all(sum(chance for _, chance in p.labels) == pytest.approx(1, abs=1e-4) for p in found)


LOADED = {}


@ANY
@given(content=CONTENTS, suffix=st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet"]))
def test_any_bytes_are_examples_or_refused(trained, tmp_path_factory, content, suffix):
    copy = tmp_path_factory.getbasetemp() / "any"
    if not copy.exists():
        shutil.copytree(trained, copy)
    file = write(tmp_path_factory.getbasetemp() / f"any.{suffix}", content)
    done = metaglot("adapt", copy, "--language", "yor", "--examples", file, may=(0, 2))
    assert ("error: " in done.err) == (done.code == 2)
    metaglot("predict", copy, "--language", "yor", "--input", file, may=(0, 2))


@ANY
@given(content=st.binary(max_size=60), suffix=st.sampled_from(["csv", "txt"]))
def test_any_bytes_are_texts_or_refused(trained, tmp_path_factory, content, suffix):
    file = write(tmp_path_factory.getbasetemp() / f"texts.{suffix}", content)
    metaglot("predict", trained, "--language", "swh", "--input", file, "--json", may=(0, 2))


@ANY
@given(name=st.text(st.characters(exclude_categories=[]), max_size=12))
def test_any_name_is_a_language_or_refused_and_stays_in_its_folder(trained, tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp() / "names"
    if not root.exists():
        shutil.copytree(trained, root / "deep" / "copy")
    file = write(root / "good.csv", GOOD)
    metaglot("adapt", root / "deep" / "copy", "--language", name, "--examples", file, may=(0, 2))
    assert {p.name for p in root.iterdir()} == {"deep", "good.csv"}
    assert {p.name for p in (root / "deep").iterdir()} == {"copy"}
    adaptations = root / "deep" / "copy" / "adaptations"
    assert all(p.is_file() and p.suffix == ".safetensors" for p in adaptations.iterdir())


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_errors_of_odd_letters_are_printed_on_narrow_streams(monkeypatch, stream):
    monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), "ascii"))
    with contextlib.suppress(SystemExit):
        main(["data", "inspect", "/nowhere/水[/x]\udcff"])
    getattr(sys, stream).flush()
    raw = getattr(sys, stream).buffer.getvalue().decode("ascii")
    assert ("\\u6c34[/x]\\udcff" in raw) == (stream == "stderr")
