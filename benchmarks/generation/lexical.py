"""What a shared lexical space is worth: states of a frozen multilingual encoder beside subwords of one's own.

    python -m benchmarks.generation.lexical --data DIR --work FOLDER

MetaNMT (Gu et al. 2018) writes a new language's words over keys that all languages share. The states of
e5-small are such a space. Two models on the corpus `english` of `benchmarks.generation.translation`, alike
but for how sources come in, are trained jointly for as many steps, and judged on the seven held-out
languages: as they start, and after 50 updates on 4,000 target tokens.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.generation.methods import JOINT, Plan, about, judged
from benchmarks.generation.translation import JUDGED, RESULTS, Corpus, Run, drafts_of, english, support_of
from metaglot.generation.learning import Updates
from metaglot.generation.scores import compare_languages, score
from metaglot.storage import write_json

SOURCES = ("e5-small@9", "subwords")
CELLS = ((0, 0), (4000, 50))
_RATE = 0.3  # what validation languages chose in most cells of the benchmark of translation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--joint", type=int, default=1000, help="joint steps")
    parser.add_argument("--out", type=Path, default=RESULTS / "translation-lexical-scores.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = english(options.data)
    found = {source: drafted(corpus, source, options) for source in SOURCES}
    tests = {
        code: [p.target for p in corpus.bitext.select(code, "test")[:JUDGED]] for code in corpus.held_out
    }
    cells: list[dict[str, Any]] = []
    for source in SOURCES:
        for cell in CELLS:
            values = {
                code: score(drafts, tests[code], ["chrf++"], language="eng")[0].value
                for code, drafts in found[source][cell].items()
            }
            row: dict[str, Any] = {"method": source, "tokens": cell[0], "updates": cell[1]}
            row |= {"mean": sum(values.values()) / len(values), "by_language": values}
            if source != SOURCES[0]:
                both = {c: (d, found[SOURCES[0]][cell][c], tests[c]) for c, d in found[source][cell].items()}
                against = compare_languages(both, "chrf++", language="eng").mean
                row |= {"difference": against.difference, "low": against.low, "high": against.high}
            cells.append(row)
    command = f"python -m benchmarks.generation.lexical --data DIR --work FOLDER --joint {options.joint}"
    write_json(options.out, about(command, {"held_out": corpus.held_out}, ["sacrebleu"]) | {"cells": cells})


def drafted(
    corpus: Corpus, source: str, options: argparse.Namespace
) -> dict[tuple[int, int], dict[str, list[str]]]:
    """Return a model's drafts of every held-out language's test sentences, by cell."""
    work = options.work / source
    run = Run(corpus, source, Plan(joint=options.joint, meta=0), work, work / "none.jsonl")
    learner, meta = run.methods.learned(JOINT)
    found: dict[tuple[int, int], dict[str, list[str]]] = {}
    for tokens, updates in CELLS:
        for code in corpus.held_out:
            support = support_of(run.codec, corpus.bitext, code, tokens or corpus.tokens[0], 0)
            tests = corpus.bitext.select(code, "test")[:JUDGED]
            test = run.codec.material(tests, limit=10_000)
            _, params = judged(run.methods, learner, meta, support, test, Updates(updates, 8, _RATE), 0, code)
            drafts = drafts_of(run.codec, run.module, params, [pair.source for pair in tests])
            found.setdefault((tokens, updates), {})[code] = drafts
    return found


if __name__ == "__main__":
    main()
