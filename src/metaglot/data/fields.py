"""Fields of a row, checked: texts, names, lists of words, spans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from metaglot.data.columns import Columns
from metaglot.types import Span


class Fault(Exception):  # noqa: N818 - it is told to the user as a DataError, with file and line
    """A field of a row that is not as it has to be.

    `unfit` says that the row may be left out on request: it is no slip of the pen, but has what its kind
    cannot express, as some rows of public corpora do.
    """

    def __init__(self, problem: str, field: str, hint: str = "", *, unfit: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.field, self.unfit = problem, field, unfit
        self.hint = f"{hint} mend=True (`--mend`) leaves such rows out.".strip() if unfit else hint


def text_of(row: Mapping[str, Any], columns: Columns) -> str:
    """Return a row's text as it is written; several columns are joined by a space.

    Raises:
        Fault: there is none.
    """
    parts = [string(row, column) for column in columns.text]
    text = parts[0] if len(parts) == 1 else " ".join(part for part in parts if part.strip())
    if not text.strip():
        raise Fault("expected a text, found an empty one.", "+".join(columns.text))
    return text


def string(row: Mapping[str, Any], column: str) -> str:
    """Return a field that is a text, which may be empty.

    Raises:
        Fault: it is something else, or has a character that no text can have.
    """
    return _checked(row.get(column), column)


def word(row: Mapping[str, Any], column: str) -> str:
    """Return a label, an id or a name: a string without surrounding space, or a whole number.

    Raises:
        Fault: it is something else, or empty.
    """
    value = row.get(column)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        if abs(value) >= 10**19:
            raise Fault("expected a name or a number, found a number of more than 19 digits.", column)
        return str(value)
    if isinstance(value, str):
        found = string(row, column).strip()
        if found:
            return found
        raise Fault("expected a name or a number, found an empty cell.", column)
    hint = "A text with several labels cannot be learned; give it one." if isinstance(value, list) else ""
    raise Fault(f"expected a name or a number, found {shown(value)}.", column, hint)


def words(row: Mapping[str, Any], column: str, what: str) -> list[str]:
    """Return a field that is a list of strings: a list, a JSON list in a cell, or words apart by spaces.

    Args:
        row: the row.
        column: the field's.
        what: is in the list, for messages: `token`, `tag`.

    Raises:
        Fault: it is something else, or has none.
    """
    value = row.get(column)
    if isinstance(value, str):
        value = _listed(value, column, what)
    if not isinstance(value, list):
        raise Fault(f"expected a list of {what}s, found {shown(value)}.", column)
    if not value:
        raise Fault(f"expected a list of {what}s, found an empty one.", column)
    found = []
    for number, each in enumerate(value, 1):
        if not isinstance(each, str):
            hint = "Write the names of the classes, not their numbers." if isinstance(each, int) else ""
            raise Fault(f"expected a {what}, found {shown(each)} as number {number}.", column, hint)
        if not each.strip():
            raise Fault(
                f"expected a {what}, found an empty one, {each!r}, as number {number} of {len(value)}.",
                column,
            )
        found.append(_checked(each, column))
    return found


_SPAN_KEYS = (("start", "end"), ("start_byte", "limit_byte"))


def spans(value: Any, column: str, text: str) -> tuple[Span, ...]:
    """Read stretches of the text: characters, whatever the keys' names say of bytes.

    Raises:
        Fault: it is no list of spans, or one of them is outside of the text or empty, or its value is
            neither a text nor a number.
    """
    if value in (None, "", []):
        return ()
    hint = (
        "A span is {'start': …, 'end': …, 'label': …} in characters, and may have a 'value'; "
        "columns={'spans': ''} leaves the column out."
    )
    if not isinstance(value, list):
        raise Fault(f"expected a list of spans, found {shown(value)}.", column, hint)
    found = []
    for span in value:
        keys = next((k for k in _SPAN_KEYS if isinstance(span, dict) and span.keys() >= {*k, "label"}), None)
        if keys is None:
            raise Fault(f"expected a span, found {shown(span)}.", column, hint)
        start, end, label = span[keys[0]], span[keys[1]], span["label"]
        if type(start) is not int or type(end) is not int or not isinstance(label, str):
            raise Fault(f"expected two numbers and a label, found {shown(span)}.", column, hint)
        if not _checked(label, column).strip():
            raise Fault(f"expected a span with a label, found {shown(span)}.", column, hint)
        start, end = inside(start, end, column, text, hint)
        value = _value(span.get("value"), column)
        found.append(Span(start, end, label, "" if value == text[start:end] else value))
    return tuple(found)


def _value(value: Any, column: str) -> str:
    """Return what a span means, as a text; empty where nothing is said.

    Raises:
        Fault: it is neither a text nor a number.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return _checked(value, column).strip()
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise Fault(
            f"expected a span's value, a text or a number of up to 15 digits, found {shown(value)}.",
            column,
            "The value is what the span means: {'start': …, 'end': …, 'label': 'colour', 'value': 'blue'}.",
        )
    return f"{value:.15g}"


def inside(start: int, end: int, column: str, text: str, hint: str = "") -> tuple[int, int]:
    """Return a stretch of the text.

    Raises:
        Fault: it has no character, or is not within the text.
    """
    if not 0 <= start < end <= len(text):
        raise Fault(
            f"expected a span inside the text's {len(text)} characters, found {start} to {end}.", column, hint
        )
    return start, end


def shown(value: Any) -> str:
    """Return a value for a message: its beginning and its type."""
    if value is None:
        return "nothing"
    return f"{str(value)[:40]!r} ({type(value).__name__})"


def _checked(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise Fault(f"expected a text, found {shown(value)}.", column)
    if "\0" in value:
        raise Fault("expected a text, found a NUL character in it.", column)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"U+{ord(value[error.start]):04X}"
        raise Fault(f"expected a text, found half a character ({half}) in it.", column) from error
    return value


def _listed(cell: str, column: str, what: str) -> list[Any]:
    """Return the list that a cell of a table stands for."""
    inner = cell.strip()
    if not inner.startswith(("['", '["')):
        return cell.split()
    try:
        found = json.loads(inner)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise Fault(
            f"expected {what}s that are apart by spaces, or a JSON list of them, found {shown(cell)}.", column
        )
    return found
