"""Tags of tokens → spans: which scheme a corpus writes them in, and where they do not follow it.

    IOB2   B-x begins a stretch of label x, I-x goes on with it, O is outside
    IOB1   I-x begins one too; B-x only where the one before has the same label
    BIOES  as IOB2, and E-x ends a stretch, S-x is one of a single token (also BILOU, BMES)
    IO     labels alone, and O: neighbours of one label are one stretch
    plain  a label for each token (parts of speech), and no O

The scheme is the whole corpus's, told from all its tags. What is not IOB2 becomes so first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain, pairwise
from typing import Literal, TypeAlias

from metaglot.data.fields import Fault, shown
from metaglot.kinds.bio import BEGIN, INSIDE, OUTSIDE, spans_of
from metaglot.types import Span

Scheme: TypeAlias = Literal["IOB2", "IOB1", "BIOES", "IO", "plain"]

_TAG = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
_BEGINS, _ENDS = frozenset("BSU"), frozenset("ESLU")
_NOTICES = {
    "IOB1": "The tags are read as IOB1: I- begins a span too, and B- parts it from a neighbour of its label.",
    "IO": "The tags have no B- and I-, but O: neighbouring tokens with one tag are read as one span. (Were O "
    "a label like the others, it would have to have another name.)",
}


def scheme_of(sequences: Collection[Sequence[str]]) -> tuple[Scheme, str]:
    """Return the scheme that all of a corpus's tags together are in, and what to tell the user of it."""
    tags = frozenset(chain.from_iterable(sequences))
    letters = {match[1] for tag in tags if (match := _TAG.fullmatch(tag))}
    bare = {tag for tag in tags if not _TAG.fullmatch(tag)} - {OUTSIDE}
    scheme: Scheme = "IOB2"
    if letters and (not bare or OUTSIDE in tags or "B" in letters):
        if letters - set("BI"):
            scheme = "BIOES"
        elif _is_iob1(sequences):
            scheme = "IOB1"
    elif bare and OUTSIDE not in tags:
        scheme = "plain"
    elif bare - {"B", "I"}:
        scheme = "IO"
    return scheme, _NOTICES.get(scheme, "")


def spans_by_tags(
    tags: Sequence[str],
    tokens: Sequence[tuple[int, int]],
    scheme: Scheme,
    column: str,
    text: str,
    *,
    mend: bool,
) -> tuple[tuple[Span, ...], int]:
    """Return the spans that tags mean, and how many tags were mended.

    Args:
        tags: as many as tokens.
        tokens: their stretches of the text.
        scheme: of the tags.
        column: of the tags, for messages.
        text: the tokens'.
        mend: whether a tag that goes on with nothing may begin a span, as conlleval has it.

    Raises:
        Fault: the tags are not of the scheme; the message names the token.
    """
    if scheme == "plain":
        return tuple(Span(start, end, tag) for tag, (start, end) in zip(tags, tokens, strict=True)), 0
    found: list[str] = []
    mended = 0
    before = OUTSIDE
    for place, tag in enumerate(tags):
        begins, label = _read(tag, before, scheme)
        fault = _fault(tag, before, tags[place + 1 : place + 2], scheme)
        orphan = fault and _TAG.fullmatch(tag) and begins
        if fault and not (mend and _TAG.fullmatch(tag)):
            start, end = tokens[place]
            raise Fault(
                f"expected {fault} at token {place + 1}, {text[start:end][:40]!r}, found {tag[:40]!r}"
                + (f" behind {before[:40]!r}." if place else " as the first."),
                column,
                _hint(bool(orphan), scheme),
            )
        mended += bool(fault)
        found.append((label and (BEGIN if begins else INSIDE) + label) or OUTSIDE)
        before = tag
    return spans_of(found, tokens), mended


def _read(tag: str, before: str, scheme: Scheme) -> tuple[bool, str]:
    """Return whether a tag begins a span, and its label: an empty one outside of all."""
    if tag == OUTSIDE:
        return False, ""
    match, last = _TAG.fullmatch(tag), _TAG.fullmatch(before)
    if scheme == "IO" or match is None:
        return tag != before, tag
    goes_on = last is not None and last[2] == match[2] and last[1] not in _ENDS
    return match[1] in _BEGINS or not goes_on, match[2]


def _fault(tag: str, before: str, after: Sequence[str], scheme: Scheme) -> str:
    """Return what was expected in a tag's place, or an empty string where it may stand there."""
    if tag == OUTSIDE or scheme == "IO":
        return ""
    match = _TAG.fullmatch(tag)
    if match is None:
        return "O, or a tag such as B-x or I-x"
    begins, label = _read(tag, before, scheme)
    if begins and match[1] not in _BEGINS and scheme != "IOB1":
        return f"B-{label}"
    if scheme == "BIOES" and match[1] not in _ENDS:
        follower = _TAG.fullmatch(after[0]) if after else None
        if follower is None or follower[2] != label or follower[1] in _BEGINS:
            return f"{'S' if match[1] in _BEGINS else 'E'}-{label}, as no tag behind goes on with it,"
    return ""


def _hint(orphan: bool, scheme: Scheme) -> str:
    if orphan:
        return "mend=True (`--mend`) takes an I- that goes on with nothing for a B-, as conlleval does."
    if scheme == "BIOES":
        return "Tags with E- and S- (or L- and U-) among them are read as BIOES: every span has its end."
    return "Write O outside of all spans, B-x at the beginning of one of label x, and I-x inside."


def _is_iob1(sequences: Collection[Sequence[str]]) -> bool:
    """Return whether B- does what it does in IOB1, at least once, and never what it does in IOB2."""
    uses: Counter[bool] = Counter()
    for tags in sequences:
        for before, tag in pairwise([OUTSIDE, *tags]):
            if tag.startswith(BEGIN):
                uses[before in (tag, INSIDE + tag[len(BEGIN) :])] += 1
        if uses[False]:
            return False
    return uses[True] > 0


def check_lengths(tags: Sequence[str], tokens: Sequence[object], columns: tuple[str, str]) -> None:
    """Check that there is a tag for each token.

    Raises:
        Fault: there are more tokens, or more tags.
    """
    if len(tags) != len(tokens):
        rest = tags[len(tokens) :]
        more = f", from {shown(rest[0])} on without a token" if rest else ""
        raise Fault(
            f"expected a tag for each of the {len(tokens)} {columns[0]}, found {len(tags)} tags{more}.",
            columns[1],
        )
