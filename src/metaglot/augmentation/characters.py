"""Augmentations of single characters: slips, capitals, and marks that are left out."""

from __future__ import annotations

import unicodedata

import numpy as np
import regex  # type: ignore[import-untyped]

from metaglot.augmentation.writing import Writing, change_words, clusters
from metaglot.data.scripts import script_of

# The marks that writers leave out, by script, after decomposition (NFD). Not so where marks are vowels
# that every writer writes: the scripts of India and of South-East Asia, Ethiopic, Hangul.
_LEFT_OUT = {
    # Accents, tones, dots below: all of them are left out where the keyboard has none.
    "Latin": regex.compile(r"\p{Mn}"),
    "Greek": regex.compile(r"\p{Mn}"),
    # Stress, and the dots of ё. Those of й, ї, ў, ѓ and ќ make other letters, which nobody leaves out.
    "Cyrillic": regex.compile(r"(?i)(?<=[аеиоуыэюяіє])[\u0300\u0301]|(?<=е)\u0308"),
    # Points of short vowels and doubled consonants, which are ordinarily not written.
    "Arabic": regex.compile(r"[\u064b-\u0652\u0670]"),
    "Hebrew": regex.compile(r"[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]"),
}


def noise(text: str, chance: np.random.Generator, writing: Writing, strength: float = 0.1) -> str:
    """Letters inserted, deleted, swapped with the next or substituted, by letters of the same script.

    `strength` is the chance of a letter. Digits, punctuation and spaces stay.
    """
    parts = clusters(text)
    scripts = [script_of(part[0]) for part in parts]
    hits = chance.random(len(parts)) < strength
    found, place = [], 0
    while place < len(parts):
        part, script, next_one = parts[place], scripts[place], scripts[place + 1 : place + 2]
        way = ("insert", "delete", "swap", "substitute")[int(chance.integers(4))] if hits[place] else ""
        place += 1
        if not way or not script or (way == "swap" and not any(next_one)):
            found.append(part)
        elif way == "swap":
            found += [parts[place], part]
            place += 1
        elif way == "insert":
            found += [part, writing.letter(script, chance)]
        elif way == "substitute":
            found.append(writing.letter(script, chance) or part)
    changed = "".join(found)
    return changed if changed.strip() else text


def case(text: str, chance: np.random.Generator, writing: Writing, strength: float = 1.0) -> str:
    """All in small letters, all in capitals, or every word with one; scripts without them stay.

    `strength` is the chance of the whole text. Letters are mapped as Unicode does by default, for no
    language in particular.
    """
    if chance.random() >= strength:
        return text
    ways = [text.lower(), _capitals(text), change_words(text.lower(), chance, 1.0, _capitalised)]
    others = sorted({way for way in ways if way != text})
    return others[int(chance.integers(len(others)))] if others else text


def diacritics(text: str, chance: np.random.Generator, writing: Writing, strength: float = 1.0) -> str:
    """Marks left out that writers leave out, in Latin, Greek, Cyrillic, Arabic and Hebrew script.

    `strength` is the chance of a word. See `_LEFT_OUT` for which marks; other scripts stay.
    """
    return change_words(text, chance, strength, lambda word: "".join(map(_bare, clusters(word))))


def _bare(cluster: str) -> str:
    marks = _LEFT_OUT.get(script_of(cluster[0]))
    if marks is None:
        return cluster
    whole = unicodedata.normalize("NFD", cluster)
    bare: str = marks.sub("", whole)
    return cluster if bare == whole else unicodedata.normalize("NFC", bare)


def _capitals(text: str) -> str:
    # Georgian has capitals that only whole lines of headings use; no word of it begins with one.
    return "".join(c if c.title() == c else c.upper() for c in text)


def _capitalised(word: str) -> str:
    return word[:1].title() + word[1:]
