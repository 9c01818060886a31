"""What was tried so that meta-learning might translate into English better than fine-tuning does.

    python -m benchmarks.generation.ablations --data DIR --work FOLDER

FOLDER is what `benchmarks.generation.translation english` was run with, whose joint training every variation
here begins after: its episodes are more than fine-tuning has had. Judged on the validation languages by nats
per token, each at the rate that suits it best there; held-out languages were left alone.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.generation.methods import JOINT, MULTIPLES, Plan, Records
from benchmarks.generation.translation import JUDGED, RESULTS, UPDATES, Run, english, support_of
from metaglot.generation.learning import Updates, adapt, adapt_through, make_learner, nats, whole
from metaglot.learners.base import Learner
from metaglot.types import Params

OUT = RESULTS / "translation-ablations.jsonl"
SMALL = {"outer_rate": 1e-4}
VARIATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "FOMAML": ("fomaml", SMALL),
    "learned rates alone": ("fomaml", {"outer_rate": 0.0}),
    "Reptile": ("reptile", SMALL),
    "CAVIA": ("cavia", SMALL),
    "a rate for every weight": ("meta-sgd", SMALL | {"first_order": True}),
}
"""Name → learner and options; all learn from the same episodes of 40 and 16 pairs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of tatoeba_laser and lafand_mt")
    parser.add_argument("--work", type=Path, required=True, help="what the run on english has kept")
    parser.add_argument("--joint", type=int, default=4000, help="joint steps of that run")
    parser.add_argument("--meta", type=int, default=125, help="outer steps of each variation")
    parser.add_argument("--variations", default=",".join([JOINT, *VARIATIONS]))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = Plan(joint=options.joint, meta=250)
    run = Run(english(options.data), "e5-small@9", plan, options.work, options.out)
    for name in options.variations.split(","):
        if name == JOINT:
            learner, meta = run.methods.learned(JOINT)
        else:
            learner = make_learner(*VARIATIONS[name])
            meta = run.methods.after_joint(f"after-{name}", learner, options.meta)
        judge(run, name, learner, meta)


def judge(run: Run, name: str, learner: Learner, meta: Params) -> None:
    """Judge a variation on the validation languages after every number of updates at every rate."""
    for code in run.corpus.validation:
        for tokens in run.corpus.tokens:
            support = support_of(run.codec, run.corpus.bitext, code, tokens, 0)
            test = run.codec.material(run.corpus.bitext.select(code, "test")[:JUDGED], limit=10_000)
            for multiple in MULTIPLES[:4]:
                row = {"method": name, "language": code, "tokens": tokens, "draw": 0, "multiple": multiple}
                if {**row, "updates": UPDATES[-1]} in run.records:
                    continue
                most = Updates(UPDATES[-1], 8, multiple)
                ways = adapt_through(run.methods.model, learner, meta, support, most, UPDATES, 0, code)
                ways[0] = adapt(run.methods.model, learner, meta, support, Updates(0), 0, code)
                for updates, own in sorted(ways.items()):
                    params = whole(run.methods.model, learner, meta, own, support.batch([0]))
                    found = nats(run.methods.model, params, test) / test.n_tokens
                    run.records.add({**row, "updates": updates, "nats_per_token": round(found, 4)})


def summary(path: Path = OUT) -> dict[str, dict[tuple[int, int], float]]:
    """Return variation → (tokens, updates) → nats per token at the best rate; of cells that are whole."""
    head, *rows = Records(path, ()).rows
    tried: dict[tuple[str, int, int, float], dict[str, float]] = {}
    for row in rows:
        key = (row["method"], row["tokens"] if row["updates"] else 0, row["updates"], row["multiple"])
        tried.setdefault(key, {})[row["language"]] = row["nats_per_token"]
    found: dict[str, dict[tuple[int, int], float]] = {}
    for (name, tokens, updates, _), values in tried.items():
        if len(values) == len(head["about"]["validation"]):
            cells = found.setdefault(name, {})
            cells[tokens, updates] = min(cells.get((tokens, updates), math.inf), mean(values.values()))
    return found


if __name__ == "__main__":
    main()
