"""chrF++ and BLEU of the drafts that `benchmarks.generation.translation` has kept, and how sure they differ.

    python -m benchmarks.generation.scoring english --work FOLDER

Every method is compared with *joint + fine-tuned* on the same sentences: the difference of the mean over
languages of the corpus's chrF++, with a 95% interval from 1,000 resamplings of each language's sentences.
For Django's messages there is *copy* as well, and how often placeholders are intact in what is written.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.generation.methods import JOINT
from benchmarks.generation.translation import RESULTS
from metaglot.bitext.placeholders import faults, find, with_ends
from metaglot.generation.scores import compare_languages, score
from metaglot.storage import write_json

Cells = dict[tuple[str, int, int], dict[str, dict[str, list[str]]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, help="the result file of the run")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = options.results or RESULTS / f"translation-{options.corpus}.jsonl"
    cells = drafts(options.work / "drafts", results)
    if options.corpus == "django":
        some = cells[JOINT, 0, 0]
        cells["copy", 0, 0] = {code: {**kept, "drafts": kept["source"]} for code, kept in some.items()}
    rows = [json.loads(line) for line in results.read_text("utf-8").splitlines()[:1]]
    found = [judged(cells, key) for key in sorted(cells, key=lambda key: (key[1], key[2]))]
    out = options.out or RESULTS / f"translation-{options.corpus}-scores.json"
    write_json(out, {"about": rows[0]["about"], "cells": found})
    print(f"{out}: {len(found)} cells")


def drafts(folder: Path, results: Path) -> Cells:
    """Return method, tokens, updates → language → sources, references and drafts; of whole cells alone."""
    about = json.loads(results.read_text("utf-8").splitlines()[0])["about"]
    found: Cells = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        row = content["row"]
        found[row["method"], row["tokens"], row["updates"]][row["language"]] = content
    return {key: cell for key, cell in found.items() if set(cell) == set(about["held_out"])}


def judged(cells: Cells, key: tuple[str, int, int]) -> dict[str, Any]:
    """Return a cell's scores, and how it differs from joint training and fine-tuning."""
    method, tokens, updates = key
    cell = cells[key]
    by_language, signatures = {}, {}
    for code, kept in cell.items():
        scores = score(kept["drafts"], kept["target"], language=kept["row"]["into"])
        by_language[code] = {each.name: round(each.value, 2) for each in scores}
        signatures |= {each.name: each.signature for each in scores}
    found: dict[str, Any] = {"method": method, "tokens": tokens, "updates": updates}
    found["mean"] = sum(values["chrf++"] for values in by_language.values()) / len(by_language)
    base = cells.get((JOINT, tokens, updates))
    if base is not None and method != JOINT:
        both = {c: (kept["drafts"], base[c]["drafts"], kept["target"]) for c, kept in cell.items()}
        into = {code: kept["row"]["into"] for code, kept in cell.items()}
        against = compare_languages(both, "chrf++", language=into).mean
        found |= {"difference": against.difference, "low": against.low, "high": against.high, "p": against.p}
    pairs = [(s, d) for kept in cell.values() for s, d in zip(kept["source"], kept["drafts"], strict=True)]
    filled = [(s, d) for s, d in pairs if any(find(s))]
    if filled:
        found["placeholders"] = len(filled)
        found["intact"] = sum(not faults(s, with_ends(s, d)) for s, d in filled) / len(filled)
    return found | {"by_language": by_language, "signatures": signatures}


if __name__ == "__main__":
    main()
