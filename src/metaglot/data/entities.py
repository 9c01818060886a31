"""The two entities of a relation: marked in the text, or given by offsets beside it.

    The <e1> Nile </e1> flows through <e2> Egypt </e2>.          RELX, KBP-37, SemEval-2010 task 8
    {"head": {"start": 4, "end": 8}, "tail": {…}}, or [4, 8]     characters
    {"tokens": […], "h": ["nile", "Q3392", [[1]]], "t": […]}     FewRel: numbers of tokens, of each mention

The rule: each entity has a character, and they share none. They may touch, as words do in scripts without
spaces, but neither lies in the other: what is learned of one would be learned of both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from metaglot.data.columns import Columns
from metaglot.data.fields import Fault, inside, shown, text_of
from metaglot.data.tokens import Stretches, tokens_of
from metaglot.types import Span

ENTITIES = ("e1", "e2")
MARKER = re.compile(r"<(/?)(e[12])>")
_OFFSETS = (
    "An entity is {'start': …, 'end': …} or [start, end] in characters, the end exclusive, or as in FewRel "
    "[name, id, [[numbers of tokens]]]; or mark it in the text: <e1> … </e1>."
)


def entities_of(row: Mapping[str, Any], columns: Columns) -> tuple[str, tuple[Span, Span], Stretches]:
    """Return a row's text without markers, the spans "e1" and "e2", and its tokens where it has some.

    Raises:
        Fault: an entity is missing, doubled, empty or outside of the text, or shares a character with the
            other one.
    """
    tokens: Stretches = ()
    if columns.tokens and (not columns.text or isinstance(row.get(columns.tokens), list)):
        text, tokens = tokens_of(row, columns)
    else:
        text = text_of(row, columns)
    field = "+".join(columns.text) or columns.tokens
    if MARKER.search(text) or not (columns.e1 and columns.e2):
        return *entities_of_text(text, field), ()
    own = bool(columns.text) or not tokens
    first, second = (
        Span(*_offsets(row.get(column), column, text, tokens, own=own), name)
        for name, column in zip(ENTITIES, (columns.e1, columns.e2), strict=True)
    )
    if first.start < second.end and second.start < first.end:
        raise Fault(
            f"expected two entities that share no character, found e1 at {first.start} to {first.end} "
            f"({text[first.start : first.end][:40]!r}) and e2 at {second.start} to {second.end} "
            f"({text[second.start : second.end][:40]!r}).",
            columns.e2,
            "Of entities inside one another choose stretches that do not overlap; they may touch.",
            unfit=True,
        )
    return text, (first, second), tokens


def entities_of_text(text: str, field: str) -> tuple[str, tuple[Span, Span]]:
    """Return a text without its markers, and the spans "e1" and "e2".

    The spaces inside of an entity's markers go with them, but for one before the entity where nothing else
    parts it from a word.

    Args:
        text: with markers.
        field: the text's, for messages.

    Raises:
        Fault: a marker is missing, doubled or crossed, or an entity has no character.
    """
    _check_markers(text, field)
    out, *pieces = MARKER.split(text)
    found: dict[str, Span] = {}
    for closing, name, piece in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        if closing:
            out += piece
            continue
        entity = piece.strip()
        if not entity:
            fault = f"expected an entity with characters, found nothing inside of <{name}>."
            raise Fault(fault, field, unfit=True)
        if piece[0].isspace() and out[-1:].isalnum():
            out += piece[0]
        found[name] = Span(len(out), len(out) + len(entity), name)
        out += entity
    return out, (found["e1"], found["e2"])


def _check_markers(text: str, field: str) -> None:
    """Check that each of the four markers stands once, and one entity's behind the other's.

    Raises:
        Fault: they do not.
    """
    hint = "Mark the entities as <e1>…</e1> and <e2>…</e2>, or give their places: columns e1 and e2."
    markers = [match.group() for match in MARKER.finditer(text)]
    for name in ENTITIES:
        opening, closing = f"<{name}>", f"</{name}>"
        for marker in (opening, closing):
            if (times := markers.count(marker)) != 1:
                said = f"{times} times" if times else "nowhere"
                raise Fault(f"expected the marker {marker} once in the text, found it {said}.", field, hint)
        if markers.index(closing) < markers.index(opening):
            raise Fault(f"expected {opening} before {closing}, found {' '.join(markers)}.", field, hint)
    if not markers[1].startswith("</"):
        crossed = markers[2][2:] == markers[0][1:]
        what = "markers that cross" if crossed else "one inside the other"
        raise Fault(
            f"expected two entities apart from one another, found {what}: {' '.join(markers)}.", field, hint
        )


def _offsets(value: Any, column: str, text: str, tokens: Stretches, *, own: bool) -> tuple[int, int]:
    """Return where an entity stands; `own` says that the text is the row's own, not made of its tokens."""
    fields = value if isinstance(value, dict) else {}
    places = value if isinstance(value, list) else fields.get("pos", [fields.get("start"), fields.get("end")])
    if _is_stretch(places):
        if own or "pos" not in fields:
            return inside(places[0], places[1], column, text, _OFFSETS)
        return _by_tokens(places[0], places[1] - 1, column, tokens)
    mentions = fields.get("indices", places[2] if isinstance(places, list) and len(places) == 3 else None)
    numbers = mentions[0] if isinstance(mentions, list) and mentions else None
    if isinstance(numbers, list) and numbers and all(type(number) is int for number in numbers):
        if any(other != one + 1 for one, other in pairwise(numbers)):
            raise Fault(f"expected tokens side by side, found {shown(numbers)}.", column, _OFFSETS)
        return _by_tokens(numbers[0], numbers[-1], column, tokens)
    raise Fault(f"expected an entity's place, found {shown(value)}.", column, _OFFSETS)


def _is_stretch(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)


def _by_tokens(first: int, last: int, column: str, tokens: Stretches) -> tuple[int, int]:
    """Return the stretch from a token's start to another's end, both counted from 0."""
    if not 0 <= first <= last < len(tokens):
        raise Fault(
            f"expected numbers of tokens from 0 to {len(tokens) - 1}, found {first} to {last}.",
            column,
            _OFFSETS,
        )
    return tokens[first][0], tokens[last][1]
