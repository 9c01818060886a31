"""How often slots' canonical values are right in a new language, with the right spans given.

    python -m benchmarks.slot_values --json benchmarks/results/slot_values.json
    python -m benchmarks.slot_values --tables

Twenty languages of the home-assistant corpus are sources, eight are held out. The spans of a held-out
language's test sentences are looked up in the sources' values and in those of k of its own sentences. The
spans are the corpus's own, so that nothing is trained or encoded, and values alone are judged.

`--tables` puts what the result file has between the markers in `docs/`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.commands import start
from benchmarks.markers import ROOT, fill, markdown, renew
from metaglot.artifact import versions
from metaglot.data import load_corpus
from metaglot.data.home_assistant import HELD_OUT, SOURCES
from metaglot.kinds.values import Values, with_values
from metaglot.space import Task, TaskSpace, draw_support
from metaglot.storage import write_json

RESULTS = ROOT / "benchmarks" / "results" / "slot_values.json"
SHOTS = (0, 5, 20, 100, 400)

app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    draws: Annotated[int, typer.Option(help="Sets of sentences of each size and language.")] = 10,
    to: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
    tables: Annotated[bool, typer.Option("--tables", help="Measure nothing; renew the pages.")] = False,
) -> None:
    if tables:
        renew(filled)
        return
    result = measured(draws)
    print(table(result), end="")
    if to:
        write_json(to, result)


def measured(
    draws: int, held_out: Sequence[str] = HELD_OUT, sources: Sequence[str] = SOURCES
) -> dict[str, Any]:
    """Return the result: what was measured of every language and draw, its means, and how."""
    corpus = load_corpus("home-assistant", options={"languages": [*sources, *held_out]})
    space = TaskSpace.of(replace(corpus, kind="frames"), held_out, sources=sources)
    known = Values.of(e for task in space.sources for e in task.pool)
    rows = [
        {"language": task.language, "shots": shots, "draw": draw, **judged(task, known, shots, draw)}
        for task in space.held_out
        for shots in SHOTS
        for draw in range(draws if shots else 1)
    ]
    return {
        "command": "python -m benchmarks.slot_values",
        "seed": "slot values",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "versions": versions(),
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint, "source": corpus.source},
        "sources": [task.language for task in space.sources],
        "held_out": [task.language for task in space.held_out],
        "sources_bytes": len(known.to_json().encode()),
        "means": {str(shots): means([row for row in rows if row["shots"] == shots]) for shots in SHOTS},
        "rows": rows,
    }


def judged(task: Task, sources: Values, shots: int, draw: int) -> dict[str, int]:
    """Return how many test spans have a value (`valued`) or mean what is written (`plain`).

    Of the first some are `right` and some `wrong`, the others are copied from the text; of the second some
    are `given` a value. `words` are the first without the numbers, `words_right` the right ones of them.
    """
    rows = draw_support(task.pool, task.labels, shots, "slot values", draw, by="example")
    own = Values.of(task.pool[row] for row in rows.tolist())
    found = dict.fromkeys(("valued", "right", "wrong", "words", "words_right", "plain", "given"), 0)
    for example in task.test:
        answers = with_values(example.spans, example.text, own, sources)
        for wanted, span in zip(example.spans, answers, strict=True):
            if wanted.value:
                found["valued"] += 1
                found["right"] += span.value == wanted.value
                found["wrong"] += span.value not in ("", wanted.value)
                if not wanted.value.isdigit():
                    found["words"] += 1
                    found["words_right"] += span.value == wanted.value
            else:
                found["plain"] += 1
                found["given"] += span.value != ""
    return found


def means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return means over languages and draws of shares.

    `right` and `wrong` are of the spans with a value, `words_right` of those with one that is no number,
    `given` of those without one. `slots` is the share of all whose meaning is right, `copied` what it is
    where every text is taken for its own meaning.
    """
    every = [row["valued"] + row["plain"] for row in rows]
    shares = {
        "right": [row["right"] / row["valued"] for row in rows],
        "wrong": [row["wrong"] / row["valued"] for row in rows],
        "words_right": [row["words_right"] / row["words"] for row in rows],
        "given": [row["given"] / row["plain"] for row in rows],
        "slots": [(r["right"] + r["plain"] - r["given"]) / n for r, n in zip(rows, every, strict=True)],
        "copied": [row["plain"] / n for row, n in zip(rows, every, strict=True)],
    }
    return {name: statistics.fmean(values) for name, values in shares.items()}


def table(result: dict[str, Any]) -> str:
    """A row for each number of sentences."""
    head = ["its own sentences", "right", "wrong", "right, of words", "right, of all slots"]
    rows = []
    for shots, row in result["means"].items():
        cells = (row["right"], row["wrong"], row["words_right"], row["slots"])
        rows.append(["none" if shots == "0" else shots, *(f"{100 * cell:.1f}" for cell in cells)])
    copied = statistics.fmean(row["copied"] for row in result["means"].values())
    return markdown(head, [["*copied text*", "0.0", "0.0", "0.0", f"{100 * copied:.1f}"], *rows])


def filled(page: Path) -> str:
    """Return a page's text with the table made anew from the result file."""
    text = page.read_text(encoding="utf-8")
    return fill(text, {"slot-values": lambda: table(json.loads(RESULTS.read_text(encoding="utf-8")))})


if __name__ == "__main__":
    start(app)
