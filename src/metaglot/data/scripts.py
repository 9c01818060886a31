"""The scripts that texts are written in, by Unicode's names of their letters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

# Where the first word of a letter's name is not what the script is called.
_SCRIPTS = {
    "CJK": "Han", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "KATAKANA-HIRAGANA": "Japanese",
    "NKO": "N’Ko", "OL": "Ol Chiki", "MEETEI": "Meetei Mayek", "TAI": "Tai", "SYLOTI": "Syloti Nagri",
}  # fmt: skip
# Letters that no one script has to itself: ª, ʻ, ℓ, 𝐀, ㊙.
_COMMON = {
    "MODIFIER", "FEMININE", "MASCULINE", "SCRIPT", "DOUBLE-STRUCK", "MATHEMATICAL", "COMBINING", "FULLWIDTH",
    "HALFWIDTH", "MICRO", "OHM", "KELVIN", "ANGSTROM", "BLACK-LETTER", "TURNED", "VERTICAL", "INFORMATION",
}  # fmt: skip


@cache
def script_of(character: str) -> str:
    """Return the script of a letter, or an empty string for what is no letter or of no one script."""
    if not character.isalpha():
        return ""
    word = unicodedata.name(character, "").partition(" ")[0]
    return "" if word in _COMMON else _SCRIPTS.get(word, word.capitalize())


def script_shares(texts: Iterable[str]) -> dict[str, float]:
    """Return script → its share of the texts' letters, the most used first; none for no letters."""
    count: Counter[str] = Counter()
    for character, times in Counter("".join(texts)).items():
        if script := script_of(character):
            count[script] += times
    total = sum(count.values())
    return {script: times / total for script, times in count.most_common()}
