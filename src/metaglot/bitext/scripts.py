"""The script that a language is written in: by its code, or where a corpus knows better, by that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import langcodes
from langcodes import tag_parser

from metaglot.bitext.placeholders import without
from metaglot.data.scripts import script_of, script_shares

_LETTERS = 3  # a text of fewer letters ("OK") says nothing of its script
_SAMPLE = 2000
_IN = "+"
_MAY_HIDE = re.compile(r"[%{<&⟨]|://")  # what every placeholder has one of, but space
# What the CLDR calls a script → what Unicode's names of its letters begin with.
_LETTERS_OF = {
    "Bangla": ("Bengali",),
    "Odia": ("Oriya",),
    "Korean": ("Hangul", "Han"),
    "Japanese": ("Japanese", "Han"),
    "Simplified": ("Han",),
    "Traditional": ("Han",),
    "Simplified Han": ("Han",),
    "Traditional Han": ("Han",),
    "Han with Bopomofo": ("Han", "Bopomofo"),
    "Unified Canadian Aboriginal Syllabics": ("Canadian",),
}


@lru_cache
def usual_scripts(code: str) -> frozenset[str]:
    """Return the scripts that a language is usually written in, if known, named as `data.scripts` does."""
    try:
        script = langcodes.get(code).maximize().script
        name = langcodes.get(f"und-{script}").script_name() if script else ""
    except (tag_parser.LanguageTagError, LookupError):
        return frozenset()
    return frozenset(_LETTERS_OF.get(name, (name,) if name else ()))


def scripts_in(code: str, texts: Sequence[str]) -> frozenset[str]:
    """Return the scripts that a language is written in here.

    They are the usual ones, unless most letters are of others: then those that have a fifth of the letters,
    for codes are not always right, and communities not of one mind (Tachelhit is written in Tifinagh, Latin
    and Arabic).

    Args:
        code: the language's.
        texts: a corpus's in it, of which the first 2,000 are looked at.
    """
    usual = usual_scripts(code)
    shares = script_shares(without(text) for text in texts[:_SAMPLE])
    if not usual or sum(shares.get(script, 0.0) for script in usual) >= 0.5:
        return usual
    return frozenset(script for script, share in shares.items() if share >= 0.2) or usual


def share_in(text: str, scripts: frozenset[str]) -> float:
    """Return the share of a text's letters that are of these scripts; 1 for a text of hardly any letters.

    Placeholders do not count.
    """
    marks = (without(text) if _MAY_HIDE.search(text) else text).translate(_marks(scripts))
    return marks.count(_IN) / len(marks) if len(marks) >= _LETTERS else 1.0


class _Marks(dict[int, str]):
    """For `str.translate`: letters of some scripts become one sign, others another, and the rest nothing."""

    def __init__(self, scripts: frozenset[str]) -> None:
        self.scripts = scripts

    def __missing__(self, code: int) -> str:
        script = script_of(chr(code))
        self[code] = mark = "" if not script else _IN if script in self.scripts else "-"
        return mark


_marks = lru_cache(_Marks)
