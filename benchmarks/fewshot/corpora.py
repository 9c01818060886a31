"""The corpora, and how each is divided into sources and held-out languages: every one is held out once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.fewshot import sib, structured
from benchmarks.fewshot.folds import Benchmark, Fold, leave_some_out
from metaglot.data import load_corpus
from metaglot.data.home_assistant import SOURCES
from metaglot.data.problems import Problems
from metaglot.data.readers import read_rows
from metaglot.demo import HELD_OUT
from metaglot.errors import DataError, SettingsError, UnknownNameError, Where, suggestion
from metaglot.languages import parse_language
from metaglot.types import Corpus, Example

# MasakhaNEWS: what of an article is read, and how many train articles of a label count.
_CHARACTERS = 800
_PER_LABEL = 60
_FOLDS = 4


def load(name: str, data: Path | None) -> Benchmark:
    """Load a corpus of `CORPORA`.

    Args:
        name: its name.
        data: the folder that holds the corpora's folders; not needed for the built-in one.

    Raises:
        UnknownNameError: there is no such corpus.
        SettingsError: it needs a folder.
        DataError: the folder does not have it.
    """
    if name not in CORPORA:
        raise UnknownNameError(
            f"expected a corpus ({', '.join(CORPORA)}), found {name!r}.", hint=suggestion(name, CORPORA)
        )
    folder, make = CORPORA[name]
    if not folder:
        return make(Path())
    if data is None:
        raise SettingsError(f"expected --data DIR with the folder {folder}/ in it for {name!r}, found none.")
    if not (data / folder).is_dir():
        raise DataError(
            f"expected the folder {folder}/ of the corpus {name!r}, found none.",
            where=Where(data),
            hint="benchmarks/README.md says where to get it and how it has to be laid out.",
        )
    return make(data / folder)


def injongo(folder: Path) -> Benchmark:
    """Injongo: 40 intents in 16 African languages; four are held out in each of four folds.

    English, a source in every fold, gives its train split alone: its test sentences are all in there too.
    """
    corpus = load_corpus(folder, parallel=False)
    kept = tuple(e for e in corpus.examples if (e.language, e.split) != ("eng", "test"))
    corpus = replace(corpus, name="injongo", examples=kept)
    return Benchmark(corpus, leave_some_out(corpus.languages, _FOLDS, "injongo", always=("eng",)))


def masakhanews(folder: Path) -> Benchmark:
    """MasakhaNEWS: 7 topics in 16 languages; each is held out once, and all others are its sources.

    Examples are drawn from train and judged on the official test split, as in the MTEB benchmark. An
    article is its headline and what fits of its text into 800 characters; of each label the 60 train
    articles with the smallest SHA-256 count. Where there is no whole train split, the release's own 50
    articles per label are it.
    """
    examples, problems = [], Problems()
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        train = next((f for n in ("train", "train_50shot") if (f := place / f"{n}.jsonl").is_file()), None)
        files = {"train": train, "dev": place / "dev.jsonl", "test": place / "test.jsonl"}
        for split, file in files.items():
            if file is None or not file.is_file():
                problems.add(f"expected a file of the {split} split, found none.", Where(place))
                continue
            rows = _articles(file, parse_language(place.name), split, problems)
            examples += _capped(rows) if split == "train" else rows
    problems.raise_any()
    corpus = Corpus("masakhanews", tuple(examples), source=str(folder.name))
    folds = [
        Fold(code, tuple(other for other in corpus.languages if other != code), (code,))
        for code in corpus.languages
    ]
    return Benchmark(corpus, tuple(folds))


def sib200(folder: Path) -> Benchmark:
    """SIB-200: 7 topics in 205 varieties, a parallel corpus; each is held out once, with all of its kin."""
    corpus = replace(load_corpus(folder, parallel=True), name="sib200")
    return Benchmark(corpus, tuple(Fold(*fold) for fold in sib.folds(corpus.languages)))


def home_assistant(folder: Path) -> Benchmark:
    """The built-in corpus: voice commands from templates, with the six held-out languages of the demo."""
    corpus = load_corpus("home-assistant", options={"languages": [*SOURCES, *HELD_OUT]})
    return Benchmark(corpus, (Fold("demo", tuple(SOURCES), HELD_OUT),))


CORPORA: dict[str, tuple[str, Callable[[Path], Benchmark]]] = {
    "injongo": ("injongo_intent", injongo),
    "masakhanews": ("masakhanews", masakhanews),
    "sib200": ("sib200", sib200),
    "home-assistant": ("", home_assistant),
    "ud-pos": ("ud_pos", structured.ud_pos),
    "uner": ("uner", structured.uner),
    "injongo-slots": ("injongo_intent", structured.injongo_slots),
    "injongo-frames": ("injongo_intent", structured.injongo_frames),
    "home-assistant-slots": ("", structured.home_assistant_slots),
    "home-assistant-frames": ("", structured.home_assistant_frames),
    "afrixnli": ("afrixnli", structured.afrixnli),
    "relx": ("relx", structured.relx),
    "mtop": ("mtop", structured.mtop),
}
"""Name → the folder it is in (none for the built-in one), and what reads it."""


def _articles(file: Path, language: str, split: str, problems: Problems) -> list[Example]:
    found = []
    for line, row in read_rows(file, "utf-8", problems):
        missing = [name for name in ("headline", "text", "label") if not isinstance(row.get(name), str)]
        if missing:
            problems.add(f"expected a text, found {row.get(missing[0])!r}.", Where(file, line, missing[0]))
            continue
        found.append(Example(f"{split}/{line}", _read(row), row["label"], language, split))
    return found


def _read(row: Any) -> str:
    """What of an article is read; its hash decides whether a train article counts."""
    return f"{row['headline']}\n{row['text']}"[:_CHARACTERS]


def _capped(rows: list[Example]) -> list[Example]:
    by_label: defaultdict[str, list[Example]] = defaultdict(list)
    for row in sorted(rows, key=lambda e: hashlib.sha256(e.text.encode()).hexdigest()):
        by_label[row.label].append(row)
    return [row for label in sorted(by_label) for row in by_label[label][:_PER_LABEL]]
