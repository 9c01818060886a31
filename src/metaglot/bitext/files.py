"""Files and folders → tables of pairs: what their names say of languages and splits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from metaglot.bitext.columns import language_of
from metaglot.bitext.lines import read_in_step, read_two_columns
from metaglot.bitext.po import messages, read_po
from metaglot.bitext.tmx import read_tmx
from metaglot.data.problems import Problems
from metaglot.data.readers import Row
from metaglot.data.rows import SPLIT_NAMES
from metaglot.errors import DataError, Where
from metaglot.storage import text_hash

TABLES = (".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet")
# Endings that are also some language's code.
_OTHERS = {
    *TABLES, ".po", ".pot", ".mo", ".tmx", ".txt", ".md", ".html", ".xml", ".gz", ".bz2", ".xz", ".zip",
    ".py", ".sh", ".log", ".ini", ".cfg", ".sgm", ".bpe", ".doc", ".pdf", ".tmp", ".bak", ".arrow", ".lock",
}  # fmt: skip
_CODE = r"[A-Za-z]{2,3}(?:[_-][A-Za-z0-9]{2,8})*"
_LAYOUT = (
    "Expected a .tsv, .csv, .jsonl, .parquet, .tmx or .po file; two files such as train.en and train.sw; or "
    "a folder of such, where folders or files are called as their languages are: en-sw/train.tsv, en-sw.tsv."
)


@dataclass(frozen=True)
class PairTable:
    """Rows from one place, and what the place's name says of them.

    Attributes:
        place: the file, for messages.
        read: yields the rows; called once, with where faults go.
        languages: of `source` and `target`, where they are known.
        split: of all rows; empty where they or nobody says it.
    """

    place: str | Path
    read: Callable[[Problems], Iterable[Row]]
    languages: tuple[str, str] = ("", "")
    split: str = ""


def find_tables(path: Path, encoding: str) -> list[PairTable]:
    """Find the tables of a file, of files in step (`corpus/train` for `train.en` and `train.sw`) or a folder.

    Raises:
        DataError: there are none, or the file is of no known format.
    """
    if path.is_dir():
        tables = [*_of_folder(path, encoding, _pair_name(path))]
        if not tables:
            raise DataError("found no sentence pairs in the folder.", where=Where(path), hint=_LAYOUT)
        return tables
    if path.is_file():
        if path.suffix.lower() not in {*TABLES, ".tmx", ".po"}:
            raise DataError(
                f"expected a file of a known format, found {path.suffix!r}.", where=Where(path), hint=_LAYOUT
            )
        return [_of_file(path, encoding, _pair_name(path.parent), "")]
    beside = _in_step([p for p in _files(path.parent) if p.name.startswith(f"{path.name}.")])
    if path.name not in beside:
        raise DataError(f"expected a file or a folder, found none called {str(path)!r}.", hint=_LAYOUT)
    return [_moses(path, beside[path.name], encoding, "")]


def pair_of(name: str) -> tuple[str, str] | None:
    """Return the two languages, as they are written, of a name such as `en-sw` or `zho_Hans-eng_Latn`."""
    for sign in "-_":
        for cut in (match.start() for match in re.finditer(sign, name)):
            both = name[:cut], name[cut + 1 :]
            if all(re.fullmatch(_CODE, each) and language_of(each) for each in both):
                return both
    return None


def _of_folder(folder: Path, encoding: str, pair: str = "", split: str = "") -> Iterator[PairTable]:
    """Yield the tables of a folder and those in it, whose names go on saying the languages and the split."""
    files = _files(folder)
    for stem, group in _in_step(files).items():
        yield _moses(folder / stem, group, encoding, split)
    for file in files:
        if file.suffix.lower() in {*TABLES, ".tmx", ".po"}:
            yield _of_file(file, encoding, pair, split)
    for inner in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._"):
        said = SPLIT_NAMES.get(inner.name.casefold(), "")  # before languages: "dev" is one's code
        here = inner.name if not said and (pair_of(inner.name) or language_of(inner.name)) else pair
        yield from _of_folder(inner, encoding, here, said or split)


def _of_file(file: Path, encoding: str, pair: str, split: str) -> PairTable:
    named, said = _named(file.stem)
    languages = pair_of(named or pair) or ("", "")
    split = said or split
    if file.suffix.lower() == ".po":
        # Its header says the language best; the folder's name is one in sw/LC_MESSAGES/django.po.
        by_name = file.stem if language_of(file.stem) else pair
        return PairTable(file, partial(_read_po, file), ("en", _po_language(file) or by_name), split)
    read = read_tmx if file.suffix.lower() == ".tmx" else read_two_columns
    return PairTable(file, partial(read, file, encoding), languages, split)


def _moses(place: Path, group: Mapping[str, Path], encoding: str, split: str) -> PairTable:
    return PairTable(place, partial(read_in_step, group, encoding), split=_named(place.name)[1] or split)


def _pair_name(folder: Path) -> str:
    """Return the name of a folder that is called as two languages are, else nothing."""
    name = folder.resolve().name
    return name if pair_of(name) else ""


def _in_step(files: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Return the stems that several files have whose endings are languages, each with language → file."""
    found: dict[str, dict[str, Path]] = {}
    for file in files:
        ending = file.suffix.removeprefix(".")
        if file.suffix.lower() not in _OTHERS and re.fullmatch(_CODE, ending) and language_of(ending):
            found.setdefault(file.stem, {})[ending] = file
    return {stem: group for stem, group in found.items() if len(group) > 1}


def _named(stem: str) -> tuple[str, str]:
    """Return what a file's name says: its languages as they are written, and its split."""
    pair, split = "", ""
    for part in stem.split("."):
        if part.casefold() in SPLIT_NAMES:
            split = split or SPLIT_NAMES[part.casefold()]
        elif pair_of(part):
            pair = pair or part
    return pair, split


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.name[0] not in "._" and p.is_file())
    except OSError as error:
        raise DataError(f"could not be read: {error.strerror or error}.", where=Where(folder)) from error


def _po_language(file: Path) -> str:
    said = str(read_po(file).metadata.get("Language", ""))
    return said if language_of(said) else ""


def _read_po(file: Path, problems: Problems) -> Iterator[Row]:
    """Yield what a catalogue has a translation of that is not marked fuzzy."""
    del problems
    for entry, group in messages(read_po(file), file):
        for message in group:
            if message.target.strip() and not entry.fuzzy:
                form = "" if message.form is None else f"/{message.form}"
                yield (
                    message.line,
                    {
                        "source": message.source,
                        "target": message.target,
                        "id": text_hash(message.context, message.msgid)[:12] + form,
                        "group": text_hash(message.msgid)[:12],
                        "note": message.note,
                    },
                )
