"""Words left out, and words that change places."""

from __future__ import annotations

import numpy as np

from metaglot.augmentation.writing import Writing, clusters
from metaglot.data.scripts import script_of

# Scripts that put no spaces between words, and how many clusters a word of theirs has, about.
_LENGTHS = {"Han": 2, "Japanese": 2, "Thai": 3, "Lao": 3, "Khmer": 3, "Myanmar": 3, "Tibetan": 2}


def words(text: str, chance: np.random.Generator, writing: Writing, strength: float = 0.15) -> str:
    """Words left out, or swapped with the next; one at least stays.

    `strength` is the chance of a word. In scripts without spaces between words, pieces of about a
    word's length stand for words.
    """
    found = [word for part in text.split() for word in _pieces(part)]
    if len(found) < 2:
        return text
    hits = chance.random(len(found)) < strength
    if not hits.any():
        return text
    kept: list[tuple[str, str]] = []
    place = 0
    while place < len(found):
        drop = chance.random() < 0.5
        word, gap = found[place]
        place += 1
        if not hits[place - 1] or (not drop and place == len(found)):
            kept.append((word, gap))
        elif not drop:
            second, end = found[place]
            kept += [(second, gap), (word, end)]
            place += 1
        elif kept:  # what was a space stays one
            kept[-1] = (kept[-1][0], kept[-1][1] or gap)
    if not kept:
        kept = [found[int(chance.integers(len(found)))]]
    return "".join(word + gap for word, gap in kept).strip()


def _pieces(part: str) -> list[tuple[str, str]]:
    """The words of what stands between two spaces, each with what follows it."""
    run: list[list[str]] = [[]]
    size = 0
    for cluster in clusters(part):
        length = _LENGTHS.get(script_of(cluster[0]), 0)
        if run[-1] and length and (size != length or len(run[-1]) >= length):
            run.append([])
        run[-1].append(cluster)
        size = length
    pieces = ["".join(piece) for piece in run]
    return [(piece, "") for piece in pieces[:-1]] + [(pieces[-1], " ")]
