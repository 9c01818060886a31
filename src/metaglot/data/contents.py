"""What a row says, by its kind: text, label, the second text, spans, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from metaglot.data import fields
from metaglot.data.columns import Columns
from metaglot.data.entities import MARKER, entities_of
from metaglot.data.fields import Fault, text_of, word
from metaglot.data.tags import check_lengths
from metaglot.data.tokens import Stretches, apart, check_edges, tokens_of
from metaglot.types import Span


class Content(NamedTuple):
    """What a row says. `tags` are of its tokens, to be read once the whole corpus's are known."""

    text: str
    label: str = ""
    pair: str = ""
    spans: tuple[Span, ...] = ()
    tokens: Stretches = ()
    tags: tuple[str, ...] = ()
    mended: int = 0


def kind_of(columns: Columns, rows: Iterable[Mapping[str, Any]], mapping: Mapping[str, str]) -> str:
    """Return which kind a table's rows are of, by its columns and what stands in the first rows."""
    if columns.pair and ("pair" in mapping or "text" not in mapping):
        return "pairs"
    for row in rows:
        if _bracketed(row.get(columns.meaning)):
            return "parsing"
        texts = [row.get(column) for column in columns.text]
        marked = " ".join(text for text in texts if isinstance(text, str))
        if {match.group() for match in MARKER.finditer(marked)} >= {"<e1>", "<e2>"}:
            return "relations"
        if isinstance(row.get(columns.e1), (dict, list)) and isinstance(row.get(columns.e2), (dict, list)):
            return "relations"
    tagged = (columns.tokens and columns.tags) or (columns.text and columns.spans)
    return "tagging" if tagged and not columns.label else "classification"


def has_entities(columns: Columns, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a table says where entities are: in columns of their own, or by markers in some text."""
    texts = (row.get(column) for row in rows for column in columns.text)
    return bool(columns.e1 and columns.e2) or any(isinstance(t, str) and MARKER.search(t) for t in texts)


def content_of(
    row: Mapping[str, Any], columns: Columns, kind: str, *, answered: bool = True, mend: bool = False
) -> Content:
    """Return what a row says.

    Args:
        row: its fields.
        columns: which of them hold what, as `columns.require` has them.
        kind: of the example.
        answered: whether the label, the tags, the spans or the meaning are read; a relation's entities are
            always.
        mend: whether spans that overlap may be dropped.

    Raises:
        Fault: a field is not as it has to be.
    """
    label = word(row, columns.label) if answered and kind not in {"tagging", "parsing"} else ""
    if kind == "relations":
        text, entities, tokens = entities_of(row, columns)
        return Content(text, label, spans=entities, tokens=tokens)
    if kind in {"tagging", "frames"}:
        return _tagged(row, columns, label, answered=answered, mend=mend)
    text = text_of(row, columns)
    if kind == "pairs":
        return Content(text, label, pair=_second(row, columns.pair))
    if kind == "parsing":
        return Content(text, spans=_tree(text, row, columns.meaning) if answered else ())
    spans = fields.spans(row.get(columns.spans), columns.spans, text) if answered and columns.spans else ()
    return Content(text, label, spans=spans)


def _tagged(row: Mapping[str, Any], columns: Columns, label: str, *, answered: bool, mend: bool) -> Content:
    has_tokens = columns.tokens and (not columns.text or row.get(columns.tokens) is not None)
    text, tokens = tokens_of(row, columns) if has_tokens else (text_of(row, columns), ())
    if not answered:
        return Content(text, tokens=tokens)
    if columns.tokens and columns.tags:
        tags = fields.words(row, columns.tags, "tag")
        check_lengths(tags, tokens, (columns.tokens, columns.tags))
        return Content(text, label, tokens=tokens, tags=tuple(tags))
    found = fields.spans(row.get(columns.spans), columns.spans, text)
    spans, dropped = apart(found, columns.spans, text, mend=mend)
    check_edges(spans, tokens, columns.spans, text)
    return Content(text, label, spans=spans, tokens=tokens, mended=dropped)


def _second(row: Mapping[str, Any], column: str) -> str:
    found = fields.string(row, column)
    if not found.strip():
        raise Fault("expected the second text of a pair, found an empty one.", column)
    return found


def _bracketed(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("[IN:")


def _tree(text: str, row: Mapping[str, Any], column: str) -> tuple[Span, ...]:
    from metaglot.kinds.trees import read_tree  # noqa: PLC0415 - only this kind's

    brackets = fields.string(row, column)
    try:
        return read_tree(text, brackets)
    except ValueError as error:
        raise Fault(
            str(error), column, "Write a tree as [IN:… [SL:… word ] ], with the text's words.", unfit=True
        ) from error
