"""Records → means, intervals, paired differences; as a table, a plot, or plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.table import Table

from metaglot.errors import MissingExtraError, SettingsError
from metaglot.evaluation.grid import Record
from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.languages import language_name
from metaglot.storage import atomic_file

if TYPE_CHECKING:
    from torch import Tensor


PLOT_FORMATS = (".png", ".svg", ".pdf")
_MOST_GAINS = 30


@dataclass(frozen=True)
class Cell:
    """A mean over languages and draws with its 95% interval, and how many of each there were."""

    mean: float
    low: float
    high: float
    languages: int
    draws: int


@dataclass(frozen=True)
class Difference:
    """The best learner less the best baseline at one number of shots, on the same draws."""

    shots: int
    learner: str
    baseline: str
    cell: Cell


UNITS = {"label": "examples per label", "example": "sentences"}
"""What k counts, by a kind's `shots`."""


class Report:
    """The records of one grid, summed up by one metric.

    Args:
        records: what `run_grid` returned.
        metric: the metric to sum up; higher is better. The kind's first where None.
        unit: what k counts.
    """

    def __init__(
        self, records: Sequence[Record], metric: str | None = None, unit: str = UNITS["label"]
    ) -> None:
        self.unit = unit
        metric = next(iter(records[0].metrics)) if metric is None else metric
        self.metric = metric
        self.records = tuple(records)
        self.shots = sorted({r.shots for r in records})
        self.languages = sorted({r.language for r in records})
        self.learners = list(dict.fromkeys(r.method for r in records if r.learned))
        self.baselines = list(dict.fromkeys(r.method for r in records if not r.learned))
        self._values = {(r.method, r.shots, r.language, r.draw): r.metrics[metric] for r in records}
        self._cells: dict[tuple[str, int], Cell] = {}
        self._draws: dict[tuple[str, int], set[int]] = {}
        for r in records:
            self._draws.setdefault((r.method, r.shots), set()).add(r.draw)

    def values(self, method: str, shots: int) -> Tensor | None:
        """Return a method's values `[languages, draws]`, or None where it was not run."""
        draws = sorted(self._draws.get((method, shots), ()))
        if not draws:
            return None
        rows = [[self._values[method, shots, lang, d] for d in draws] for lang in self.languages]
        return torch.tensor(rows, dtype=torch.float64)

    def mean(self, method: str, shots: int) -> float | None:
        """Return a method's mean at a number of shots, or None where it was not run."""
        values = self.values(method, shots)
        return None if values is None else float(values.mean())

    def cell(self, method: str, shots: int) -> Cell | None:
        """Return a method's mean at a number of shots with its interval, or None where it was not run."""
        found = self._cells.get((method, shots))
        if found is None and (values := self.values(method, shots)) is not None:
            found = self._cells[method, shots] = _cell(values)  # resampling takes a while
        return found

    def differences(self) -> list[Difference]:
        """Compare the best learner with the best baseline (both by their mean) at every shots ≥ 1."""
        best = [(k, self._best(self.learners, k)) for k in self.shots if k]
        found = [self.against_best(learner, k) for k, learner in best if learner is not None]
        return [difference for difference in found if difference is not None]

    def against_best(self, learner: str, shots: int) -> Difference | None:
        """Compare a learner with the baseline whose mean at a number of shots is the highest.

        The baseline is chosen in hindsight, by the very values that are compared: no method that has to
        choose beforehand is as good. None where one of the two was not run.
        """
        baseline = self._best(self.baselines, shots)
        ours = self.values(learner, shots)
        theirs = None if baseline is None else self.values(baseline, shots)
        if baseline is None or ours is None or theirs is None:
            return None
        return Difference(shots, learner, baseline, _cell(ours - theirs))

    def _best(self, methods: Sequence[str], shots: int) -> str | None:
        means = {m: mean for m in methods if (mean := self.mean(m, shots)) is not None}
        return max(means, key=lambda m: means[m]) if means else None

    def table(self) -> Table:
        """Return the table of every method at every number of shots, as percentages with intervals."""
        draws = max(r.draw for r in self.records) + 1
        table = Table(
            title=f"{self.metric}, %, mean over {len(self.languages)} held-out languages and {draws} draws",
            caption="± is half of the 95% bootstrap interval over draws; bold is the best of its column",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        table.add_column("method", no_wrap=True)
        for shots in self.shots:
            table.add_column(f"k = {shots}", justify="right", no_wrap=True)
        best = {k: self._best([*self.learners, *self.baselines], k) for k in self.shots}
        for group in (self.learners, self.baselines):
            for method in group:
                cells = [_text(self.cell(method, k), bold=best[k] == method and k > 0) for k in self.shots]
                table.add_row(method if group is self.learners else f"[dim]{method}[/dim]", *cells)
            table.add_section()
        return table

    def difference_lines(self) -> list[str]:
        """Return a sentence for every number of shots: best learner against best baseline."""
        return [
            f"k = {d.shots}: {d.learner} {100 * d.cell.mean:+.1f} points against {d.baseline} "
            + (
                f"(paired 95% interval {100 * d.cell.low:+.1f} to {100 * d.cell.high:+.1f})"
                if d.cell.draws > 1
                else "(one draw)"
            )
            for d in self.differences()
        ]

    def language_table(self, method: str, shots: int) -> Table:
        """Return one method's means by language beside zero-shot."""
        table = Table(title=f"{method} by language, %, k = {shots}")
        for name in ("language", "zero-shot", method, "gain"):
            table.add_column(name, justify="left" if name == "language" else "right")
        ours, base = self.values(method, shots), self.values(method, 0)
        for row, language in enumerate(self.languages):
            if ours is not None and base is not None:
                now, before = float(ours[row].mean()), float(base[row].mean())
                name = f"{language_name(language)} ({language})"
                table.add_row(name, f"{100 * before:.1f}", f"{100 * now:.1f}", f"{100 * (now - before):+.1f}")
        return table

    def summary(self) -> dict[str, Any]:
        """Return the means, intervals and differences as plain values."""
        methods = [*self.learners, *self.baselines]
        cells = {m: {k: self.cell(m, k) for k in self.shots} for m in methods}
        return {
            "metric": self.metric,
            "languages": self.languages,
            "means": {
                m: {str(k): vars(cell) for k, cell in row.items() if cell is not None}
                for m, row in cells.items()
            },
            "differences": [vars(d) | {"cell": vars(d.cell)} for d in self.differences()],
        }

    def plot(self, path: Path) -> None:
        """Draw accuracy against shots for every method, and the gain by language; save it.

        Of more than 30 languages the gains are left out.

        Raises:
            MissingExtraError: matplotlib is not installed.
            SettingsError: the file's name does not end in a picture's format.
        """
        check_plot(path)
        from matplotlib import pyplot as plt  # noqa: PLC0415 - an optional extra

        gains = len(self.languages) <= _MOST_GAINS
        figure, axes = plt.subplots(
            1,
            1 + gains,
            figsize=(11 if gains else 7.5, 4.6),
            width_ratios=(3, 2)[: 1 + gains],
            layout="constrained",
            squeeze=False,
        )
        left = axes[0, 0]
        places = {k: i for i, k in enumerate(self.shots)}
        for method in [*self.learners, *self.baselines]:
            cells = [(places[k], c) for k in self.shots if (c := self.cell(method, k)) is not None]
            if method == "majority" or not cells:
                continue
            learned = method in self.learners
            x, y = [p for p, _ in cells], [100 * c.mean for _, c in cells]
            (line,) = left.plot(
                x, y, "-o" if learned else "--", label=method, lw=2 if learned else 1.2, ms=4, alpha=0.9
            )
            low, high = [100 * c.low for _, c in cells], [100 * c.high for _, c in cells]
            left.fill_between(x, low, high, alpha=0.15, color=line.get_color(), lw=0)
        left.set_xticks(list(places.values()), [str(k) for k in self.shots])
        left.set_xlabel(self.unit)
        left.set_ylabel(f"{self.metric}, %")
        left.set_title(f"mean over {len(self.languages)} held-out languages")
        left.legend(fontsize=8)
        left.grid(alpha=0.3)
        if gains:
            self._plot_gains(axes[0, 1])
        with atomic_file(path) as beside:
            figure.savefig(beside, dpi=140, format=path.suffix.lstrip(".").lower())
        plt.close(figure)

    def _plot_gains(self, axes: Any) -> None:
        learner = self._best(self.learners, self.shots[-1])
        base = None if learner is None else self.values(learner, 0)
        if learner is None or base is None:
            axes.set_visible(False)
            return
        for shots in (k for k in self.shots if k):
            ours = self.values(learner, shots)
            if ours is not None:
                gain = 100 * (ours.mean(1) - base.mean(1))
                axes.plot(gain.tolist(), range(len(self.languages)), "o", label=f"k = {shots}", ms=5)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_yticks(range(len(self.languages)), [language_name(code) for code in self.languages])
        axes.set_xlabel(f"points gained over zero-shot by {learner}")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)


def check_plot(path: Path) -> None:
    """Check that a plot can be drawn and saved as `path`, before there is anything to draw.

    Raises:
        MissingExtraError: matplotlib is not installed.
        SettingsError: the file's name does not end in a picture's format.
    """
    if path.suffix.lower() not in PLOT_FORMATS:
        raise SettingsError(
            f"expected the plot's file to end in {', '.join(PLOT_FORMATS)}, found {path.name!r}."
        )
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "Drawing a plot") from error
    mpl.use("Agg")


def _cell(values: Tensor) -> Cell:
    low, high = bootstrap_interval(values)
    return Cell(float(values.mean()), low, high, values.shape[0], values.shape[1])


def _text(cell: Cell | None, *, bold: bool) -> str:
    if cell is None:
        return "–"
    half = 100 * (cell.high - cell.low) / 2
    text = f"{100 * cell.mean:.1f}" + (f" ±{half:.1f}" if half >= 0.05 else "")
    return f"[bold]{text}[/bold]" if bold else text
