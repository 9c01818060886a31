"""What a run of the outer loop has seen: losses, gradients, and a learning curve for every task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaglot.storage import atomic_file

Curve = list[tuple[int, float]]
"""Points (steps made, mean query loss in nats)."""


@dataclass
class History:
    """A run up to its last whole step.

    Attributes:
        losses: the meta-loss of every step.
        norms: the norm of every step's gradient, before clipping.
        curves: task → its mean query loss in the meta-batches that it was in.
        validation: held-out task → its mean query loss.
        judged: the mean of `validation` over tasks, which decides when to stop.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    validation: dict[str, Curve] = field(default_factory=dict)
    judged: Curve = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps have been made."""
        return len(self.losses)

    @property
    def best(self) -> int | None:
        """After how many steps the held-out tasks' loss was the lowest; None where nothing was judged."""
        return min(self.judged, key=lambda point: point[1])[0] if self.judged else None

    @property
    def waited(self) -> int:
        """How many judgements have been no better than the best one."""
        return sum(step > self.best for step, _ in self.judged) if self.best is not None else 0

    def facts(self) -> dict[str, Any]:
        """Return what is worth keeping beside the result: steps, the best one, curves of 50 points."""
        return {
            "steps": self.steps,
            "best_step": self.best,
            "curves": thinned(self.curves),
            "validation": thinned(self.validation),
        }

    def curves_json(self) -> str:
        """Return all but losses and norms as text, every number in full."""
        parts = {"curves": self.curves, "validation": self.validation, "judged": self.judged}
        return json.dumps(parts, ensure_ascii=False)

    @classmethod
    def of(cls, losses: Sequence[float], norms: Sequence[float], curves: str) -> History:
        """Put losses, norms and what `curves_json` wrote together again.

        Raises:
            ValueError: they are something else.
        """
        parts = json.loads(curves)
        if not isinstance(parts, dict) or len(losses) != len(norms):
            raise ValueError("expected a history")
        try:
            curves_of, held_out = (
                {task: _points(points) for task, points in parts[kind].items()}
                for kind in ("curves", "validation")
            )
            return cls(list(losses), list(norms), curves_of, held_out, _points(parts["judged"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected a history: {error}") from error


def thinned(curves: Mapping[str, Sequence[tuple[int, float]]], most: int = 50) -> dict[str, Curve]:
    """Return curves of at most `most` points, each the mean of its neighbours', rounded to 4 digits."""
    found = {}
    for task, points in curves.items():
        width = -(-len(points) // most)
        parts = [points[i : i + width] for i in range(0, len(points), width or 1)]
        found[task] = [(part[-1][0], round(sum(y for _, y in part) / len(part), 4)) for part in parts]
    return found


def plot_curves(facts: Mapping[str, Any], path: Path) -> None:
    """Draw the tasks' learning curves, held-out tasks' dashed, and save the picture.

    Args:
        facts: what `History.facts` returns, which is in an artifact's facts as `training` too.
        path: a file whose name ends in a picture's format that matplotlib (the extra `plot`) can write;
            see `metaglot.evaluation.report.check_plot`.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an optional extra

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an optional extra

    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    for kind, style, mark in (("curves", "-", ""), ("validation", "--", " (held out)")):
        for task, points in sorted(facts[kind].items()):
            xs, ys = [x for x, _ in points], [y for _, y in points]
            axes.plot(xs, ys, f"{style}o", lw=1.3, ms=2.5, label=f"{task or 'tasks'}{mark}")
    if facts["best_step"] is not None:
        axes.axvline(
            facts["best_step"], color="0.4", lw=0.8, ls=":", label=f"best: step {facts['best_step']}"
        )
    axes.set_xlabel("outer steps")
    axes.set_ylabel("query loss after adapting")
    axes.grid(alpha=0.3)
    lines = len(facts["curves"]) + len(facts["validation"])
    if lines:
        axes.legend(fontsize=7, ncols=1 + lines // 16, loc="upper right")
    with atomic_file(path) as beside:
        figure.savefig(beside, dpi=140, format=path.suffix.lstrip(".").lower())
    plt.close(figure)


def _points(rows: Sequence[Sequence[float]]) -> Curve:
    return [(int(x), float(y)) for x, y in rows]
