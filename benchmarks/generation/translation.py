"""Translating new languages into English: meta-learning beside joint training and scratch.

    python -m benchmarks.generation.translation --data DIR/bible_corpus --work FOLDER

Short verses (120 characters of English at most) of the Bible corpus; chapters are split alike in all
languages, so that no English verse that is judged was ever learned. Six languages are held out, two choose
rates, all others with 500 KB of text are learned from. A model of 2 + 2 layers of width 192 with subwords of
its own on both sides is trained jointly; then every method goes on with as many sequences. A language is
adapted on pairs of 4,000 or 16,000 target tokens, in 10, 50 or 200 updates of 8 pairs, and judged on 150
test verses by greedy decoding. Drafts are kept beside the results, in FOLDER.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch

from benchmarks.generation.methods import CAVIA_LAST, MULTIPLES, Methods, Plan, Records, about, judged
from metaglot.bitext import Bitext, Filters, SentencePair, clean, load_bitext
from metaglot.generation.drawing import Sizes
from metaglot.generation.learning import Updates
from metaglot.generation.material import Material
from metaglot.generation.translation import Codec, TokenSide
from metaglot.learners.modules import ModuleModel
from metaglot.sequences.blocks import StackConfig
from metaglot.sequences.decoding import Limits
from metaglot.sequences.loss import token_cross_entropy
from metaglot.sequences.transformer import TranslationConfig, TranslationModel
from metaglot.sequences.vocabulary import Vocabulary
from metaglot.space import generator
from metaglot.storage import atomic_file
from metaglot.types import Params

HELD_OUT = ("est", "lvs", "quc", "shi", "swh", "wol")
VALIDATION = ("cak", "zul")
TOKENS = (4000, 16000)
UPDATES = (10, 50, 200)
SHORT, JUDGED, LEAST = 120, 150, 2000
RESULT = Path("benchmarks/results/translation.jsonl")
_KEYS = ("method", "language", "tokens", "updates", "draw", "multiple")
_COMMAND = "python -m benchmarks.generation.translation --data DIR/bible_corpus --work FOLDER"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder bible_corpus")
    parser.add_argument("--work", type=Path, required=True, help="keeps what is learned, to go on from")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--methods", default=",".join(CAVIA_LAST))
    parser.add_argument("--joint", type=int, default=3000, help="joint steps")
    parser.add_argument("--meta", type=int, default=250, help="outer steps of meta-training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bitext = _short(load_bitext(f"bible-corpus:{options.data}"))
    counts = {code: len(bitext.select(code, "train")) for code in bitext.languages if code != "eng"}
    apart = (*HELD_OUT, *VALIDATION)
    sources = [code for code, count in counts.items() if count >= LEAST and code not in apart]
    codec = _codec(bitext, sources)
    known = {code: codec.material(bitext.select(code, "train")) for code in sources}
    small = StackConfig(d=192, layers=2, heads=4, d_inner=768)
    config = TranslationConfig(
        len(codec.target), source_vocabulary=len(codec.source.vocabulary), decoder=small, encoder=small
    )
    module = TranslationModel(config)
    model = ModuleModel(module, token_cross_entropy, precision="bfloat16")
    sizes = Sizes(joint=32, support=40, query=16)
    plan = Plan(joint=options.joint, meta=options.meta, sizes=sizes)
    methods = Methods(model, known, plan, options.work)
    records = Records(options.out, _KEYS)
    if not records.rows:
        facts = {
            "sources": sources,
            "validation": VALIDATION,
            "held_out": HELD_OUT,
            "joint_steps": plan.joint,
        }
        facts |= {"more_steps": plan.more, "meta_steps": plan.meta, "seed": plan.seed}
        facts |= {"pairs": {code: len(material) for code, material in known.items()}}
        facts["parameters"] = sum(v.numel() for v in methods.scratch.values())
        records.add(about(_COMMAND, facts, ["sacrebleu"]))
    for name in options.methods.split(","):
        learner, meta = methods.learned(name)

        def cell(code: str, tokens: int, updates: int, draw: int, multiple: float, *, write: bool,
                 name: str = name, learner=learner, meta=meta) -> float:  # fmt: skip
            row = {"method": name, "language": code, "tokens": tokens, "updates": updates}
            row |= {"draw": draw, "multiple": multiple}
            if row not in records:
                support = _support(codec, bitext, code, tokens or TOKENS[0], draw)
                tests = bitext.select(code, "test")[:JUDGED]
                test = codec.material(tests, limit=10_000)
                key = (draw, code)
                nats, params = judged(
                    methods, learner, meta, support, test, Updates(updates, 8, multiple), *key
                )
                if write:
                    drafts = _drafts(codec, module, params, [pair.source for pair in tests])
                    _keep(options.work / "drafts" / f"{_name(row)}.json", tests, drafts)
                records.add({**row, "nats_per_token": round(nats / test.n_tokens, 4)})
            return records.find(**row)[0]["nats_per_token"]

        best = {}
        for updates in UPDATES:
            by_multiple = {
                m: mean(cell(code, TOKENS[0], updates, 0, m, write=False) for code in VALIDATION)
                for m in MULTIPLES
            }
            best[updates] = min(by_multiple, key=by_multiple.__getitem__)
        print(name, best, flush=True)
        for code, tokens, updates, draw in _cells():
            cell(code, tokens, updates, draw, best.get(updates, 1.0), write=True)


def _cells() -> Iterator[tuple[str, int, int, int]]:
    for code in HELD_OUT:
        yield code, 0, 0, 0
        for tokens in TOKENS:
            yield from ((code, tokens, updates, 0) for updates in UPDATES)


def _short(bitext: Bitext) -> Bitext:
    """The pairs into English that are short enough, cleaned."""
    found = bitext.into("eng")
    kept, _ = clean(found.keep(p for p in found.pairs if len(p.target) <= SHORT), Filters(duplicates=True))
    return kept


def _codec(bitext: Bitext, sources: list[str]) -> Codec:
    """Subwords of English, and of all source languages together."""
    english = {p.id: p.target for code in sources for p in bitext.select(code, "train")}
    target = Vocabulary.train(list(english.values()), 3000, n_tags=2, n_slots=8)
    texts = [p.source for code in sources for p in bitext.select(code, "train")[:1000]]
    return Codec(target, TokenSide(Vocabulary.train(texts, 8000, n_tags=2, n_slots=8)))


def _support(codec: Codec, bitext: Bitext, code: str, tokens: int, draw: int) -> Material:
    """Pairs of a language that a seed draws, of so many target tokens."""
    pairs: list[SentencePair] = list(bitext.select(code, "train"))
    order = generator(draw, "support", code).permutation(len(pairs)).tolist()
    material = codec.material([pairs[i] for i in order])
    left, rows = tokens, []
    for row, ids in enumerate(material.targets):
        left -= len(ids) - 1
        if left < 0:
            break
        rows.append(row)
    return material.rows(rows)


def _drafts(codec: Codec, module: TranslationModel, params: Params, texts: list[str]) -> list[str]:
    written = copy.deepcopy(module)
    with torch.no_grad():
        for name, value in written.named_parameters():
            value.copy_(params[name])
    return codec.translate(written, texts, width=1, batch=64, limits=Limits(1.5, 8))


def _keep(path: Path, pairs: tuple[SentencePair, ...], drafts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"references": [pair.target for pair in pairs], "drafts": drafts}
    with atomic_file(path) as beside:
        beside.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")


def _name(row: dict[str, object]) -> str:
    return "_".join(str(row[key]).replace(" ", "") for key in _KEYS[:-1])


if __name__ == "__main__":
    main()
