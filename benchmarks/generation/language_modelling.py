"""Bits per byte of new languages after a few kilobytes: meta-learning beside joint training and scratch.

    python -m benchmarks.generation.language_modelling --data DIR/bible_corpus --work FOLDER

33 languages of the Bible corpus are learned from, three choose rates, and ten are held out: five with
languages of their branch among the sources and five without. Chapters are split alike in all languages. A
model of bytes (4 layers of width 128) is trained jointly; then every method goes on with as many sequences.
A language is adapted on 1, 4, 16 or 64 kilobytes and judged on 16 of its test chapters.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch

from benchmarks.generation.methods import LEARNERS, MULTIPLES, Methods, Plan, Records, about, judged
from metaglot.bitext import Texts, load_texts
from metaglot.generation.drawing import Sizes
from metaglot.generation.language_modelling import BLOCK, bits, material
from metaglot.generation.learning import Updates
from metaglot.learners.modules import ModuleModel
from metaglot.sequences.blocks import StackConfig
from metaglot.sequences.loss import token_cross_entropy
from metaglot.sequences.transformer import LanguageModel, LanguageModelConfig
from metaglot.sequences.vocabulary import Vocabulary
from metaglot.space import Groups

VALIDATION = ("mam", "quz", "ewe")
HELD_OUT = {
    "branch among the sources": ("jiv", "usp", "shi", "zul", "quc"),
    "branch not among them": ("lvs", "wol", "eus", "est", "gbi"),
}
UPDATES = {1: (30,), 4: (10, 30, 100), 16: (100,), 64: (100,)}
"""Kilobytes → the numbers of updates on them."""
DRAWS = {1: 1, 4: 2, 16: 1, 64: 1}
TUNED = (4, 64)
"""The kilobytes at which rates are chosen: for as many or fewer, and for more."""
_JUDGED = 16  # kilobytes
RESULT = Path("benchmarks/results/language_modelling.jsonl")
_KEYS = ("method", "language", "kilobytes", "updates", "draw", "multiple")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder bible_corpus")
    parser.add_argument("--work", type=Path, required=True, help="keeps what is learned, to go on from")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--methods", default=",".join(LEARNERS))
    parser.add_argument("--joint", type=int, default=2400, help="joint steps")
    parser.add_argument("--meta", type=int, default=300, help="outer steps of meta-training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = load_texts(f"bible-corpus:{options.data}")
    held_out = [code for codes in HELD_OUT.values() for code in codes]
    sources = [code for code in texts.languages if code not in (*held_out, *VALIDATION)]
    groups = Groups.of(sources, "branch")
    vocabulary = Vocabulary.of_bytes(n_tags=1, n_slots=0)
    known = {
        code: material(_all(texts, code, "train"), vocabulary, group=groups.number(code)) for code in sources
    }
    config = LanguageModelConfig(len(vocabulary), StackConfig(d=128, layers=4, heads=4, d_inner=512))
    model = ModuleModel(LanguageModel(config), token_cross_entropy, groups=groups.names, precision="bfloat16")
    plan = Plan(joint=options.joint, meta=options.meta, sizes=Sizes(joint=32, support=40, query=16))
    methods = Methods(model, known, plan, options.work)
    records = Records(options.out, _KEYS)
    if not records.rows:
        facts = {"sources": sources, "validation": VALIDATION, "held_out": HELD_OUT, "block": BLOCK}
        sizes = {"joint_steps": plan.joint, "more_steps": plan.more, "meta_steps": plan.meta}
        parameters = sum(v.numel() for v in methods.scratch.values())
        command = "python -m benchmarks.generation.language_modelling --data DIR/bible_corpus --work FOLDER"
        records.add(about(command, {**facts, **sizes, "parameters": parameters, "seed": plan.seed}))
    for name in options.methods.split(","):
        learner, meta = methods.learned(name)

        def judge(code: str, kilobytes: int, updates: int, draw: int, multiple: float, name: str = name,
                  learner=learner, meta=meta) -> float:  # fmt: skip
            row = {"method": name, "language": code, "kilobytes": kilobytes, "updates": updates}
            row |= {"draw": draw, "multiple": multiple}
            if row not in records:
                group = groups.number(code)
                support = material(texts.take(code, kilobytes or 1, draw), vocabulary, group=group)
                test = material(texts.take(code, _JUDGED, 0, split="test"), vocabulary, group=group)
                how = Updates(updates, 8, multiple)
                found, _ = judged(methods, learner, meta, support, test, how, draw, code)
                records.add({**row, "bits": round(bits(found, test), 4)})
            return records.find(**row)[0]["bits"]

        best = {}
        for size in TUNED:
            for updates in UPDATES[size]:
                found = {m: mean(judge(code, size, updates, 0, m) for code in VALIDATION) for m in MULTIPLES}
                best[size, updates] = min(found, key=found.__getitem__)
        print(name, best, flush=True)
        for code, kilobytes, updates, draw in _cells(held_out):
            judge(code, kilobytes, updates, draw, best.get((tuned_at(kilobytes), updates), 1.0))


def tuned_at(kilobytes: int) -> int:
    """Return the kilobytes at which the rate for so many was chosen."""
    return TUNED[0] if kilobytes <= TUNED[0] else TUNED[1]


def _cells(languages: list[str]) -> Iterator[tuple[str, int, int, int]]:
    """Language, kilobytes, updates and draw of every cell; those at four kilobytes first."""
    for kilobytes in sorted(UPDATES, key=lambda size: size != 4):
        for code in languages:
            if kilobytes == 4:
                yield code, 0, 0, 0
            for draw in range(DRAWS[kilobytes]):
                for updates in UPDATES[kilobytes]:
                    yield code, kilobytes, updates, draw


def _all(texts: Texts, code: str, split: str) -> str:
    return "".join(f"{line.text}\n" for line in texts.select(code, split))


if __name__ == "__main__":
    main()
