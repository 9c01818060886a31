"""What a search has found: every combination's accuracy, beside that of the recipe as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.markup import escape
from rich.table import Table

from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.searching.choices import Combination


@dataclass(frozen=True)
class Gain:
    """A mean difference over left-out languages, with its 95% bootstrap interval over them."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


@dataclass(frozen=True)
class Judged:
    """What one combination reached.

    Attributes:
        combination: what was tried.
        accuracy: language → number of shots → mean over draws; empty where it failed.
        failed: why it came to nothing, as where training diverged.
    """

    combination: Combination
    accuracy: Mapping[str, Mapping[int, float]]
    failed: str = ""

    def mean(self, shots: Sequence[int]) -> float:
        """Return the mean over languages and numbers of shots; below all others where it failed."""
        if self.failed:
            return float("-inf")
        values = [of_language[k] for of_language in self.accuracy.values() for k in shots]
        return sum(values) / len(values)


class SearchResult:
    """The combinations that were tried, the best first.

    Args:
        judged: every combination, the recipe as it stands first.
        shots: numbers of examples per label.

    Attributes:
        reference: the recipe as it stands.
        ranked: all of them by their mean over languages and shots; of equals the one tried first.
        best: the first of these.
    """

    def __init__(self, judged: Sequence[Judged], shots: Sequence[int]) -> None:
        self.shots = tuple(sorted(set(shots)))
        self.reference = judged[0]
        self.ranked = sorted(judged, key=lambda one: -one.mean(self.shots))
        self.best = self.ranked[0]

    def gain(self, one: Judged) -> Gain | None:
        """Return by how much a combination is better than the recipe as it stands, on the same draws.

        The interval is over languages: it asks what would be so with other ones. None where either of
        the two failed.
        """
        if one.failed or self.reference.failed:
            return None
        theirs = self.reference.accuracy
        differences = [
            sum(ours[k] - theirs[language][k] for k in self.shots) / len(self.shots)
            for language, ours in one.accuracy.items()
        ]
        values = torch.tensor([differences], dtype=torch.float64)
        return Gain(float(values.mean()), *bootstrap_interval(values))

    def verdict(self) -> str:
        """Return a sentence or two on the best."""
        if self.best.failed:
            return "Everything that was tried failed, the recipe as it stands too."
        if self.best is self.reference:
            return "Nothing that was tried is better than the recipe as it stands."
        gain = self.gain(self.best)
        said = f"Best: {self.best.combination}"
        if gain is None:
            return f"{said}; the recipe as it stands failed: {self.reference.failed}"
        said += f", {gain} points against the recipe as it stands."
        if gain.low > 0:
            return said
        return f"{said} The interval has zero in it: on these languages the two cannot be told apart."

    def table(self) -> Table:
        """Return the table of all combinations."""
        languages = len(next((one.accuracy for one in self.ranked if not one.failed), ()))
        table = Table(
            title=f"accuracy, %, mean over {languages} source languages, each left out once",
            caption="gain: points against the recipe as it stands, with its 95% interval over languages",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        table.add_column("tried", overflow="fold")
        for name in (*(f"k = {k}" for k in self.shots), "mean", "gain"):
            table.add_column(name, justify="right", no_wrap=True)
        for one in self.ranked:
            if one.failed:
                cells = [*("–" for _ in self.shots), "–", "failed"]
            else:
                means = [*(one.mean((k,)) for k in self.shots), one.mean(self.shots)]
                gain = "–" if one is self.reference else str(self.gain(one) or "–")
                cells = [*(f"{100 * mean:.1f}" for mean in means), gain]
            table.add_row(escape(str(one.combination)), *cells, style="bold" if one is self.best else "")
        return table

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain values, the best combination first."""
        found = []
        for one in self.ranked:
            gain = self.gain(one)
            found.append(
                {
                    "values": dict(one.combination.values),
                    "mean": None if one.failed else one.mean(self.shots),
                    "by_shots": {} if one.failed else {str(k): one.mean((k,)) for k in self.shots},
                    "gain": None if gain is None else vars(gain),
                    "failed": one.failed,
                }
            )
        return {"shots": list(self.shots), "verdict": self.verdict(), "combinations": found}
