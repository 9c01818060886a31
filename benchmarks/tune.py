"""What stage one costs and is worth: texts per second, and accuracy on held-out languages before and after.

    python benchmarks/tune.py --minutes 10 --json benchmarks/results/tune.json

Tunes e5-small on source languages of the home-assistant corpus, once for each way of tuning, in as
many minutes each. Then every encoder, the frozen one first, is judged by the same recipe on the same
languages, which no part of it has seen: zero-shot, and with the learner `auto` from 4 examples an intent.
The result grows way by way; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from metaglot.artifact import versions
from metaglot.config import Recipe
from metaglot.data import load_corpus
from metaglot.data.home_assistant import SOURCES
from metaglot.encoders.transformer import default_dtype
from metaglot.evaluation.grid import run_grid
from metaglot.evaluation.report import Report
from metaglot.storage import write_json
from metaglot.training import fit, train_learners
from metaglot.tuning import tune, tune_settings
from metaglot.types import Corpus

HELD_OUT = ("eus", "mal", "tha")
SHOTS = (0, 4)
WAYS = {
    "contrastive": {"loss": "contrastive"},
    "classification": {"loss": "classification"},
    "both": {"loss": "both"},
    "last 4 layers": {"layers": 4},
    "lora": {"layers": "lora"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of tuning, for each way")
    parser.add_argument("--ways", default="contrastive", help=f"of {', '.join(WAYS)}; or 'all'")
    parser.add_argument("--sources", type=int, default=len(SOURCES), help="how many of the source languages")
    parser.add_argument("--per-intent", type=int, default=40, help="sentences of each in each language")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    names = list(WAYS) if options.ways == "all" else options.ways.split(",")
    languages = [*SOURCES[: options.sources], *HELD_OUT]
    chosen = {"languages": languages, "per_intent": options.per_intent}
    corpus = load_corpus("home-assistant", options=chosen)
    recipe = Recipe(corpus="home-assistant", corpus_options=chosen, held_out=HELD_OUT)
    result = {
        "command": f"python benchmarks/tune.py --minutes {options.minutes:g} --ways {options.ways}",
        "held_out": list(HELD_OUT),
        "sources": len(languages) - len(HELD_OUT),
        "per_intent": options.per_intent,
        "draws": options.draws,
    } | circumstances()
    rows = earlier(options.json, result)
    result["rows"] = rows
    if "frozen" not in rows:
        rows["frozen"] = judge(corpus, recipe, "e5-small+ngrams", SHOTS, options.draws)
    with tempfile.TemporaryDirectory() as made:
        for name in names:
            if name in rows:
                continue
            settings = tune_settings(minutes=options.minutes, **WAYS[name])
            folder = tune(corpus, settings, out=Path(made) / name.replace(" ", "-"), held_out=HELD_OUT)
            found = judge(corpus, recipe, f"{folder}+ngrams", SHOTS, options.draws)
            rows[name] = found | tuning_of(folder)
            if options.json:
                write_json(options.json, result)
    show(rows, SHOTS, f"languages held out: {', '.join(HELD_OUT)}")


def circumstances() -> dict[str, Any]:
    """Return what times and numbers depend on besides the command."""
    return {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "precision": default_dtype(),
        },
        "versions": versions(),
    }


def tuning_of(folder: Path) -> dict[str, Any]:
    """Return what a result says of how an encoder was tuned."""
    facts = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    return {
        "texts_per_second": facts["drawn"] / facts["training_seconds"],
        "texts": facts["texts"],
        "settings": {key: value for key, value in facts["settings"].items() if value is not None},
        **{key: facts[key] for key in ("drawn", "steps", "seconds", "share", "curve", "ways")},
    }


def show(rows: dict[str, Any], shots: Sequence[int], title: str) -> None:
    """Print a line for each encoder."""
    table = Table(title=title)
    for column in ("encoder", "drawn/s", "minutes", *(f"k = {k}" for k in shots)):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        speed = (
            [f"{row['texts_per_second']:.1f}", f"{row['seconds'] / 60:.1f}"] if "steps" in row else ["", ""]
        )
        table.add_row(name, *speed, *(f"{row['accuracy'][str(k)]:.3f}" for k in shots))
    Console().print(table)


def earlier(path: Path | None, result: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of a run of the same command that was stopped; none of any other run's."""
    if path is None or not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[str, Any] = found.pop("rows")
    return rows if found == result else {}


def judge(corpus: Corpus, recipe: Recipe, encoder: str, shots: Sequence[int], draws: int) -> dict[str, Any]:
    """Return the accuracy of `auto` on the recipe's held-out languages, the mean over them, by shots."""
    recipe = recipe.model_copy(update={"encoder": encoder})
    fitted = fit(corpus, recipe)
    trained = train_learners(fitted, recipe, ["auto"])
    learners = {name: (learner, result.meta) for name, (learner, result) in trained.items()}
    records = run_grid(fitted.sources, fitted.space, learners, baselines=(), shots=shots, draws=draws)
    report = Report(records)
    return {
        "accuracy": {str(k): report.cell("auto", k).mean for k in shots},
        "by_language": {
            str(k): dict(zip(report.languages, report.values("auto", k).mean(1).tolist(), strict=True))
            for k in shots
        },
    }


if __name__ == "__main__":
    main()
