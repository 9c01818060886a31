"""Tokens per second that a compact model writes on one core: greedy, beam of 4, with and without a cache.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py --json benchmarks/results/decoding.json

The model has 3 + 3 layers of width 256 and 8,000 subwords, and random weights: what a step costs does not
depend on them. A batch is 32 sources of 24 tokens. The end is banned, so that every row becomes 32 tokens;
a beam's tokens are those of its best hypothesis alone. Ways alternate in rounds; medians count. The ways
without a cache run in one round only.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table

from metaglot.sequences.decoding import Decoding, Limits, beam, greedy
from metaglot.sequences.transformer import TranslationConfig, TranslationModel
from metaglot.sequences.vocabulary import BEGIN, END, PADDING
from metaglot.storage import write_json

BATCH, SOURCE, WRITTEN, ROWS = 32, 24, 32, 8000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = TranslationModel(TranslationConfig(ROWS, source_vocabulary=ROWS))
    source = torch.randint(3, ROWS, (BATCH, SOURCE), generator=torch.Generator().manual_seed(0))
    prefix = [[BEGIN]] * BATCH
    ways = {
        f"{name}, {'cache' if cached else 'no cache'}": partial(
            way,
            model,
            prefix,
            {"source": source},
            Decoding(Limits(0, WRITTEN), (PADDING, END), cached=cached),
        )
        for cached in (True, False)
        for name, way in {"greedy": greedy, "beam of 4": partial(beam, width=4)}.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(options.rounds + 1):
        for name, way in ways.items():
            if round_number and "no cache" in name:  # slow, and only there to compare with
                continue
            start = perf_counter()
            way()
            if round_number or "no cache" in name:  # the first is for warming up
                seconds[name].append(perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/decoding.py",
        "model": {
            "layers": [3, 3],
            "d": 256,
            "vocabulary": ROWS,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "batch": BATCH,
        "source_tokens": SOURCE,
        "written_tokens": WRITTEN,
        "threads": 1,
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("metaglot", "torch")},
        "seconds": seconds,
        "medians": {
            name: {"seconds": median, "tokens_per_second": BATCH * WRITTEN / median}
            for name, median in medians.items()
        },
    }
    table = Table(title=f"a batch of {BATCH} rows of {WRITTEN} tokens, medians of {options.rounds} rounds")
    for column in ("", "seconds", "tokens a second"):
        table.add_column(column, justify="right")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{BATCH * WRITTEN / median:,.0f}")
    Console().print(table)
    if options.json:
        write_json(options.json, result)


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
