"""The tables and plots of models that write, from their result files into the documentation.

python -m benchmarks.generation.tables
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.generation import ablations
from benchmarks.generation.language_modelling import TUNED, tuned_at
from benchmarks.generation.methods import FRESH, JOINT, LEARNERS, SCRATCH
from benchmarks.markers import ROOT, fill, markdown, renew
from metaglot.evaluation.report import check_plot
from metaglot.space import generator
from metaglot.storage import atomic_file

RESULTS = ROOT / "benchmarks" / "results"
ASSETS = ROOT / "docs" / "assets"
_RESAMPLES = 10_000


class Modelling:
    """The results of language modelling: bits per byte by method, kilobytes and updates."""

    def __init__(self, path: Path = RESULTS / "language_modelling.jsonl") -> None:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        self.about: dict[str, Any] = rows[0]["about"]
        self.held_out = {code: side for side, codes in self.about["held_out"].items() for code in codes}
        self.values: dict[tuple[str, int, int], dict[str, list[float]]] = {}
        tried: dict[tuple[str, int, int, float], list[float]] = {}
        for row in rows[1:]:
            if row["language"] in self.about["validation"]:
                key = (row["method"], row["kilobytes"], row["updates"], row["multiple"])
                tried.setdefault(key, []).append(row["bits"])
        # What the validation languages chose: a rate for each number of updates, and that number.
        chosen: dict[tuple[str, int, int], float] = {}
        self.chosen: dict[str, int] = {}
        for name, size, updates, multiple in sorted(tried, key=lambda key: -mean(tried[key])):
            if len(tried[name, size, updates, multiple]) == len(self.about["validation"]):
                chosen[name, size, updates] = multiple
                if size == TUNED[0]:
                    self.chosen[name] = updates
        for row in rows[1:]:
            if row["language"] not in self.held_out:
                continue
            place = (row["method"], tuned_at(row["kilobytes"]), row["updates"])
            if row["multiple"] == chosen.get(place, 1.0):
                cell = (row["method"], row["kilobytes"], row["updates"])
                self.values.setdefault(cell, {}).setdefault(row["language"], []).append(row["bits"])
        self.methods = [name for name in LEARNERS if any(name == method for method, _, _ in self.values)]

    def by_language(self, method: str, kilobytes: int, updates: int) -> dict[str, float]:
        """Return a cell's bits per byte by language; nothing where it was not run to its end."""
        found = self.values.get((method, kilobytes, updates), {})
        return {code: mean(v) for code, v in found.items()} if len(found) == len(self.held_out) else {}

    def best(self, method: str, kilobytes: int) -> dict[str, float]:
        """Return the cell of the updates that the validation languages chose at four kilobytes.

        At other sizes there is one number of updates.
        """
        counts = {updates for m, size, updates in self.values if (m, size) == (method, kilobytes)}
        updates = self.chosen[method] if kilobytes == 4 else max(counts, default=0)
        return self.by_language(method, kilobytes, updates)

    def sizes(self) -> str:
        """Return the table of bits per byte by kilobytes."""
        sizes = sorted({size for _, size, _ in self.values})
        rows = []
        best = {
            s: min((mean(c.values()) for m in self.methods if (c := self.best(m, s))), default=0.0)
            for s in sizes
        }
        for method in self.methods:
            cells = [self.best(method, size) for size in sizes]
            rows.append(
                [
                    method,
                    *(
                        _text(mean(c.values()), mean(c.values()) == best[s]) if c else "–"
                        for s, c in zip(sizes, cells, strict=True)
                    ),
                ]
            )
        return markdown(["bits per byte", *(f"{size} KB" for size in sizes)], rows)

    def updates(self) -> str:
        """Return the table at four kilobytes by updates, each less joint training and fine-tuning."""
        counts = sorted({updates for _, size, updates in self.values if size == 4})
        rows = []
        for method in self.methods:
            cells = []
            for count in counts:
                ours, theirs = self.by_language(method, 4, count), self.by_language(JOINT, 4, count)
                cells.append("–" if not ours else _against(ours, theirs, method))
            rows.append([method, *cells])
        return markdown(["bits per byte, 4 KB", *(f"{count} updates" for count in counts)], rows)

    def families(self) -> str:
        """Return the table at four kilobytes by whether a language's kin are among the sources."""
        rows = []
        for method in self.methods:
            cell = self.best(method, 4)
            if cell:
                means = [
                    mean(value for code, value in cell.items() if self.held_out[code] == side)
                    for side in self.about["held_out"]
                ]
                rows.append([method, *(f"{value:.2f}" for value in means)])
        return markdown(["bits per byte, 4 KB", *self.about["held_out"]], rows)

    def plot(self, path: Path) -> None:
        """Draw bits per byte by kilobytes."""
        curves = {
            m: {s: mean(c.values()) for s in (1, 4, 16, 64) if (c := self.best(m, s))} for m in self.methods
        }
        draw(
            path,
            curves,
            "kilobytes of the new language",
            "bits per byte",
            "ten held-out languages of the Bible corpus",
        )


class Translating:
    """The results of translation, as `benchmarks.generation.scoring` has them: chrF++ by method."""

    def __init__(self, name: str) -> None:
        self.name = name
        content = json.loads((RESULTS / f"translation-{name}-scores.json").read_text("utf-8"))
        self.about: dict[str, Any] = content["about"]
        self.cells: list[dict[str, Any]] = content["cells"]
        self.methods = list(dict.fromkeys(cell["method"] for cell in self.cells))

    def find(self, method: str, tokens: int, updates: int) -> dict[str, Any] | None:
        """Return a cell."""
        wanted = (method, tokens, updates)
        return next((c for c in self.cells if (c["method"], c["tokens"], c["updates"]) == wanted), None)

    def table(self) -> str:
        """Return the table of chrF++ by tokens and updates."""
        columns = sorted({(c["tokens"], c["updates"]) for c in self.cells})
        rows = []
        for method in self.methods:
            cells = []
            for tokens, updates in columns:
                cell = self.find(method, tokens, updates)
                text = "–" if cell is None else f"{cell['mean']:.1f}"
                if cell is not None and "difference" in cell:
                    text += f" ({cell['difference']:+.1f}: {cell['low']:+.1f} to {cell['high']:+.1f})"
                cells.append(text)
            rows.append([method, *cells])
        return markdown(["chrF++", *(_column(*place) for place in columns)], rows)

    def plot(self, path: Path) -> None:
        """Draw chrF++ by updates at the larger number of tokens."""
        most = max(cell["tokens"] for cell in self.cells)
        curves = {
            m: {
                max(1, c["updates"]): c["mean"]
                for c in self.cells
                if c["method"] == m and c["tokens"] in (0, most)
            }
            for m in self.methods
        }
        x, title = f"updates on {most:,} target tokens", "mean over held-out languages"
        draw(path, curves, x, "chrF++", title, names={1: "none"})


def draw(
    path: Path,
    curves: Mapping[str, Mapping[int, float]],
    x: str,
    y: str,
    title: str,
    names: Mapping[int, str] | None = None,
) -> None:
    """Draw a line for each method over a logarithmic axis, some of whose ticks have names, and save it."""
    check_plot(path)
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for name, curve in curves.items():
        if curve:
            plain = name in (JOINT, SCRATCH, FRESH, "copy")
            axes.plot(list(curve), list(curve.values()), "--" if plain else "-o", label=name, ms=4)
    axes.set_xscale("log", base=2)
    ticks = sorted({place for curve in curves.values() for place in curve})
    axes.set_xticks(ticks, [(names or {}).get(tick, str(tick)) for tick in ticks])
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    with atomic_file(path) as beside:
        figure.savefig(beside, dpi=140, format="png")
    plt.close(figure)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean of paired differences by language."""
    values = np.array(differences)
    picks = generator("bootstrap", len(values)).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(1), (0.025, 0.975))
    return float(low), float(high)


def _against(ours: Mapping[str, float], theirs: Mapping[str, float], method: str) -> str:
    text = f"{mean(ours.values()):.2f}"
    if method == JOINT or not theirs:
        return text
    differences = [ours[code] - theirs[code] for code in ours]
    low, high = interval(differences)
    return f"{text} ({mean(differences):+.2f}: {low:+.2f} to {high:+.2f})"


def _column(tokens: int, updates: int) -> str:
    return f"{tokens:,} tokens, {updates} updates" if tokens else "as it starts"


def _text(value: float, bold: bool) -> str:
    return f"**{value:.2f}**" if bold else f"{value:.2f}"


def tables() -> dict[str, Callable[[], str]]:
    """Return name → what makes the table; of results that there are."""
    found: dict[str, Callable[[], str]] = {}
    if (RESULTS / "language_modelling.jsonl").exists():
        modelling = Modelling()
        found |= {
            "language-modelling-sizes": modelling.sizes,
            "language-modelling-updates": modelling.updates,
            "language-modelling-families": modelling.families,
        }
    for name in _translations():
        found[f"translation-{name}"] = Translating(name).table
    if ablations.OUT.exists():
        found["translation-ablations"] = tried
    return found


def tried() -> str:
    """Return the table of the variations of meta-learning: nats per token by tokens and updates."""
    variations = ablations.summary()
    columns = sorted({place for cells in variations.values() for place in cells})
    rows = [
        [name, *(f"{cells[place]:.3f}" if place in cells else "–" for place in columns)]
        for name, cells in variations.items()
    ]
    return markdown(["nats per token", *(_column(*place) for place in columns)], rows)


def filled(page: Path) -> str:
    """Return a page's text with its tables made anew."""
    return fill(page.read_text(encoding="utf-8"), tables())


def _translations() -> Iterable[str]:
    return [
        n for n in ("english", "django", "lexical") if (RESULTS / f"translation-{n}-scores.json").exists()
    ]


if __name__ == "__main__":
    renew(filled)
    if (RESULTS / "language_modelling.jsonl").exists():
        Modelling().plot(ASSETS / "language-modelling.png")
    for each in _translations():
        if each != "lexical":
            Translating(each).plot(ASSETS / f"translation-{each}.png")
