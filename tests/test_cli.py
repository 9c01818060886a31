"""The command line from training to predicting, by its output, its JSON and its exit codes."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import village
from metaglot import meta_loss
from metaglot.checkpoint import State
from metaglot.cli import main
from metaglot.config import read_recipe
from metaglot.learners import LEARNERS
from metaglot.storage import cache_root
from village import LABELS, QUICK, metaglot, refused, sentences, write_corpus, write_examples

pytestmark = pytest.mark.usefixtures("own_cache")
SHARED_CACHE = os.environ.get("METAGLOT_CACHE")
MODULE = [sys.executable, "-m", "metaglot.cli"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained model's folder, not to be changed."""
    return village.assistant(tmp_path_factory.mktemp("village"))


@pytest.fixture
def assistant(trained, tmp_path):
    """A copy of it that may be changed."""
    return shutil.copytree(trained, tmp_path / "assistant")


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "village.csv")


@pytest.fixture
def examples(tmp_path):
    return write_examples(tmp_path / "swahili.csv")


def predictions(*arguments):
    return [json.loads(line) for line in metaglot("predict", *arguments, "--json").out.splitlines()]


def test_train_says_what_it_did_and_what_comes_next(corpus, tmp_path):
    done = metaglot("train", corpus, "--held-out", "Swahili", "--out", tmp_path / "new", *QUICK)
    assert "Learned from 3 languages and 4 labels with auto." in done.out
    share = re.search(r"has accuracy (\d+\.\d)%", done.out)
    assert float(share[1]) > 50
    assert f"Saved in {tmp_path / 'new'}. Next: metaglot adapt {tmp_path / 'new'} --language" in done.out
    assert "meta-training auto" in done.err
    card = (tmp_path / "new" / "README.md").read_text()
    assert "German (`deu`), English (`eng`), Spanish (`spa`)" in card
    assert {p.name for p in tmp_path.iterdir()} == {"village.csv", "new"}


def test_a_language_is_learned_from_twelve_examples(assistant, examples):
    texts = [text for label in LABELS for text in sentences("swh", label, [7, 8])]
    truth = [label for label in LABELS for _ in range(2)]
    before = predictions(assistant, "--language", "sw", *texts)
    assert [p["adapted"] for p in before] == [False] * 8

    done = metaglot("adapt", assistant, "--language", "Swahili", "--examples", examples)
    assert re.search(r"Adapted to Swahili \(swh\): 12 examples, 4 labels, \d+\.\d\d s, \d+ KB in ", done.out)
    assert re.search(r"[\d.]+% zero-shot → [\d.]+% adapted, gain [+-][\d.]+ points \(95% interval ", done.out)

    after = predictions(assistant, "--language", "swh", *texts)
    right = [
        sum(p["labels"][0]["label"] == t for p, t in zip(x, truth, strict=True)) for x in (before, after)
    ]
    assert right[0] < right[1] == 8
    assert [(p["adapted"], p["language"], p["text"]) for p in after] == [
        (True, "swh", text) for text in texts
    ]
    # Other languages are as they were.
    (other,) = predictions(assistant, "--language", "Zulu", "hello friend")
    assert (other["adapted"], other["language"]) == (False, "zul")


def test_probabilities_are_sorted_and_sum_to_one_over_all_labels(assistant):
    for top, total in ((4, 1.0), (99, 1.0), (2, None)):
        (found,) = predictions(assistant, "--language", "swh", "--top", top, "muziki na alamu")
        chances = [row["probability"] for row in found["labels"]]
        assert len(chances) == min(top, 4)
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1, abs=1e-5) if total else sum(chances) <= 1
        assert len({row["label"] for row in found["labels"]}) == len(chances)


def test_predict_prints_a_table_and_says_zero_shot(assistant, examples):
    told = "Swahili (swh) was never adapted: these are zero-shot predictions"
    done = metaglot("predict", assistant, "--language", "swh", "muziki sasa 9", "--top", 2)
    assert told in done.err
    header, row = done.out.splitlines()
    assert header.split() == ["text", "label"]
    assert re.match(r"muziki sasa 9\s+music \d+%\s+\w+ \d+%\s*$", row)
    metaglot("adapt", assistant, "--language", "swh", "--examples", examples)
    assert told not in metaglot("predict", assistant, "--language", "swh", "muziki sasa 9").err


def test_predict_says_what_it_does_not_know(assistant, examples):
    metaglot("adapt", assistant, "--language", "swh", "--examples", examples)
    command = ["predict", assistant, "--language", "swh", "muziki sasa 9", "qwx"]
    done = metaglot(*command, "--precision", 0.99)
    told = "A precision of 99% cannot be promised: it takes 230 cross-validated examples or more"
    assert told in done.err
    assert re.search(r"^qwx .*unsure", done.out, re.M)
    found = predictions(*command[1:], "--unsure-below", 0.3)
    assert [p["sure"] for p in found] == [p["labels"][0]["probability"] >= 0.3 for p in found]
    assert all(0 < p["scope"] <= 1 and p["in_scope"] for p in found)  # twelve examples mark nothing
    assert "No text can be told to be out of scope" in metaglot(*command, "--recall", 0.95).err
    assert not all(p["in_scope"] for p in predictions(*command[1:], "--recall", 0.5))
    sets = [len(p["labels"]) for p in predictions(*command[1:], "--coverage", 0.9)]
    assert 1 <= min(sets) <= max(sets) <= 4
    assert re.search(r"^Sure from a probability of \d", metaglot(*command, "--precision", 0.3).out)
    for one, other, value in (("coverage", "top", 2), ("precision", "unsure-below", 0.5)):
        assert f"either --{one} or --{other}" in refused(*command, f"--{one}", 0.5, f"--{other}", value)


def test_texts_and_paths_are_printed_as_they_are_written(assistant, tmp_path, examples):
    texts = ["[bold]x", "[/bold]", "[red]", "\\[", "ნახვამდის 👋🏽", "مرحبا", "\udcff"]
    shown = metaglot("predict", assistant, "--language", "swh", *texts).out
    rows = [line.split("  ")[0].strip() for line in shown.splitlines()[1:]]
    assert rows == [*texts[:-1], "\udcff"]
    odd = shutil.move(assistant, tmp_path / "[bold]m[/x]")
    assert f"in {odd}/adaptations" in metaglot("adapt", odd, "--language", "swh", "--examples", examples).out


def test_adapt_prints_json(assistant, examples):
    done = metaglot("adapt", assistant, "--language", "swh", "--examples", examples, "--json")
    found = json.loads(done.out)
    assert (found["language"], found["labels"], found["examples"]) == ("swh", list(LABELS), 12)
    assert found["notices"] == []
    file = assistant / "adaptations" / "swh.safetensors"
    assert (found["file"], found["bytes"]) == (str(file), file.stat().st_size)
    assert 0 <= found["seconds"] < 60
    estimate = found["estimate"]
    assert estimate["low"] <= estimate["adapted"] - estimate["zero_shot"] <= estimate["high"]
    assert (estimate["judged"], estimate["folds"]) == (12, 3)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_input_is_lines_or_a_table(assistant, tmp_path, newline):
    texts = ["muziki sasa", "weka alamu", "", "halo rafiki"]
    lines = tmp_path / "lines.txt"
    lines.write_bytes(newline.join(texts).encode() + newline.encode())
    assert [p["text"] for p in predictions(assistant, "--language", "swh", "--input", lines)] == texts
    table = tmp_path / "table.csv"
    table.write_bytes(newline.join(["n,utt", *(f"{i},{t}" for i, t in enumerate(texts) if t)]).encode())
    found = predictions(assistant, "--language", "swh", "--input", table, "--column", "text=utt")
    assert [p["text"] for p in found] == [t for t in texts if t]


def test_no_texts_give_no_predictions(assistant, tmp_path):
    (tmp_path / "none.txt").write_text("")
    assert predictions(assistant, "--language", "swh", "--input", tmp_path / "none.txt") == []
    assert metaglot("predict", assistant, "--language", "swh", "--input", tmp_path / "none.txt").code == 0


def test_evaluate_prints_a_table_and_writes_every_record(corpus, tmp_path):
    grid, plot = tmp_path / "out" / "grid.json", tmp_path / "plot.svg"
    done = metaglot(
        *("evaluate", corpus, "--held-out", "swh", "--shots", "0,1,4", "--draws", 2, *QUICK),
        *("--learners", "auto,ridge", "--baselines", "zero-shot,target-only", "--json", grid, "--plot", plot),
    )
    for word in ("auto", "ridge", "zero-shot", "target-only", "k = 1", "k = 4"):
        assert word in done.out
    assert "paired 95% interval" in done.out
    found = json.loads(grid.read_text("utf-8"))
    assert {(r["method"], r["shots"], r["draw"]) for r in found["records"]} == {
        (method, shots, draw)
        for method in ("auto", "ridge", "zero-shot", "target-only")
        for shots in (0, 1, 4)
        for draw in range(2 if shots else 1)
        if (method, shots) != ("target-only", 0)
    }
    assert (found["held_out"], found["sources"]) == (["swh"], ["deu", "eng", "spa"])
    assert found["recipe"]["train"]["steps"] == 3
    assert found["summary"]["means"]["auto"]["4"]["mean"] > 0.5
    assert plot.read_text("utf-8").startswith("<?xml")


def test_evaluate_runs_all_that_suit_the_encoder(corpus, tmp_path):
    grid = tmp_path / "grid.json"
    metaglot(
        *("evaluate", corpus, "--held-out", "swh", "--shots", "1", "--draws", 1, *QUICK),
        *("--learners", "all", "--json", grid),
    )
    records = json.loads(grid.read_text("utf-8"))["records"]
    assert [r["method"] for r in records if r["learned"]] == [n for n in LEARNERS if n != "boil"]
    assert [r["method"] for r in records if not r["learned"]] == [
        "majority",
        "zero-shot",
        "target-only",
        "joint",
    ]


@pytest.mark.parametrize("what", ["learners", "kinds", "encoders", "corpora", "baselines"])
def test_list_has_a_line_for_every_name(what):
    described = json.loads(metaglot("list", what, "--json").out)
    assert described
    assert all(described.values())
    shown = metaglot("list", what).out
    assert all(name in shown for name in described)


def test_data_inspect_counts(corpus):
    found = json.loads(metaglot("data", "inspect", corpus, "--json").out)
    assert set(found["languages"]) == {"deu", "eng", "spa", "swh"}
    assert found["languages"]["swh"]["splits"] == {"train": 24, "test": 12}
    shown = metaglot("data", "inspect", corpus).out
    assert "144 examples, 4 languages, 4 labels" in " ".join(shown.split())


def test_the_cache_is_shown_and_cleared(own_cache):
    found = json.loads(metaglot("cache", "show", "--json").out)
    assert (found["folder"], found["encoders"]) == (str(own_cache / "features"), [])
    assert "features in" in metaglot("cache", "show").out
    assert metaglot("cache", "clear").out == "freed 0.0 MB\n"


# --- recipes


def test_an_artifacts_recipe_makes_the_same_artifact_again(corpus, tmp_path):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    options = ("--held-out", "swh", "--sources", "eng,spa", "--learner", "ridge", "--seed", 7, "--rate", 2)
    metaglot("train", corpus, "--out", one, *options, *QUICK)
    metaglot("train", "--recipe", one / "recipe.toml", "--out", two)
    for name in ("learner.safetensors", "model.safetensors", "recipe.toml"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    metaglot("train", "--recipe", one / "recipe.toml", "--out", three, "--seed", 8, "--sources", "deu,eng")
    recipe = read_recipe(three / "recipe.toml", {})
    assert (recipe.train.seed, recipe.sources, recipe.learner) == (8, ("deu", "eng"), "ridge")
    assert (recipe.train.steps, recipe.train.rate, recipe.held_out) == (3, 2.0, ("swh",))
    assert (three / "learner.safetensors").read_bytes() != (one / "learner.safetensors").read_bytes()


def test_a_recipe_says_how_the_corpus_is_read(tmp_path):
    corpus = tmp_path / "old.csv"
    text = write_corpus(tmp_path / "new.csv").read_text("utf-8").replace("label,text", "what,utt")
    corpus.write_text(text.replace("music on", "músic on"), encoding="cp1252")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'corpus = "{corpus}"\nencoding = "cp1252"\nheld_out = ["swh"]\nencoder = "ngrams:64"\n'
        'learner = "auto"\n[learner_options]\nsteps = 3\n[columns]\nlabel = "what"\ntext = "utt"\n'
        "[train]\nsteps = 2\n"
    )
    metaglot("train", "--recipe", recipe, "--out", tmp_path / "one")
    options = ("--encoding", "cp1252", "--column", "label=what", "--column", "text=utt")
    metaglot(
        *("train", corpus, *options, "--held-out", "swh", "--encoder", "ngrams:64", "--steps", 2),
        *("--out", tmp_path / "two"),
    )
    one, two = (read_recipe(tmp_path / name / "recipe.toml", {}) for name in ("one", "two"))
    assert one.learner_options == {"steps": 3}
    assert one.model_copy(update={"learner_options": {}}) == two


# --- stopping and going on


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_a_stopped_training_goes_on_with_the_same_result(corpus, tmp_path, monkeypatch, stop):
    command = ("train", corpus, "--held-out", "swh", "--encoder", "ngrams:256", "--steps", 7)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("corpus = ''\n[train]\ncheckpoint_every = 2\n")
    command = (*command, "--recipe", recipe)
    metaglot(*command, "--out", tmp_path / "whole")

    steps, gradient = [], meta_loss.meta_gradient

    def interrupted(*arguments, **options):
        steps.append(1)
        if len(steps) == stop + 1:
            raise KeyboardInterrupt
        return gradient(*arguments, **options)

    monkeypatch.setattr(meta_loss, "meta_gradient", interrupted)
    done = metaglot(*command, "--out", tmp_path / "parts", may=(130,))
    assert "goes on where it can" in done.err
    assert not (tmp_path / "parts").exists()
    assert (tmp_path / ".parts.checkpoint.safetensors").is_file()

    steps.clear()
    monkeypatch.setattr(meta_loss, "meta_gradient", lambda *a, **k: (steps.append(1), gradient(*a, **k))[1])
    metaglot(*command, "--out", tmp_path / "parts")
    assert len(steps) == 7 - stop
    for name in ("learner.safetensors", "model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_ctrl_c_stops_a_process(corpus, tmp_path):
    out = tmp_path / "parts"
    command = [
        *MODULE,
        "train",
        str(corpus),
        "--held-out",
        "swh",
        "--encoder",
        "ngrams:256",
        "--out",
        str(out),
    ]
    running = subprocess.Popen(
        [*command, "--steps", "1000000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    checkpoint, start = tmp_path / ".parts.checkpoint.safetensors", time.monotonic()
    while not checkpoint.exists() and running.poll() is None and time.monotonic() - start < 60:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    told, faults = running.communicate(timeout=30)
    assert running.returncode == 130, faults
    assert "stopped; nothing that was saved is lost." in " ".join(faults.split())
    assert "Traceback" not in faults
    assert told == ""
    assert not out.exists()
    assert State.unpack(checkpoint.read_bytes())[0].history.steps >= 20


# --- as a process


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, metaglot.cli\n"
        "try: metaglot.cli.main(['train', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*{'torch', 'transformers', 'sklearn', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 10  # torch alone takes longer on a busy machine
    assert done.stderr.strip() == ""
    assert "--held-out" in done.stdout


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("", "Commands"),
        ("train", "--recipe"),
        ("adapt", "--examples"),
        ("predict", "--input"),
        ("evaluate", "--baselines"),
        ("list", "learners"),
        ("demo", "--draws"),
        ("data inspect", "--column"),
        ("cache show", "--json"),
        ("cache clear", "--encoder"),
    ],
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(command, word, flag):
    assert word in metaglot(*command.split(), flag).out


def test_the_version_is_shown():
    import metaglot as package

    assert metaglot("--version").out == f"metaglot {package.__version__}\n"


def test_a_reader_that_leaves_early_is_no_fault(assistant, tmp_path):
    many = tmp_path / "many.txt"
    many.write_text("muziki sasa\n" * 5000)
    command = [*MODULE, "predict", str(assistant), "--language", "swh", "--json", "--input", str(many)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        first = json.loads(running.stdout.readline())
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(60) == 0
    assert first["labels"][0]["label"] == "music"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_the_output_cannot_encode_is_escaped(assistant, monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    text = "\udcff 水 [/x]"
    for json_too in (["--json"], []):
        with pytest.raises(SystemExit) as end:
            main(["predict", str(assistant), "--language", "swh", text, *json_too])
        assert end.value.code == 0
    sys.stdout.flush()
    first, _, row = raw.getvalue().decode(encoding).splitlines()
    assert json.loads(first)["text"] == text
    assert row.startswith("\\udcff " + ("水" if encoding == "utf-8" else "\\u6c34") + " [/x]")


# --- in Python, and with the real encoder


def test_ten_lines_of_python(corpus, examples, tmp_path):
    import metaglot as mg

    corpus = mg.load_corpus(corpus)
    settings = mg.TrainSettings(steps=3)
    recipe = mg.Recipe(corpus="village", encoder="ngrams:256", held_out=("swh",), train=settings)
    model = mg.train(corpus, recipe)
    adapted = mg.adapt(model, "Swahili", mg.load_examples(examples, language="swh"))
    model.adaptations["swh"] = adapted.adaptation
    mg.save(model, tmp_path / "model")
    texts = [text for label in LABELS for text in sentences("swh", label, [7])]
    found = mg.predict(mg.load(tmp_path / "model"), texts, "swh")
    assert [p.labels[0][0] for p in found] == list(LABELS)
    assert found == mg.predict(model, texts, "swh")
    assert all(p.adapted for p in found)


@pytest.mark.e5
def test_the_default_encoder_from_end_to_end(tmp_path, monkeypatch):
    # The encoder, which takes long to write, is where other tests look for it too.
    if SHARED_CACHE is None:
        monkeypatch.delenv("METAGLOT_CACHE")
    else:
        monkeypatch.setenv("METAGLOT_CACHE", SHARED_CACHE)
    corpus = write_corpus(tmp_path / "village.csv", train=3, test=1)
    with corpus.open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.reader(file)) == 65
    examples = write_examples(tmp_path / "swahili.csv", shots=2)
    metaglot("train", corpus, "--held-out", "swh", "--out", tmp_path / "m", "--steps", 2)
    metaglot("adapt", tmp_path / "m", "--language", "swh", "--examples", examples)
    texts = [text for label in LABELS for text in sentences("swh", label, [9])]
    found = predictions(tmp_path / "m", "--language", "swh", *texts)
    assert [p["labels"][0]["label"] for p in found] == list(LABELS)


def test_clearing_the_cache_forgets_what_was_learned_too(corpus, own_cache):
    metaglot(
        "evaluate", corpus, "--held-out", "swh", "--encoder", "ngrams:256", "--steps", 2, "--shots", "0,1"
    )
    kept = list((cache_root() / "learned").glob("*.safetensors"))
    assert len(kept) == 1
    metaglot("cache", "clear", "--encoder", "e5-small")
    assert kept[0].is_file()
    assert "freed" in metaglot("cache", "clear").out
    assert not kept[0].exists()
