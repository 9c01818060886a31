"""Files and folders → tables: which file holds which language and split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

from metaglot.data.problems import Problems
from metaglot.data.readers import FORMATS, Row, read_rows
from metaglot.data.rows import SPLIT_NAMES, Table
from metaglot.errors import DataError, LanguageError, Where, suggestion
from metaglot.languages import parse_language

_LAYOUT = (
    "Expected one file with a language column, or a folder with "
    f"<language>/{{train,dev,test}}.{{{','.join(suffix[1:] for suffix in FORMATS)}}}."
)
_TREEBANK = re.compile(r"(\w+)-ud-(train|dev|test)")
"""What Universal Dependencies call a treebank's files: `sw_example-ud-test.conllu`."""

_SHOTS = re.compile(r"train_(\d+)_?shots?")


def find_tables(path: Path, encoding: str, notices: list[str]) -> list[Table]:
    """Find the tables of a file, or of a folder in one of these layouts.

        <language>/{train,dev,test}.jsonl    one folder a language
        {train,dev,test}/<language>.jsonl    one folder a split
        {train,dev,test}.jsonl               one file a split, with a language column
        <language>.jsonl                     one file a language
        <treebank>-ud-{train,dev,test}.conllu    Universal Dependencies' own names, in folders or not

    Args:
        path: the file or folder.
        encoding: of the files.
        notices: is told of files that are left out.

    Raises:
        DataError: there are no such files, or two for one split of one language.
    """
    if path.is_file():
        return [_table(path, encoding, *_named(path))]
    if was_saved(path):
        raise DataError(
            "expected data files, found a folder that the library datasets saved.",
            where=Where(path),
            hint=f"Load it as hf:{path}.",
        )
    try:
        folders = [
            folder for folder in sorted(path.iterdir()) if folder.is_dir() and folder.name[0] not in "._"
        ]
        inner = {folder: files for folder in folders if (files := _data_files(folder))}
        flat = _data_files(path)
    except OSError as error:
        raise DataError(f"could not be read: {error.strerror or error}.", where=Where(path)) from error
    if not inner:
        return _flat(path, flat, encoding)
    ignored = [file.name for file in flat]
    tables: list[Table] = []
    few_shot: dict[str, str] = {}
    for folder, files in inner.items():
        if split := SPLIT_NAMES.get(folder.name.casefold()):
            tables += [_table(file, encoding, language=file.stem, split=split) for file in files]
            continue
        chosen = _by_split(files)
        if "train" not in chosen and (largest := max(files, key=_shots)) and _shots(largest):
            chosen["train"] = largest
            few_shot[folder.name] = largest.name
        tables += [
            _table(file, encoding, _named(file)[0] or folder.name, split) for split, file in chosen.items()
        ]
        ignored += [file.name for file in files if file not in chosen.values()]
    if not tables:
        raise DataError(
            f"found no file that is named after a split, but {_counted(ignored)}.",
            where=Where(path),
            hint=_LAYOUT,
        )
    if few_shot:
        notices.append(
            f"{_counted(few_shot.values())} is the train split of the languages that have no train file: "
            f"{', '.join(few_shot)}."
        )
    if ignored:
        notices.append(f"Files that are not named after a split were left out: {_counted(ignored)}.")
    return tables


def existing(name: str, corpora: Collection[str] = ()) -> Path:
    """Return the path of a file or folder that there is.

    Raises:
        DataError: there is none; the message suggests one, or one of the built-in `corpora`.
    """
    path = Path(name).expanduser()
    try:
        there = path.exists()
    except OSError as error:
        raise DataError(f"could not be read: {error.strerror or error}.", where=Where(path)) from error
    if not there:
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        wanted = f"a corpus ({', '.join(corpora)}), a file or a folder" if corpora else "a file"
        raise DataError(
            f"expected {wanted}, found none called {name!r}.",
            hint=suggestion(name, corpora)
            or suggestion(path.name, beside)
            or ("Data sets of the hub begin with hf:." if corpora else ""),
        )
    return path


def was_saved(folder: Path) -> bool:
    """Tell whether a folder was written by `save_to_disk` of the library `datasets`."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _flat(path: Path, files: list[Path], encoding: str) -> list[Table]:
    """Find the tables of a folder without folders: a file a split, or a file a language."""
    if not files:
        raise DataError("found no data files in the folder.", where=Where(path), hint=_LAYOUT)
    if all(map(_TREEBANK.fullmatch, (file.stem for file in files))):
        return [_table(file, encoding, *_named(file)) for file in files]
    if chosen := _by_split(files):
        return [_table(file, encoding, split=split) for split, file in chosen.items()]
    strangers = [file.name for file in files if not _names_language(file.stem)]
    if strangers:
        raise DataError(
            f"found files that are named after neither a split nor a language: {', '.join(strangers[:5])}.",
            where=Where(path),
            hint=_LAYOUT,
        )
    return [_table(file, encoding, language=file.stem) for file in files]


def _by_split(files: Iterable[Path]) -> dict[str, Path]:
    chosen: dict[str, Path] = {}
    for file in files:
        split = _named(file)[1]
        if not split:
            continue
        if split in chosen:
            raise DataError(
                f"expected one file of the split {split!r}, found two: {chosen[split].name} and {file.name}.",
                where=Where(file.parent),
                hint="Remove one of them.",
            )
        chosen[split] = file
    return chosen


def _named(file: Path) -> tuple[str, str]:
    """Return the language and the split that a file's name says; empty where it does not."""
    if treebank := _TREEBANK.fullmatch(file.stem):
        return treebank[1], treebank[2]
    return "", SPLIT_NAMES.get(file.stem.casefold(), "")


def _table(file: Path, encoding: str, language: str = "", split: str = "") -> Table:
    return Table(file, partial(_read, file, encoding), language, split)


def _read(file: Path, encoding: str, problems: Problems) -> Iterable[Row]:
    return read_rows(file, encoding, problems)


def _data_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in FORMATS and file.name[0] not in "._" and file.is_file()
    )


def _shots(file: Path) -> int:
    match = _SHOTS.fullmatch(file.stem.casefold())
    return int(match[1]) if match else 0


def _names_language(name: str) -> bool:
    try:
        parse_language(name)
    except LanguageError:
        return False
    return True


def _counted(names: Iterable[str]) -> str:
    shown = [f"{name} ({count}×)" if count > 1 else name for name, count in Counter(names).items()]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
