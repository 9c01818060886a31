"""Batches that no language and no label rules: languages × labels × examples.

A batch is a function of the seed and its step alone. Languages are drawn alike, however many texts
they have; labels are preferred that several of the batch's languages have, for only those teach what
languages have in common; and of one label's texts in one language groups are drawn first (templates,
documents), so that two texts are seldom made from one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from metaglot.space import Task, generator
from metaglot.tuning.settings import TuneSettings
from metaglot.types import Example


class Batches:
    """The batches of a run.

    Args:
        tasks: the languages that are tuned on.
        settings: `languages`, `labels`, `examples`, `seed`.
    """

    def __init__(self, tasks: Sequence[Task], settings: TuneSettings) -> None:
        self._settings = settings
        self.pool: list[Example] = []
        # language → label → the rows of each group
        self._places: dict[str, dict[str, list[list[int]]]] = {}
        for task in tasks:
            groups: dict[str, dict[str, list[int]]] = {label: {} for label in task.labels}
            for example in task.pool:
                row = len(self.pool)
                groups[example.label].setdefault(example.group or f"\0{row}", []).append(row)
                self.pool.append(example)
            self._places[task.language] = {label: list(found.values()) for label, found in groups.items()}

    @property
    def size(self) -> int:
        """How many texts a batch has, where its languages have all of its labels."""
        s = self._settings
        most = max(len(labels) for labels in self._places.values())
        return min(s.languages, len(self._places)) * min(s.labels, most) * s.examples

    def __call__(self, step: int) -> list[int]:
        """Return the rows of a step's batch, places in `pool`."""
        s = self._settings
        chance = generator(s.seed, "batch", step)
        codes = sorted(self._places)
        chosen = [codes[i] for i in chance.permutation(len(codes))[: s.languages]]
        common = Counter(label for code in chosen for label in self._places[code])
        names = sorted(common)
        shuffled = [names[i] for i in chance.permutation(len(names))]
        # By languages that have the label, two as good as any more: else rare labels were never drawn.
        labels = sorted(shuffled, key=lambda label: -min(common[label], 2))[: s.labels]
        return [
            row
            for code in chosen
            for label in labels
            if label in self._places[code]
            for row in _some(self._places[code][label], s.examples, chance)
        ]


def _some(groups: Sequence[Sequence[int]], count: int, chance: np.random.Generator) -> list[int]:
    """Draw rows, all of different groups while there are any."""
    order = [chance.permutation(np.array(groups[i])).tolist() for i in chance.permutation(len(groups))]
    depth = max(map(len, order))
    rows = [group[level] for level in range(depth) for group in order if level < len(group)]
    return rows[:count]
