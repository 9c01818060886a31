"""One file → rows: CSV, TSV, JSON lines, JSON arrays, CoNLL and Parquet, streamed.

A row is the number of the line that it begins on and its fields by name. Faults of single rows go to
`Problems` and the reading goes on; a fault that makes the rest of the file unreadable ends it.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

from metaglot.data.conll import read_conll, read_conllu
from metaglot.data.encodings import read_lines
from metaglot.data.fewrel import fewrel_rows
from metaglot.data.problems import Problems
from metaglot.errors import DataError, MissingExtraError, Where

Row: TypeAlias = tuple[int, Mapping[str, Any]]
Quoting: TypeAlias = Literal[0, 3]
Reader: TypeAlias = Callable[[Path, str, Problems], Iterator[Row]]

_BROKEN = object()
_GAP = frozenset(" \t\r\n,")
_NO_ESCAPE = 'Write a quote inside a quoted cell twice (""), and close every quote that a cell begins with.'


def read_rows(path: Path, encoding: str, problems: Problems) -> Iterator[Row]:
    """Yield the rows of one file.

    Raises:
        DataError: the file's name ends in none of the known formats, or it cannot be opened.
        SettingsError: no such encoding.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    reader = FORMATS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"expected a file of a known format ({', '.join(FORMATS)}), found {path.suffix!r}.",
            where=Where(path),
            hint="Rename or convert it; compressed files have to be unpacked first.",
        )
    return reader(path, encoding, problems)


def _csv(path: Path, encoding: str, problems: Problems) -> Iterator[Row]:
    lines = read_lines(path, encoding, problems)
    first = next(lines, "")
    # Where the decimal sign is a comma, spreadsheets write semicolons.
    delimiter = "," if "," in first else max(";\t|", key=first.count)
    return _delimited(path, chain([first], lines), delimiter, csv.QUOTE_MINIMAL, problems)


def _tsv(path: Path, encoding: str, problems: Problems) -> Iterator[Row]:
    """Read a TSV whose quotes quote, or are plain characters: both are written.

    They quote where the whole file parses so, with all its rows of one width.
    """

    def widths(quoting: Quoting) -> set[int]:
        reader = csv.reader(
            read_lines(path, encoding, Problems()), delimiter="\t", quoting=quoting, strict=True
        )
        return {len(row) for row in reader if row}

    _allow_long_cells()
    try:
        quoted = len(widths(csv.QUOTE_MINIMAL)) == 1 or len(widths(csv.QUOTE_NONE)) != 1
    except csv.Error:
        quoted = False
    quoting: Quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return _delimited(path, read_lines(path, encoding, problems), "\t", quoting, problems)


def _delimited(
    path: Path, lines: Iterable[str], delimiter: str, quoting: Quoting, problems: Problems
) -> Iterator[Row]:
    _allow_long_cells()
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cause = "end" in str(error) and "a quote that is opened here and never closed"
            problems.add(
                f"expected a row of cells, found {cause or 'text after a closing quote'}; "
                "the rest of the file was not read.",
                Where(path, line),
                _NO_ESCAPE,
            )
            return
        if not cells:
            continue
        if header is None:
            header = [name.strip() for name in cells]
            twice = [name for name, count in Counter(header).items() if name and count > 1]
            if twice:
                problems.add(
                    f"expected column names that differ, found {twice[0]!r} more than once.",
                    Where(path, line),
                )
                return
        elif len(cells) != len(header):
            problems.add(
                f"expected {len(header)} cells as in the header, found {len(cells)}.",
                Where(path, line),
                f"Quote a cell that has a {delimiter!r} or a line break in it."
                if quoting == csv.QUOTE_MINIMAL
                else "",
            )
        else:
            yield line, dict(zip(header, cells, strict=True))


def _allow_long_cells() -> None:
    """Lift the csv module's limit of 128 KiB a cell; it is the process's, so never lowered."""
    csv.field_size_limit(max(csv.field_size_limit(), min(sys.maxsize, 2**31 - 1)))


def _json(path: Path, encoding: str, problems: Problems) -> Iterator[Row]:
    """Read JSON lines, one JSON array of objects, or one object, which may be FewRel's."""
    lines = read_lines(path, encoding, problems)
    first = True
    for number, line in enumerate(lines, 1):
        start = line.lstrip()
        if start.startswith("["):
            yield from _json_array(path, "\n" * (number - 1) + line + "".join(lines), problems)
            return
        if first and start.rstrip() and path.suffix.lower() == ".json" and not _is_json(line):
            line = "\n" * (number - 1) + line + "".join(lines)  # noqa: PLW2901 - one object on many lines
            number = 1  # noqa: PLW2901
        if start:
            first = False
            value = _parsed(json.loads, line.rstrip("\r\n"), path, number, problems)
            if rows := fewrel_rows(value):
                yield from ((number, row) for row in rows)
            elif isinstance(value, dict):
                yield number, value
            elif value is not _BROKEN:
                problems.add(f"expected a JSON object, found {line.strip()[:40]!r}.", Where(path, number))


def _json_array(path: Path, text: str, problems: Problems) -> Iterator[Row]:
    decode = json.JSONDecoder().raw_decode
    position, line, counted = text.index("[") + 1, 1, 0
    while True:
        while text[position : position + 1] in _GAP:
            position += 1
        line += text.count("\n", counted, position)
        counted = position
        if text[position : position + 1] == "]":
            return
        found = _parsed(partial(decode, idx=position), text, path, 1, problems)
        if found is _BROKEN:
            return
        value, position = found
        if isinstance(value, dict):
            yield line, value
        else:
            problems.add(f"expected a JSON object, found {str(value)[:40]!r}.", Where(path, line))


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(parse: Callable[[str], Any], text: str, path: Path, first_line: int, problems: Problems) -> Any:
    """Return what `parse` makes of `text`, which begins on `first_line`, or `_BROKEN`."""
    line = first_line
    try:
        return parse(text)
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        fault = f"expected JSON, found a fault at column {error.colno}: {error.msg}."
    except (ValueError, RecursionError) as error:  # a number of > 4,300 digits; thousands of brackets
        fault = f"expected JSON, found what cannot be read: {error}."
    problems.add(fault, Where(path, line), "Write one JSON object on each line.")
    return _BROKEN


def _parquet(path: Path, encoding: str, problems: Problems) -> Iterator[Row]:
    try:
        import pyarrow  # noqa: PLC0415 - an optional extra
        import pyarrow.parquet as parquet  # noqa: PLC0415, PLR0402
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", f"Reading {path.name}") from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = _features(file.schema_arrow.metadata or {})
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield (
                        number,
                        {
                            key: class_names(names[key], value) if key in names else value
                            for key, value in row.items()
                        },
                    )
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        problems.add(f"expected a Parquet file, found a fault: {reason}.", Where(path, number or None))


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Read the label names that `datasets` stores beside a column of label numbers, or of lists of them."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        found = {name: f.get("feature", f) for name, f in features.items() if isinstance(f, dict)}
        return {name: list(f["names"]) for name, f in found.items() if f.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def class_names(names: Sequence[str], value: Any) -> Any:
    """Return the name of a label's number, or the names of a list of them.

    What stands for none (−1) is None, and a name is itself.
    """
    if isinstance(value, list):
        return [class_names(names, each) for each in value]
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


FORMATS: dict[str, Reader] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".parquet": _parquet,
    ".conll": read_conll,
    ".iob": read_conll,
    ".bio": read_conll,
    ".conllu": read_conllu,
}
