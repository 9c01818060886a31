"""Back-off spelling: as people write who lack the keyboard, the school or the time.

Three sorts of places, none of them of one language:

- letters that a common keyboard lacks become those that are typed in their stead: Hausa's ƙ a k, Ewe's ɔ
  an o, Kazakh's қ a к, Persian's گ a ك;
- spellings of one sound that orthographies of one script choose between become one another: c and k, ph
  and f, y and i, أ and ا, a letter with nukta and one without;
- what the eye misses is left out: the second of two equal letters, apostrophes and hyphens inside a word.
  And the last vowel of a word may be drawn out (Brody & Diakopoulos 2011).
"""

from __future__ import annotations

import numpy as np
import regex  # type: ignore[import-untyped]

from metaglot.augmentation.writing import Writing

_TYPED = {
    "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ı": "i", "ħ": "h",
    "ŋ": "ng n", "ɓ": "b", "ɗ": "d", "ɖ": "d", "ƙ": "k", "ƴ": "y", "ɲ": "ny", "ɛ": "e", "ɔ": "o", "ə": "e a",
    "ɣ": "g", "ʋ": "v", "ƒ": "f", "ʼ": "'",
    "ґ": "г", "ғ": "г", "қ": "к", "ң": "н", "ү": "у", "ұ": "у", "ў": "у", "ө": "о", "ә": "а э", "һ": "х",
    "ҳ": "х", "җ": "ж", "ҷ": "ч", "і": "и", "ї": "и", "є": "е", "ё": "е", "ӣ": "и", "ӯ": "у",
    "پ": "ب", "چ": "ج", "ژ": "ز", "گ": "ك", "ک": "ك", "ی": "ي", "ے": "ي", "ہ": "ه", "ھ": "ه",
}  # fmt: skip
_SAME_SOUND = {
    "ph": "f", "qu": "kw", "ck": "k", "kh": "k", "gh": "g", "th": "t", "dh": "d", "sh": "ch", "ch": "sh tch",
    "oo": "u o", "ee": "i e", "ou": "u", "x": "ks", "c": "k", "k": "c", "q": "k", "s": "z", "z": "s",
    "v": "w", "w": "v", "y": "i", "i": "y", "j": "y",
    "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ؤ": "و", "ئ": "ي", "ى": "ي", "ة": "ه",
    "\u0958": "क", "\u0959": "ख", "\u095a": "ग", "\u095b": "ज", "\u095c": "ड", "\u095d": "ढ", "\u095e": "फ",
    "ใ": "ไ",
}  # fmt: skip
_LETTERS = {name: found.split() for name, found in (_TYPED | _SAME_SOUND).items()}
# Marks that belong to what they stand after: they are changed alone, and left out where that is "".
_MARKS = {"\u093c": "", "\u09bc": "", "\u0a3c": "", "\u0901": "\u0902"}
_ALPHABETS = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Georgian}"
_PLACES = regex.compile(
    rf"(?P<letters>{'|'.join(sorted(_LETTERS, key=len, reverse=True))})(?!\p{{M}})"
    rf"|(?P<double>([{_ALPHABETS}])\3)(?!\p{{M}})"
    r"|(?<=\p{L}\p{M}*)(?P<inside>['’‘ʻ`´‐-])(?=\p{L})"
    r"|(?P<last>[aeiouαεηιουωаеиоуыэюя])(?![\p{L}\p{M}])"
    rf"|(?<=\p{{L}}\p{{M}}*)(?P<mark>[{''.join(_MARKS)}])",
    regex.IGNORECASE,
)


def spelling(text: str, chance: np.random.Generator, writing: Writing, strength: float = 0.3) -> str:
    """Other spellings of the same sounds, letters that a keyboard lacks, doubled letters, apostrophes.

    `strength` is the chance of a place that can be spelt otherwise.
    """

    def other(found: regex.Match[str]) -> str:
        written: str = found[0]
        if chance.random() >= strength:
            return written
        if found["letters"]:
            ways = _LETTERS.get(written.lower(), [written])
            return _cased(ways[int(chance.integers(len(ways)))], written)
        if found["double"]:
            return written[0]
        if found["inside"]:
            return " " if written in "‐-" and chance.random() < 0.5 else ""
        if found["last"]:
            return written * 3
        return _MARKS[written]

    changed: str = _PLACES.sub(other, text)
    return changed


def _cased(spelt: str, written: str) -> str:
    """Give a spelling the capitals of what it stands for."""
    if len(written) > 1 and written.isupper():
        return spelt.upper()
    return spelt[:1].upper() + spelt[1:] if written[:1].isupper() else spelt
