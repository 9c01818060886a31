"""Stretches as one tag a token and back (IOB2), and the best well-formed tags for scores.

`B-x` begins a stretch of label x, `I-x` goes on with one, `O` is outside of all. Tags are well-formed
where every `I-x` follows a `B-x` or `I-x` of the same x: IOB2 (Ratnaparkhi, 1998), as strict scorers
count it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaglot.types import Span

OUTSIDE = "O"
BEGIN, INSIDE = "B-", "I-"


def tags_of(spans: Sequence[Span], tokens: Sequence[tuple[int, int]]) -> list[str]:
    """Return the tag of each token, always well-formed.

    A token belongs to the span that holds its middle (of two middle characters, the second), so that
    a span which ends within a word has the word where it covers most of it. Of spans that overlap the
    first that is given has the token. A span without the middle of any token leaves no tag.

    Args:
        spans: stretches of characters, in any order.
        tokens: the tokens' stretches `(start, end)`, in the order of the text.
    """
    owners = [
        next((n for n, span in enumerate(spans) if span.start <= (start + end) // 2 < span.end), -1)
        for start, end in tokens
    ]
    return [
        OUTSIDE if owner < 0 else (INSIDE if owner == before else BEGIN) + spans[owner].label
        for before, owner in zip([-1, *owners], owners, strict=False)
    ]


def spans_of(tags: Sequence[str], tokens: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    """Return the spans that well-formed tags mean: from a first token's start to a last one's end.

    Raises:
        ValueError: the tags are not well-formed, or not as many as the tokens.
    """
    if (place := first_fault(tags)) is not None:
        before = f"follows {tags[place - 1]!r}" if place else "stands first"
        raise ValueError(f"expected O, B-x, or I-x after B-x or I-x; {tags[place]!r} {before}")
    found: list[Span] = []
    for tag, (start, end) in zip(tags, tokens, strict=True):
        if tag.startswith(BEGIN):
            found.append(Span(start, end, tag.removeprefix(BEGIN)))
        elif tag.startswith(INSIDE):
            found[-1] = Span(found[-1].start, end, found[-1].label)
    return tuple(found)


def first_fault(tags: Sequence[str]) -> int | None:
    """Return the place of the first tag that is not well-formed there, or None."""
    before = OUTSIDE
    for place, tag in enumerate(tags):
        known = tag == OUTSIDE or (tag[:2] in (BEGIN, INSIDE) and len(tag) > 2)
        if not known or (tag.startswith(INSIDE) and before not in (BEGIN + tag[2:], tag)):
            return place
        before = tag
    return None


def viterbi(scores: NDArray[Any], labels: Sequence[str]) -> list[int]:
    """Return the well-formed tags with the highest sum of scores, as places in `labels`.

    Exact (Viterbi, 1967). Only an I- is restricted, so that a step needs the best of all tags and two
    candidates for each I-: O(T·C), not O(T·C²). Where the best tag of each token alone is well-formed,
    that is the answer; otherwise, of equal sums, any.

    Args:
        scores: `[T, C]`, log-probabilities or logits; −inf for a tag that is out of the question.
        labels: C tags.

    Raises:
        ValueError: no tag may begin a text: every label is an I-.
    """
    alone: list[int] = scores.argmax(1).tolist() if len(scores) else []
    if first_fault([labels[c] for c in alone]) is None:
        return alone
    place = {label: c for c, label in enumerate(labels)}
    inside = np.array([c for c, label in enumerate(labels) if label.startswith(INSIDE)])
    if len(inside) == len(labels):
        raise ValueError(f"expected a tag that may stand first, found only {', '.join(labels)}")
    begins = [place.get(BEGIN + labels[c].removeprefix(INSIDE), -1) for c in inside.tolist()]
    missing = np.array(begins) < 0
    from_begin = np.where(missing, 0, begins)  # any place: such an I- is never reached

    # Only what is not well-formed is −inf: a way through is always found, whatever the scores.
    most = 1e300 / len(scores)
    finite = np.nan_to_num(scores.astype(np.float64), nan=-most, posinf=most, neginf=-most)
    total = finite[0]
    total[inside] = -np.inf
    steps = []
    for row in finite[1:]:
        came = np.full(len(labels), total.argmax())
        by_begin = np.where(missing, -np.inf, total[from_begin])
        came[inside] = np.where(by_begin >= total[inside], from_begin, inside)
        arrived = total[came]
        arrived[inside] = np.maximum(by_begin, total[inside])
        total = arrived + row
        steps.append(came)
    path = [int(total.argmax())]
    for came in reversed(steps):
        path.append(int(came[path[-1]]))
    return path[::-1]
