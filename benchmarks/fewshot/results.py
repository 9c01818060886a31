"""Result files: JSON lines, one for each method and language, which a killed run goes on from.

{"header": …}    what all lines of the file have in common: corpus, shots, draws, seed, training
{"run": …}       one each time that something is added: methods, versions, machine, commit
{"corpus": …, "fold": …, "encoder": …, "method": …, "learned": …, "language": …, "tests": …,
 "examples": {k: n}, "metric": "accuracy", "accuracy": {k: [a number for each draw]},
 "log_loss": {k: mean}, "calibration_error": {k: mean}, "macro_f1": {k: mean}}

"metric" is what counts for the corpus's kind, accuracy where a line does not say it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metaglot.errors import DataError, SettingsError, Where
from metaglot.evaluation.grid import Record
from metaglot.storage import explained, write_text

_DIGITS = 5

Row = dict[str, Any]


class Unit(NamedTuple):
    """What one line is about."""

    corpus: str
    fold: str
    encoder: str
    method: str
    language: str

    @classmethod
    def of(cls, row: Row) -> Unit:
        """Return a line's unit."""
        return cls(*(row[name] for name in cls._fields))


class ResultFile:
    """A file of results that grows by a line at a time.

    Args:
        path: the file; made where there is none. A half-written last line, which a kill leaves, is dropped.
        header: what all of its lines have to have in common.

    Raises:
        SettingsError: the file has another header: results that do not pair with the new ones.
        DataError: the file is damaged in another way.
    """

    def __init__(self, path: Path, header: Row) -> None:
        self.path = path
        # As it will be read: tuples are lists there, and numbers as keys are strings.
        self.header = json.loads(json.dumps(header))
        self.rows: list[Row] = []
        if not path.exists():
            write_text(path, _line({"header": self.header}))
            return
        lines, whole = _parsed(path)
        if not lines:
            write_text(path, _line({"header": self.header}))
            return
        if not whole:
            write_text(path, "".join(_line(line) for line in lines))
        found = lines[0].get("header", {})
        for name, value in self.header.items():
            if found.get(name) != value:
                raise SettingsError(
                    f"expected {name} to be as in the results that are there, {found.get(name)!r}, "
                    f"found {value!r}: the two would not pair.",
                    hint=f"Write to another file, or remove {path}.",
                )
        self.rows = [line for line in lines if "method" in line]

    def done(self) -> set[Unit]:
        """Return the units that have their line."""
        return {Unit.of(row) for row in self.rows}

    def forget(self, units: set[Unit]) -> None:
        """Remove the lines of some units, to be judged again."""
        lines, _ = _parsed(self.path)
        kept = [line for line in lines if "method" not in line or Unit.of(line) not in units]
        write_text(self.path, "".join(_line(line) for line in kept))
        self.rows = [line for line in kept if "method" in line]

    def add(self, line: Row) -> None:
        """Append a line, which is on the disk when this returns."""
        with explained(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))
            file.flush()
            os.fsync(file.fileno())
        if "method" in line:
            self.rows.append(line)


def row_of(unit: Unit, records: Sequence[Record], *, tests: int) -> Row:
    """Return the line of one method and language.

    Args:
        unit: what it is about.
        records: the method's, of this language, one for each number of shots and draw.
        tests: how many examples it was judged on.
    """
    by_shots: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.shots, r.draw)):
        by_shots.setdefault(record.shots, []).append(record)

    def mean(values: list[float]) -> float:
        return round(sum(values) / len(values), _DIGITS)

    metric, *others = records[0].metrics
    return {
        **unit._asdict(),
        "learned": records[0].learned,
        "tests": tests,
        "examples": {k: max(r.examples for r in found) for k, found in by_shots.items()},
        "metric": metric,
        metric: {k: [round(r.metrics[metric], _DIGITS) for r in f] for k, f in by_shots.items()},
        **{name: {k: mean([r.metrics[name] for r in f]) for k, f in by_shots.items()} for name in others},
    }


def read_rows(paths: Iterable[Path]) -> list[Row]:
    """Return the result lines of several files; of a unit that stands in two, the last one.

    Raises:
        DataError: a file is damaged.
    """
    found: dict[Unit, Row] = {}
    for path in paths:
        for line in _parsed(path)[0]:
            if "method" in line:
                found[Unit.of(line)] = line
    return list(found.values())


def metric_of(row: Row) -> str:
    """Return the name of the metric that a line has of every draw."""
    return str(row.get("metric", "accuracy"))


def records_of(rows: Iterable[Row], metric: str | None = None) -> list[Record]:
    """Return lines as records of one metric; of one that lines have the mean of, one record a line and k."""
    return [
        Record(
            row["method"], row["learned"], row["language"], int(k), draw, row["examples"][k], {name: value}
        )
        for row in rows
        for name in [metric or metric_of(row)]
        for k, values in row[name].items()
        for draw, value in enumerate(values if isinstance(values, list) else [values])
    ]


def _parsed(path: Path) -> tuple[list[Row], bool]:
    """The lines that can be read, and whether all could; a last line without an end is not one."""
    try:
        *lines, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise DataError(f"could not be read: {error.strerror or error}.", where=Where(path)) from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if not (value.keys() & {"header", "run"}):
                Unit.of(value)
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(
                f"expected a line of results, found {line[:60]!r}.",
                where=Where(path, number),
                hint="Remove the line: what it stood for is judged again.",
            ) from error
        found.append(value)
    return found, not rest


def _line(value: Row) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
