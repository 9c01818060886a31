"""What adapting costs: wall time from cold and warm, and the size on disk, for 40 intents × 8 examples.

    python benchmarks/adapt.py --json benchmarks/results/adapt.json

Trains a small model once (20 languages of the home-assistant corpus), then times `metaglot adapt` as
a user runs it: a new process that loads the model, encodes the examples and adapts. "cold" has
an empty feature cache, "warm" has the examples' features in it. "adapting" is the learner's own
work in the process: examples' features in, head out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from metaglot.artifact import save, versions
from metaglot.config import Recipe, TrainSettings
from metaglot.data import load_corpus
from metaglot.data.home_assistant import SOURCES
from metaglot.space import draw_support
from metaglot.storage import write_json
from metaglot.training import fit, train

HELD_OUT = ("ell", "mal", "tha")
SHOTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    recipe = Recipe(
        corpus="home-assistant",
        corpus_options={"languages": [*SOURCES, *HELD_OUT]},
        held_out=HELD_OUT,
        train=TrainSettings(steps=60),
    )
    corpus = load_corpus(recipe.corpus, options=recipe.corpus_options)
    fitted = fit(corpus, recipe)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(train(corpus, recipe, fitted=fitted), folder / "model")
        for round_number in range(options.rounds):
            for task in fitted.space.held_out:
                picked = draw_support(task.pool, task.labels, SHOTS, "benchmark", round_number)
                file = folder / f"{task.language}.csv"
                with file.open("w", encoding="utf-8", newline="") as handle:
                    writer = csv.writer(handle)
                    writer.writerow(["text", "label"])
                    writer.writerows([task.pool[i].text, task.pool[i].label] for i in picked.tolist())
                for temperature in ("cold", "warm"):
                    found = _run(
                        folder, file, task.language, folder / f"cache-{task.language}-{round_number}"
                    )
                    rows.append({"language": task.language, "temperature": temperature, **found})
    result = {
        "command": "python benchmarks/adapt.py",
        "seed": 0,
        "shots": SHOTS,
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": versions(),
        "rounds": rows,
        "medians": {
            temperature: {
                field: statistics.median(r[field] for r in rows if r["temperature"] == temperature)
                for field in ("wall_seconds", "adapting_seconds", "bytes", "examples", "labels")
            }
            for temperature in ("cold", "warm")
        },
    }
    table = Table(title=f"adapting with {SHOTS} examples per intent, medians of {len(rows) // 2} runs")
    for column in ("", "examples", "intents", "whole command, s", "adapting, s", "KB on disk"):
        table.add_column(column, justify="right")
    for temperature, m in result["medians"].items():
        table.add_row(
            temperature,
            f"{m['examples']:.0f}",
            f"{m['labels']:.0f}",
            f"{m['wall_seconds']:.2f}",
            f"{m['adapting_seconds']:.3f}",
            f"{m['bytes'] / 1024:.0f}",
        )
    Console().print(table)
    if options.json:
        write_json(options.json, result)


def _run(folder: Path, file: Path, language: str, cache: Path) -> dict[str, float]:
    """Run the command in a new process; the encoder's own folder is linked into the run's cache."""
    from time import perf_counter

    from metaglot.storage import cache_root

    cache.mkdir(exist_ok=True)
    if not (cache / "encoders").exists():
        (cache / "encoders").symlink_to(cache_root() / "encoders")
    command = [sys.executable, "-m", "metaglot.cli", "adapt", str(folder / "model"), "--language", language]
    start = perf_counter()
    done = subprocess.run(
        [*command, "--examples", str(file), "--json"],
        env=os.environ | {"METAGLOT_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    wall = perf_counter() - start
    said = json.loads(done.stdout)
    return {
        "wall_seconds": wall,
        "adapting_seconds": said["seconds"],
        "bytes": said["bytes"],
        "examples": said["examples"],
        "labels": len(said["labels"]),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    main()
