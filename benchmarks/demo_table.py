"""The tables of the documentation, made from the result files beside this script.

    python benchmarks/demo_table.py

A page says where a table goes by a pair of comments (see `benchmarks/markers.py`), such as
`<!-- demo-table:start -->` and `<!-- demo-table:end -->`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from metaglot.evaluation.grid import Record
from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.evaluation.report import Report
from metaglot.languages import language_name

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # as a script it has its own folder alone

from benchmarks.markers import fill, markdown, percent, renew  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
LEARNER = "auto"
SHOTS = 8
# The Chinese page's words for the same things.
CHINESE = {
    "method": "方法",
    "zero-shot": "零样本",
    "encoder": "编码方式",
    "texts/s": "条/秒",
    "slowest–fastest": "最慢–最快",
    "feature cache": "特征缓存",
    "cold": "空",
    "warm": "已有",
    "examples": "样本数",
    "labels": "标签数",
    "adapting, s": "适配（秒）",
    "whole command, s": "整条命令（秒）",
    "on disk, KB": "磁盘占用（KB）",
}


@cache
def result(name: str) -> Any:
    """Return the content of a result file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@cache
def report(metric: str = "accuracy") -> Report:
    """Return the demo's records, summed up by a metric."""
    return Report([Record(**row) for row in result("demo")["records"]], metric)


def demo_table(words: dict[str, str]) -> str:
    """Every method at every number of shots, the best of each column in bold."""
    found = report()
    cells = {m: [found.cell(m, k) for k in found.shots] for m in [*found.learners, *found.baselines]}
    best = [max(row[i].mean for row in cells.values() if row[i]) for i in range(len(found.shots))]
    rows = []
    for method, row in cells.items():
        shown = [
            percent(cell, bold=k > 0 and cell is not None and cell.mean == top)
            for k, cell, top in zip(found.shots, row, best, strict=True)
        ]
        rows.append([f"`{method}`" if method in found.learners else f"*{method}*", *shown])
    head = [words.get("method", "method")]
    head += [words.get("zero-shot", "zero-shot") if k == 0 else f"k = {k}" for k in found.shots]
    return markdown(head, rows)


def demo_languages(words: dict[str, str]) -> str:
    """The default learner by language, beside zero-shot and the best baseline."""
    found = report()
    baseline = next(d.baseline for d in found.differences() if d.shots == SHOTS)
    columns = [(LEARNER, 0), (baseline, SHOTS), (LEARNER, SHOTS)]
    values = [found.values(method, k) for method, k in columns]
    rows = []
    for place, code in enumerate(found.languages):
        means = [float(v[place].mean()) for v in values if v is not None]
        shown = [f"{100 * mean:.1f}" for mean in means]
        rows.append([f"{language_name(code)} (`{code}`)", *shown, f"{100 * (means[2] - means[0]):+.1f}"])
    head = [
        "language",
        "zero-shot",
        f"*{baseline}*, k = {SHOTS}",
        f"`{LEARNER}`, k = {SHOTS}",
        "over zero-shot",
    ]
    return markdown(head, rows)


def demo_pairs(words: dict[str, str]) -> str:
    """What the default learner gains over each other method, in points, on the same draws."""
    found = report()
    shots = [k for k in found.shots if k]
    rows = []
    for method in [*found.learners, *found.baselines]:
        if method == LEARNER:
            continue
        row = [f"`{method}`" if method in found.learners else f"*{method}*"]
        for k in shots:
            ours, theirs = found.values(LEARNER, k), found.values(method, k)
            if ours is None or theirs is None:
                row.append("–")
                continue
            low, high = bootstrap_interval(ours - theirs)
            row.append(f"{100 * float((ours - theirs).mean()):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
        rows.append(row)
    return markdown([f"`{LEARNER}` less", *(f"k = {k}" for k in shots)], rows)


def demo_calibration(words: dict[str, str]) -> str:
    """The expected calibration error of every method, in points; lower is better."""
    found = report("calibration_error")
    rows = []
    for method in [*found.learners, *found.baselines]:
        cells = [found.cell(method, k) for k in found.shots]
        shown = ["–" if cell is None else f"{100 * cell.mean:.1f}" for cell in cells]
        rows.append([f"`{method}`" if method in found.learners else f"*{method}*", *shown])
    return markdown(["method", *("zero-shot" if k == 0 else f"k = {k}" for k in found.shots)], rows)


def encode_table(words: dict[str, str]) -> str:
    """Sentences per second of the ways to encode, on one machine."""
    rows = [
        [name, f"{row['sentences_per_second']}", f"{row['slowest']}–{row['fastest']}"]
        for name, row in result("encode")["results"].items()
    ]
    return markdown([words.get(w, w) for w in ("encoder", "texts/s", "slowest–fastest")], rows)


def adapt_table(words: dict[str, str]) -> str:
    """What adapting costs: medians, with an empty and with a filled feature cache."""
    rows = [
        [
            words.get(cache, cache),
            f"{m['examples']:.0f}",
            f"{m['labels']:.0f}",
            f"{m['adapting_seconds']:.2f}",
            f"{m['wall_seconds']:.1f}",
            f"{m['bytes'] / 1024:.0f}",
        ]
        for cache, m in result("adapt")["medians"].items()
    ]
    head = ["feature cache", "examples", "labels", "adapting, s", "whole command, s", "on disk, KB"]
    return markdown([words.get(word, word) for word in head], rows)


def learners_table(words: dict[str, str]) -> str:
    """Every learner on the demo's corpus, and what training it takes."""
    kept = result("learners")
    found = Report([Record(**row) for row in kept["records"]])
    rows = []
    for method in [*found.learners, *found.baselines]:
        cells = [percent(found.cell(method, k), bold=False) for k in found.shots if k]
        learned = method in found.learners
        seconds = f"{kept['seconds'][method]:.0f}" if learned else "–"
        rows.append([f"`{method}`" if learned else f"*{method}*", *cells, seconds])
    return markdown(["method", *(f"k = {k}" for k in found.shots if k), "training, s"], rows)


def setfit_table(words: dict[str, str]) -> str:
    """Adapting from texts to an adapted model: SetFit beside metaglot on the same support sets."""
    kept = result("setfit_time_5_labels")
    rows = [
        [
            f"`{method}`" if method == "metaglot" else "SetFit, its defaults",
            f"{m['seconds']:.1f}",
            f"{m['times_as_long']:.0f}",
            f"{m['cpu_seconds']:.1f}",
            f"{100 * m['accuracy']:.1f}",
        ]
        for method, m in kept["methods"].items()
    ]
    return markdown(["", "seconds", "ratio", "of the processor", "accuracy"], rows)


def tune_table(words: dict[str, str]) -> str:
    """The frozen encoder beside tuned ones: `auto` on held-out languages."""
    kept = result("tune")["rows"]
    rows = []
    for name, row in kept.items():
        cost = (
            [f"{row['texts_per_second']:.0f}", f"{row['steps']}", f"{100 * row['share']:.0f}%"]
            if "steps" in row
            else ["–"] * 3
        )
        rows.append([name, *cost, *(f"{100 * value:.1f}" for value in row["accuracy"].values())])
    shots = ["zero-shot" if k == "0" else f"k = {k}" for k in kept["frozen"]["accuracy"]]
    return markdown(["encoder", "texts/s", "steps", "share of the tuned weights", *shots], rows)


def step_table(part: str) -> Callable[[dict[str, str]], str]:
    """Return a maker of the tables of one meta-gradient: time, and what it is of the best exact peer's."""

    def table(words: dict[str, str]) -> str:
        kept = result("meta_step")["parts"]
        made = []
        for title in [t for t in kept if t.startswith(f"{part}: ") and t.endswith("second order")]:
            orders = [kept[title], kept[title.replace("second order", "first order")]]
            times = [
                {n: statistics.median(r["seconds"]) for n, r in rows.items() if r.get("seconds")}
                for rows in orders
            ]
            best = [min(t for n, t in found.items() if _is_exact_peer(n)) for found in times]
            rows = []
            # Memory is measured apart, and shown once it is there for all.
            memory = ["MiB"] if all(r.get("memory_mib") for rs in orders for r in rs.values()) else []
            for name in times[0]:
                row = [f"**{name}**" if name.startswith("metaglot") else name]
                for order, found, peer in zip(orders, times, best, strict=True):
                    if name in found:
                        row += [f"{1000 * found[name]:.0f}", f"{peer / found[name]:.2f}"]
                        row += [f"{order[name]['memory_mib']:.0f}" for _ in memory]
                    else:
                        row += ["–"] * (2 + len(memory))
                row.append(f"{orders[0][name]['error']:.0e}")
                rows.append(row)
            head = [
                "runner",
                *(f"{o} order, {what}" for o in ("2nd", "1st") for what in ("ms", "×", *memory)),
                "error",
            ]
            made.append(
                f"*{title.partition(': ')[2].removesuffix(', second order')}*\n\n{markdown(head, rows)}"
            )
        return "\n".join(made)

    return table


def _is_exact_peer(name: str) -> bool:
    return not name.startswith("metaglot") and not any(
        word in name for word in ("torch.func.grad", "parallel")
    )


TABLES: dict[str, Callable[[dict[str, str]], str]] = {
    "demo-table": demo_table,
    "demo-languages": demo_languages,
    "demo-pairs": demo_pairs,
    "demo-calibration": demo_calibration,
    "encode-table": encode_table,
    "adapt-table": adapt_table,
    "learners-table": learners_table,
    "setfit-time": setfit_table,
    "tune-table": tune_table,
    "step-a": step_table("a"),
    "step-b": step_table("b"),
    "step-c": step_table("c"),
}


def filled(page: Path) -> str:
    """Return a page's text with every table made anew."""
    words = CHINESE if page.name.endswith("zh-CN.md") else {}
    made = {name: partial(table, words) for name, table in TABLES.items()}
    return fill(page.read_text(encoding="utf-8"), made)


if __name__ == "__main__":
    renew(filled)
