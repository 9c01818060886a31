"""Tokens of a row as stretches of its text: where they stand in it, or the text that they make."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from metaglot.data.columns import Columns
from metaglot.data.fields import Fault, text_of, words
from metaglot.types import Span

Stretches = tuple[tuple[int, int], ...]


def tokens_of(row: Mapping[str, Any], columns: Columns) -> tuple[str, Stretches]:
    """Return a row's text and its tokens in it; without a text of its own, the tokens joined by spaces.

    Raises:
        Fault: a token is empty, or does not stand in the text behind the one before.
    """
    tokens = words(row, columns.tokens, "token")
    if not columns.text or (len(columns.text) == 1 and row.get(columns.text[0]) is None):
        return joined(tokens)
    text = text_of(row, columns)
    return text, find_tokens(text, tokens, columns.tokens)


def joined(tokens: Sequence[str]) -> tuple[str, Stretches]:
    """Return the text that tokens make, apart by spaces, and where they stand in it."""
    places, start = [], 0
    for token in tokens:
        places.append((start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), tuple(places)


def find_tokens(text: str, tokens: Sequence[str], column: str) -> Stretches:
    """Find tokens in their order, each as far left as can be, whatever their case and their Unicode form.

    Raises:
        Fault: one of them is not there.
    """
    places, start = [], 0
    for token in tokens:
        start = text.find(token, start)
        if start < 0:
            return _find_folded(text, tokens, column)
        places.append((start, start + len(token)))
        start += len(token)
    return tuple(places)


def _find_folded(text: str, tokens: Sequence[str], column: str) -> Stretches:
    """Find tokens whose case or Unicode form (Thai ำ, ª, é) may differ; a character may fold to several."""
    parts = [_fold(character) for character in text]
    folded = "".join(parts)
    origin = [place for place, part in enumerate(parts) for _ in part]
    places, after = [], 0
    for number, token in enumerate(tokens, 1):
        wanted = "".join(map(_fold, token))
        at = folded.find(wanted, after)
        while at >= 0 and not (_edge(origin, at) and _edge(origin, at + len(wanted))):
            at = folded.find(wanted, at + 1)
        if at < 0 or not wanted:
            left = text[origin[after] :] if after < len(origin) else ""
            raise Fault(
                f"expected the tokens in the order of the text, found token {number}, {token[:40]!r}, "
                f"not in what is left of it, {left[:40]!r}.",
                column,
                "Leave the text out, columns={'text': ''} (`--column text=`), to join the tokens by spaces.",
            )
        after = at + len(wanted)
        places.append((origin[at], origin[after - 1] + 1))
    return tuple(places)


def _fold(character: str) -> str:
    return unicodedata.normalize("NFKD", character.casefold())


def _edge(origin: Sequence[int], at: int) -> bool:
    """Return whether a character of the text begins or ends at a place of its folded form."""
    return at in (0, len(origin)) or origin[at] != origin[at - 1]


def apart(spans: Sequence[Span], column: str, text: str, *, mend: bool) -> tuple[tuple[Span, ...], int]:
    """Return spans in the order of the text, and how many were dropped since a longer one has their place.

    Args:
        spans: of the text.
        column: the field's.
        text: the text.
        mend: whether to drop a span that overlaps a longer one.

    Raises:
        Fault: spans overlap, and are not to be mended.
    """
    ordered = sorted(spans, key=lambda span: (span.start, -span.end))
    for one, other in pairwise(ordered):
        if other.start < one.end and not mend:
            raise Fault(
                f"expected spans that do not overlap, found {one.label!r} at {one.start} to {one.end} "
                f"({text[one.start : one.end][:40]!r}) and {other.label!r} at {other.start} to {other.end} "
                f"({text[other.start : other.end][:40]!r}).",
                column,
                "Remove one of the two; mend=True (`--mend`) keeps the longer of spans that overlap.",
            )
    kept: list[Span] = []
    for span in sorted(ordered, key=lambda span: span.start - span.end):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return tuple(sorted(kept, key=lambda span: span.start)), len(spans) - len(kept)


def check_edges(spans: Sequence[Span], tokens: Stretches, column: str, text: str) -> None:
    """Check that spans begin and end where tokens do, or between them.

    Raises:
        Fault: one of them begins or ends inside a token.
    """
    for span in spans:
        for edge, what in ((span.start, "begins"), (span.end, "ends")):
            for number, (start, end) in enumerate(tokens, 1):
                if start < edge < end:
                    raise Fault(
                        f"expected spans of whole tokens, found {span.label!r}, which {what} at {edge}, "
                        f"inside of token {number}, {text[start:end][:40]!r} at {start} to {end}.",
                        column,
                        "Mend the span, or leave the tokens out: columns={'tokens': ''} "
                        "(`--column tokens=`).",
                    )
