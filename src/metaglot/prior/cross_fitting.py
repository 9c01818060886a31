"""Cross-fitting: no language, and in a parallel corpus no content, is judged by a head that has seen it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch

from metaglot.learners.closed_form import best_sharpness
from metaglot.prior import SourceLanguage

if TYPE_CHECKING:
    from torch import Tensor

FOLDS = 5
"""Every fold leaves out this share of the source languages (a single language, where there are few)."""

Part: TypeAlias = tuple[int, int | None]
"""Whose scores a head gives: a fold of the languages, and the half of the contents, None for all of them."""

Scorer: TypeAlias = "Callable[[Tensor], Tensor]"
"""Features `[n, D]` → scores `[n, labels]`."""


class CrossFitting:
    """Which examples each head is learned from, and which it gives scores to.

    Args:
        languages: the sources.
        parallel: one id has the same content in every language.
    """

    def __init__(self, languages: Sequence[SourceLanguage], *, parallel: bool) -> None:
        if len(languages) == 1 and not parallel:
            # There is no other language to learn from: one half of the examples judges the other.
            alternate = torch.arange(len(languages[0].targets)) % 2
            languages = [replace(languages[0], halves=alternate)]
            parallel = True
        self.languages = tuple(languages)
        self.parallel = parallel
        self.targets = torch.cat([s.targets for s in languages])
        self.learned = torch.cat(
            [
                torch.ones_like(s.targets, dtype=torch.bool) if s.learned is None else s.learned
                for s in languages
            ]
        )
        self._halves = torch.cat([s.halves for s in languages])
        self._folds = min(FOLDS, len(languages))
        self._fold = torch.cat([torch.full_like(s.targets, i % self._folds) for i, s in enumerate(languages)])
        sides = (0, 1) if parallel else (None,)
        self.parts: list[Part] = [(number, side) for number in range(self._folds) for side in sides]

    def seen(self, part: Part) -> Tensor:
        """Return which of all languages' examples the part's head is learned from `[N]`."""
        number, side = part
        rows = self.learned if self._folds == 1 else self.learned & (self._fold != number)
        return rows if side is None else rows & (self._halves != side)

    def judged(self, part: Part) -> Iterator[tuple[int, Tensor]]:
        """Return the languages that the part's head gives scores to, with the rows `[n]` of each."""
        number, side = part
        for place in range(number, len(self.languages), self._folds):
            halves = self.languages[place].halves
            every = torch.ones_like(halves, dtype=torch.bool)
            yield place, every if side is None else halves == side

    def scores(self, heads: Mapping[Part, Scorer], n_labels: int) -> list[Tensor]:
        """Return each language's scores `[n, labels]` by the heads of its parts."""
        found = [torch.empty(len(s.targets), n_labels) for s in self.languages]
        for part, head in heads.items():
            for place, rows in self.judged(part):
                found[place][rows] = head(self.languages[place].features[rows])
        return found

    def sharpness(self, found: Sequence[Tensor], choices: Sequence[float] = ()) -> float:
        """Return the likeliest sharpness of each language's scores, among the labels that it has."""
        own = [own_labels(scores, s) for scores, s in zip(found, self.languages, strict=True)]
        return best_sharpness(torch.cat(own), self.targets, choices)


def by_block(columns: Tensor, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Return columns `[…, D]` cut into blocks, name → `[…, d]`."""
    parts = torch.split(columns, list(widths.values()), dim=1)
    return {name: part.contiguous() for name, part in zip(widths, parts, strict=True)}


def own_labels(scores: Tensor, source: SourceLanguage) -> Tensor:
    """Return scores `[n, labels]` where labels that the language lacks are out of the question."""
    absent = torch.ones(scores.shape[1], dtype=torch.bool)
    absent[source.labels] = False
    return scores.masked_fill(absent, -1e3)
