"""Rows → items: every field checked, every fault named by file, line and field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from metaglot.data.columns import Columns, find_columns
from metaglot.data.problems import Problems
from metaglot.data.readers import Row
from metaglot.errors import DataError, SettingsError, Where
from metaglot.types import Span

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev", "development": "dev",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""What a split is called → its name here."""

_PEEK = 100


@dataclass(frozen=True)
class Table:
    """Rows from one place, and what the place's name says of them.

    `read` is called once, with where faults go.
    """

    place: str | Path
    read: Callable[[Problems], Iterable[Row]]
    language: str = ""
    split: str = ""


class Item(NamedTuple):
    """One row, checked; its language is as written and its id may be shared with other rows."""

    language: str
    split: str
    id: str
    text: str
    label: str
    group: str
    spans: tuple[Span, ...]
    place: str | Path
    line: int


@dataclass
class Intake:
    """How rows become items, and what was met on the way.

    Attributes:
        mapping: field → column.
        language: of rows whose table and columns do not say; `None` if they have to.
        split: keep this one alone; it is also that of rows that do not say.
        problems: the faults.
        skipped: split's name as written → number of rows left out for having no known split.
        unsplit: whether some rows did not say their split.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None
    split: str | None = None
    problems: Problems = field(default_factory=Problems)
    skipped: Counter[str] = field(default_factory=Counter)
    unsplit: bool = False
    _numbers: Counter[tuple[str, str]] = field(default_factory=Counter)

    def items(self, table: Table) -> Iterator[Item]:
        """Yield a table's items; faulty rows go to `problems` instead.

        Raises:
            DataError: a column is missing.
            SettingsError: both the data and an argument say the language.
        """
        before = self.problems.total
        rows = iter(table.read(self.problems))
        head = list(islice(rows, _PEEK))
        if not head:
            if self.problems.total == before:
                self.problems.add("expected rows, found none: the file is empty.", Where(table.place))
            return
        columns = find_columns(dict.fromkeys(chain(*(row for _, row in head))), self.mapping, table.place)
        self._check_language(table, columns)
        for line, row in chain(head, rows):
            try:
                item = self._item(table, columns, line, row)
            except Fault as fault:
                self.problems.add(fault.problem, Where(table.place, line, fault.field), fault.hint)
            else:
                if item is not None:
                    yield item

    def notices(self) -> list[str]:
        """Return what the user should know of the rows that were met."""
        told = []
        if self.skipped:
            names = ", ".join(f"{name!r} ({count:,} rows)" for name, count in self.skipped.items())
            told.append(f"Rows of splits that are not train, dev or test were left out: {names}.")
        if self.unsplit and self.split is None:
            told.append("Rows that do not say their split count as train.")
        return told

    def _check_language(self, table: Table, columns: Columns) -> None:
        if self.language is not None and (columns.language or table.language):
            said = f"the column {columns.language!r}" if columns.language else f"its name {table.language!r}"
            raise SettingsError(
                f"expected one source of the language, found two: language={self.language!r} and {said} "
                f"of {table.place}.",
                hint="Leave language=… out, or map the column away: columns={'language': ''}.",
            )
        if self.language is None and not (columns.language or table.language):
            raise DataError(
                "expected a language, found no column for it (language, lang, locale) and no name that "
                "says it.",
                where=Where(table.place),
                hint="Map a column: columns={'language': …} (`--column language=…`), or pass language=… "
                "in Python.",
            )

    def _item(self, table: Table, columns: Columns, line: int, row: Mapping[str, Any]) -> Item | None:
        split = self._split(table, columns, row)
        if split is None:
            return None
        language = _word(row, columns.language) if columns.language else self.language or table.language
        text = text_of(row, columns)
        self._numbers[language, split] += 1
        return Item(
            language=language,
            split=split,
            id=_word(row, columns.id) if columns.id else str(self._numbers[language, split]),
            text=text,
            label=_word(row, columns.label),
            group=_word(row, columns.group) if columns.group else "",
            spans=_spans(row.get(columns.spans), columns.spans, text) if columns.spans else (),
            place=table.place,
            line=line,
        )

    def _split(self, table: Table, columns: Columns, row: Mapping[str, Any]) -> str | None:
        if columns.split:
            written = _word(row, columns.split)
            split = SPLIT_NAMES.get(written.casefold())
            if split is None:
                self.skipped[written] += 1
                return None
        elif table.split:
            split = table.split
        else:
            self.unsplit = True
            split = self.split or "train"
        return split if self.split in (None, split) else None


class Fault(Exception):  # noqa: N818 - it is told to the user as a DataError, with file and line
    """A field of a row that is not as it has to be."""

    def __init__(self, problem: str, field: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem, self.field, self.hint = problem, field, hint


def text_of(row: Mapping[str, Any], columns: Columns) -> str:
    """Return a row's text as it is written; several columns are joined by a space.

    Raises:
        Fault: there is none.
    """
    parts = [_string(row, column) for column in columns.text]
    text = parts[0] if len(parts) == 1 else " ".join(part for part in parts if part.strip())
    if not text.strip():
        raise Fault("expected a text, found an empty one.", "+".join(columns.text))
    return text


def _string(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise Fault(f"expected a text, found {_shown(value)}.", column)
    if "\0" in value:
        raise Fault("expected a text, found a NUL character in it.", column)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"U+{ord(value[error.start]):04X}"
        raise Fault(f"expected a text, found half a character ({half}) in it.", column) from error
    return value


def _word(row: Mapping[str, Any], column: str) -> str:
    """Return a label, an id or a name: a string without surrounding space, or a whole number."""
    value = row.get(column)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        if abs(value) >= 10**19:
            raise Fault("expected a name or a number, found a number of more than 19 digits.", column)
        return str(value)
    if isinstance(value, str):
        word = _string(row, column).strip()
        if word:
            return word
        raise Fault("expected a name or a number, found an empty cell.", column)
    hint = "A text with several labels cannot be learned; give it one." if isinstance(value, list) else ""
    raise Fault(f"expected a name or a number, found {_shown(value)}.", column, hint)


_SPAN_KEYS = (("start", "end"), ("start_byte", "limit_byte"))


def _spans(value: Any, column: str, text: str) -> tuple[Span, ...]:
    """Read stretches of the text: characters, whatever the keys' names say of bytes."""
    if value in (None, "", []):
        return ()
    hint = (
        "A span is {'start': …, 'end': …, 'label': …} in characters; "
        "columns={'spans': ''} leaves the column out."
    )
    if not isinstance(value, list):
        raise Fault(f"expected a list of spans, found {_shown(value)}.", column, hint)
    spans = []
    for span in value:
        keys = next((k for k in _SPAN_KEYS if isinstance(span, dict) and span.keys() >= {*k, "label"}), None)
        if keys is None:
            raise Fault(f"expected a span, found {_shown(span)}.", column, hint)
        start, end, label = span[keys[0]], span[keys[1]], span["label"]
        if type(start) is not int or type(end) is not int or not isinstance(label, str):
            raise Fault(f"expected two numbers and a label, found {_shown(span)}.", column, hint)
        if not 0 <= start < end <= len(text):
            raise Fault(
                f"expected a span inside the text's {len(text)} characters, found {start} to {end}.",
                column,
                hint,
            )
        spans.append(Span(start, end, label))
    return tuple(spans)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"{str(value)[:40]!r} ({type(value).__name__})"
