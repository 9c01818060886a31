"""How good features are for languages that they were not tuned on: a cheap, closed-form judgement.

Two accuracies on source languages that are kept apart, the mean over them:

- zero-shot: of a ridge head that learned from texts of the languages that are tuned on, every
  language's features centred on their own mean;
- few-shot: of ridge heads that learned from four examples a label of the language itself, sixteen pairs.

Their mean decides. The languages that are held out from the corpus have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from metaglot.errors import DataError
from metaglot.learners.closed_form import dual, inverse_of, one_hot
from metaglot.model import Scaler
from metaglot.space import Draw, Task, draw_episode, generator
from metaglot.tuning.reading import Reading
from metaglot.types import Example

if TYPE_CHECKING:
    from torch import Tensor

# Examples, and tokens for each of an example's texts, that one judgement encodes: some seconds of two cores.
EXAMPLES, TOKENS = 800, 24_000
# Of them, for the head of zero-shot to learn from.
SHARE = 0.4
QUERIES, DRAWS = 8, 5
PENALTY = 1.0


@dataclass(frozen=True)
class Judgement:
    """Accuracies on the languages kept apart, from 0 to 1: the means over them."""

    zero_shot: float
    few_shot: float

    @property
    def score(self) -> float:
        """What decides: the mean of both."""
        return (self.zero_shot + self.few_shot) / 2


class Probe:
    """A fixed sample of examples, by which features are judged.

    Args:
        tuned_on: the languages that are tuned on.
        apart: those that are not, at least one.
        mean_tokens: of an example, so that longer ones are fewer.
        reading: how many texts an example has, and how many of them say something.
        seed: of the sample.

    Raises:
        DataError: no language kept apart has two labels that can be both learned and judged.
    """

    def __init__(
        self, tuned_on: Sequence[Task], apart: Sequence[Task], mean_tokens: float, reading: Reading, seed: int
    ) -> None:
        most = int(min(EXAMPLES, TOKENS * reading.parts / max(mean_tokens, 1)))
        self._shots = reading.shots
        labels = sorted({label for task in tuned_on for label in task.labels})
        self.labels = {label: number for number, label in enumerate(labels)}
        self.learn = [_sample(t, int(most * SHARE / len(tuned_on)), seed) for t in tuned_on]
        self.judge = [_sample(t, int(most * (1 - SHARE) / len(apart)), seed) for t in apart]
        self._draws = [self._episodes(rows, seed) for rows in self.judge]
        if not any(self._draws):
            raise DataError(
                "expected two labels with examples of two or more groups in a language to judge on, "
                f"found none in {', '.join(task.language for task in apart)}.",
                hint="Name other source languages in the setting validation, or give it 0.",
            )

    @property
    def examples(self) -> list[Example]:
        """What is encoded for one judgement, in order."""
        return [e for rows in (*self.learn, *self.judge) for e in rows]

    def __call__(self, encode: Callable[[Sequence[Example]], Tensor]) -> Judgement:
        """Judge features `[n, d]` of examples."""
        features = encode(self.examples)
        split = list(torch.split(features, [len(rows) for rows in (*self.learn, *self.judge)]))
        learned = torch.cat(split[: len(self.learn)])
        targets = torch.tensor([self.labels[e.label] for rows in self.learn for e in rows])
        scaler = Scaler.of(learned)
        scaled = [scaler(part) for part in split]
        rows = torch.cat([part - part.mean(0) for part in scaled[: len(self.learn)]])
        zero = _ridge(rows, targets, len(self.labels))
        found = [
            (self._zero_shot(part, examples, zero), _few_shot(part, examples, draws))
            for part, examples, draws in zip(scaled[len(self.learn) :], self.judge, self._draws, strict=True)
            if draws
        ]
        return Judgement(*(sum(column) / len(found) for column in zip(*found, strict=True)))

    def _zero_shot(self, features: Tensor, examples: Sequence[Example], weights: Tensor) -> float:
        known = torch.tensor([e.label in self.labels for e in examples])
        own = sorted({self.labels[e.label] for e in examples if e.label in self.labels})
        if not own:
            return 0.0
        scores = ((features - features.mean(0)) @ weights.T)[known][:, own]
        targets = torch.tensor([own.index(self.labels[e.label]) for e in examples if e.label in self.labels])
        return float((scores.argmax(1) == targets).float().mean())

    def _episodes(self, rows: Sequence[Example], seed: int) -> list[Draw]:
        labels = sorted({e.label for e in rows})
        try:
            return [draw_episode(rows, labels, self._shots, QUERIES, seed, "probe", n) for n in range(DRAWS)]
        except DataError:
            return []


def _few_shot(features: Tensor, examples: Sequence[Example], draws: Sequence[Draw]) -> float:
    right = []
    for draw in draws:
        place = {label: number for number, label in enumerate(draw.labels)}

        def targets(rows: Sequence[int], place: dict[str, int] = place) -> Tensor:
            return torch.tensor([place[examples[i].label] for i in rows])

        support, query = draw.support.tolist(), draw.query.tolist()
        mean = features[support].mean(0)
        weights = _ridge(features[support] - mean, targets(support), len(place))
        found = ((features[query] - mean) @ weights.T).argmax(1)
        right.append(float((found == targets(query)).float().mean()))
    return sum(right) / len(right)


def _ridge(features: Tensor, targets: Tensor, n_labels: int) -> Tensor:
    """Return a ridge head's weights `[C, d]`."""
    alpha, _ = dual(inverse_of(features @ features.T, PENALTY), one_hot(targets, n_labels))
    return alpha.T @ features


def _sample(task: Task, count: int, seed: int) -> list[Example]:
    """Draw a language's examples, of each label as many."""
    chance = generator(seed, "probe", task.language)
    by_label: dict[str, list[Example]] = {label: [] for label in task.labels}
    for i in chance.permutation(len(task.pool)).tolist():
        by_label[task.pool[i].label].append(task.pool[i])
    depth = max(map(len, by_label.values()))
    turns = [rows[level] for level in range(depth) for rows in by_label.values() if level < len(rows)]
    return turns[: max(count, 2 * len(by_label))]
