"""A corpus of four languages in one small file, and the command line as a function."""

import contextlib
import csv
import io
from typing import NamedTuple

from metaglot.cli import main

# Loan words, so that character n-grams carry something from language to language.
WORDS = {
    "deu": {
        "greet": "hallo freund",
        "music": "musik an",
        "timer": "der alarm",
        "weather": "temperatur heute",
    },
    "eng": {
        "greet": "hello friend",
        "music": "music on",
        "timer": "an alarm",
        "weather": "temperature today",
    },
    "spa": {"greet": "hola amigo", "music": "pon musica", "timer": "alarma ya", "weather": "temperatura hoy"},
    "swh": {
        "greet": "halo rafiki",
        "music": "muziki sasa",
        "timer": "weka alamu",
        "weather": "tempereta leo",
    },
}
LABELS = ("greet", "music", "timer", "weather")
QUICK = ("--encoder", "ngrams:256", "--steps", "3")


class Done(NamedTuple):
    """What a command left: exit code, output and errors, without line breaks in the latter."""

    code: int
    out: str
    err: str


def metaglot(*arguments, may=(0,)):
    """Run a command in this process; its exit code has to be one of `may`, without a traceback."""
    out, err = io.StringIO(), io.StringIO()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
    done = Done(code, out.getvalue(), " ".join(err.getvalue().split()))
    assert "Traceback" not in done.err
    assert done.code in may, done.err
    return done


def refused(*arguments):
    """Run a command that has to be refused: exit code 2, nothing printed but what is wrong."""
    done = metaglot(*arguments, may=(2,))
    assert done.out == ""
    return done.err


def sentences(language, label, numbers):
    return [f"{WORDS[language][label]} {number}" for number in numbers]


def write_corpus(path, languages=tuple(WORDS), *, train=6, test=3):
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "language", "split", "label", "text"])
        for language in languages:
            for label in LABELS:
                for i, text in enumerate(sentences(language, label, range(train + test))):
                    split = "train" if i < train else "test"
                    rows.writerow([f"{language}-{label}-{i}", language, split, label, text])
    return path


def write_examples(path, language="swh", shots=3, labels=LABELS):
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "text"])
        rows.writerows([label, text] for label in labels for text in sentences(language, label, range(shots)))
    return path


def snapshot(folder):
    """Every file of a folder, hidden ones too, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assistant(folder):
    """Train a small model on all languages but Swahili; return its folder."""
    corpus = write_corpus(folder / "village.csv")
    metaglot("train", corpus, "--held-out", "swh", "--out", folder / "assistant", *QUICK)
    return folder / "assistant"
