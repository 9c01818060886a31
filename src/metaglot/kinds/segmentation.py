"""Where a text may be cut, where the data do not say it with tokens of their own.

At white space; around each mark of punctuation or symbol (`6:48` and `3.5` stay whole); in scripts
without spaces, where the encoder's subwords begin. `pieces` are cut there in every script: where
endings and articles are glued to words, labelled stretches begin and end inside of them.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from itertools import pairwise

import regex  # type: ignore[import-untyped]

from metaglot.encoders.base import TokenStates
from metaglot.kinds.base import Stretch

_RUN = regex.compile(r"\p{N}+(?:[.,:/]\p{N}+)+|[\p{L}\p{M}\p{N}\p{Cf}_]+|\S")
_SCRIPTS = (
    "Thai Lao Khmer Myanmar Han Hiragana Katakana Tai_Le New_Tai_Lue Tai_Tham Tai_Viet Javanese Balinese"
)
_SPACELESS = regex.compile("[\u30fc" + "".join(rf"\p{{Script={name}}}" for name in _SCRIPTS.split()) + "]")


def runs(text: str) -> list[Stretch]:
    """Return a text's stretches by its characters alone: in a script without spaces, the whole run."""
    return [match.span() for match in _RUN.finditer(text)]


def words(text: str, states: TokenStates) -> list[Stretch]:
    """Return the stretches of a text's words, numbers and marks of punctuation, in their order.

    Nothing but white space is left out.

    Args:
        text: the text.
        states: its tokens, of which the offsets are read.
    """
    return _cut(text, [i for i in _starts(states) if _SPACELESS.search(text, max(i - 1, 0), i + 1)])


def pieces(text: str, states: TokenStates) -> list[Stretch]:
    """Return the stretches of a text's words, each cut where subwords begin inside of it.

    Args:
        text: the text.
        states: its tokens, of which the offsets are read.
    """
    return _cut(text, _starts(states))


def _starts(states: TokenStates) -> list[int]:
    """Return where tokens that cover a character begin, in order, each once."""
    return sorted({start for start, end in states.offsets.tolist() if start < end})


def _cut(text: str, places: list[int]) -> list[Stretch]:
    """Return a text's runs, cut at places inside of them.

    Never before a combining mark: what is read as one character stays one.
    """
    found: list[Stretch] = []
    for begin, end in runs(text):
        inside = places[bisect_right(places, begin) : bisect_left(places, end)]
        cuts = [i for i in inside if not unicodedata.category(text[i]).startswith("M")]
        found += pairwise([begin, *cuts, end])
    return found
