"""Where a search that was stopped goes on: a file of JSON lines.

The first line says what all the others have in common, and each of them what one combination reached
in one fold: `{"combination": key, "values": {…}, "fold": n, "accuracy": {language: {k: [by draw]}}}`, or
`"failed"` and why.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from metaglot.errors import DataError, SettingsError, Where
from metaglot.storage import explained, write_text

Line = dict[str, Any]


class Ledger:
    """The results of a search, line by line.

    Args:
        path: the file, made where there is none; None keeps them in memory alone. A half-written last
            line, which a kill leaves, is dropped.
        header: what results have to have in common to be compared.

    Raises:
        SettingsError: the file's results have another header.
        DataError: the file is damaged, or something else.
    """

    def __init__(self, path: Path | None, header: Line) -> None:
        self._path = path
        self._lines: dict[tuple[str, int], Line] = {}
        # As it will be read: tuples are lists there, and numbers as keys are strings.
        header = json.loads(json.dumps(header))
        if path is None:
            return
        lines, whole = _read(path) if path.exists() else ([header], False)
        for name, value in header.items():
            if lines[0].get(name) != value:
                raise SettingsError(
                    f"expected {name} to be as in the results that are there, "
                    f"{_short(lines[0].get(name))}, found {_short(value)}: the two cannot be compared.",
                    where=Where(path),
                    hint="Write to another file, or remove this one.",
                )
        if not whole:
            write_text(path, "".join(map(_written, lines)))
        for number, line in enumerate(lines[1:], 2):
            try:
                self._lines[line["combination"], line["fold"]] = line
            except KeyError as error:
                raise _damaged(path, number) from error

    def __contains__(self, place: object) -> bool:
        return place in self._lines

    def __getitem__(self, place: tuple[str, int]) -> Line:
        return self._lines[place]

    def add(self, line: Line) -> None:
        """Keep a line, which is on the disk when this returns."""
        line = json.loads(text := _written(line))
        if self._path is not None:
            with explained(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        self._lines[line["combination"], line["fold"]] = line


def _read(path: Path) -> tuple[list[Line], bool]:
    """The lines of a file, and whether the last one is whole; one without an end is left out."""
    try:
        *texts, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise DataError(f"could not be read: {error.strerror or error}.", where=Where(path)) from error
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise _damaged(path, number) from error
        if not isinstance(line, dict):
            raise _damaged(path, number)
        lines.append(line)
    if not lines:
        raise _damaged(path, 1)
    return lines, not rest


def _damaged(path: Path, line: int) -> DataError:
    return DataError(
        "expected a line of a search's results, found something else.",
        where=Where(path, line),
        hint="Remove the line, and what it stood for is tried again; or write to another file.",
    )


def _written(line: Line) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
