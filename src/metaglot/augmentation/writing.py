"""How a language is written: clusters of characters that belong together, and the letters in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import regex  # type: ignore[import-untyped]  # a part of transformers' own requirements
from numpy.typing import NDArray

from metaglot.data.scripts import script_of

_CLUSTER = regex.compile(r"\X", regex.DOTALL)
_SPACES = regex.compile(r"(\s+)")


@dataclass(frozen=True)
class Writing:
    """How a language is written in some texts: what augmentations may put into others.

    Attributes:
        language: the code.
        letters: script → the clusters that begin with a letter of it, in lower case, and the share of
            them that each and those before it have.
    """

    language: str
    letters: Mapping[str, tuple[tuple[str, ...], NDArray[np.float64]]]

    @classmethod
    def of(cls, language: str, texts: Iterable[str]) -> Writing:
        """Return how a language is written in texts of it."""
        count: dict[str, Counter[str]] = {}
        for cluster, times in Counter(c for text in texts for c in clusters(text)).items():
            if script := script_of(cluster[0]):
                count.setdefault(script, Counter())[cluster.lower()] += times
        letters = {}
        for script, found in count.items():
            names = tuple(sorted(found))
            shares = np.cumsum([found[name] for name in names], dtype=np.float64)
            letters[script] = (names, shares / shares[-1])
        return cls(language, letters)

    def letter(self, script: str, chance: np.random.Generator) -> str:
        """Draw a letter of a script, with its marks, as often as texts have it; none where they have none."""
        if script not in self.letters:
            return ""
        names, shares = self.letters[script]
        return names[min(int(np.searchsorted(shares, chance.random(), side="right")), len(names) - 1)]


def clusters(text: str) -> list[str]:
    """Return a text's extended grapheme clusters (UAX #29): a letter with all its marks is one."""
    found: list[str] = _CLUSTER.findall(text)
    return found


def change_words(
    text: str, chance: np.random.Generator, strength: float, change: Callable[[str], str]
) -> str:
    """Return a text each of whose words, as spaces part them, was changed with a chance of `strength`."""
    parts: list[str] = _SPACES.split(text)
    hits = chance.random(len(parts)) < strength
    return "".join(
        change(part) if hit and not place % 2 else part
        for place, (part, hit) in enumerate(zip(parts, hits, strict=True))
    )
