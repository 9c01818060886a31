"""Translating new languages: meta-learning beside joint training and scratch.

    python -m benchmarks.generation.translation english --data DIR --work FOLDER
    python -m benchmarks.generation.translation django --work FOLDER

`english`: many languages into English, everyday sentences of tatoeba_laser and news of lafand_mt (both in
DIR), 120 characters a side at most. Languages of either are held out. `django`: English into many, the
messages of Django's catalogues, split by content; placeholders are constrained to be kept. Sources are states
of the frozen e5-small (layer 9), or with `--source subwords` subwords of their own, or with `--source
e5-small@0` the embeddings of e5-small.

A model of width 192 is trained jointly; then every method goes on with as many sequences. A language is
adapted on pairs of so many target tokens, in 10, 50 or 200 updates of 8 pairs, and judged on 150 test pairs
at most by greedy decoding. Two languages choose the rates. Drafts are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from benchmarks.generation.methods import MULTIPLES, UNGROUPED, Methods, Plan, Records, about, judged
from metaglot.bitext import Bitext, Filters, SentencePair, clean, load_bitext
from metaglot.generation.learning import Updates
from metaglot.generation.material import Material
from metaglot.generation.translation import Codec, StateSide, TokenSide
from metaglot.learners.modules import ModuleModel
from metaglot.sequences.blocks import StackConfig
from metaglot.sequences.decoding import Limits
from metaglot.sequences.loss import token_cross_entropy
from metaglot.sequences.transformer import TranslationConfig, TranslationModel
from metaglot.sequences.vocabulary import Vocabulary
from metaglot.space import generator
from metaglot.storage import atomic_file
from metaglot.types import Params

UPDATES = (10, 50, 200)
SHORT, JUDGED = 120, 150
RESULTS = Path("benchmarks/results")
_KEYS = ("method", "language", "tokens", "updates", "draw", "multiple")


@dataclass(frozen=True)
class Corpus:
    """A corpus and how it is divided.

    Attributes:
        name: the corpus's.
        bitext: its pairs, as the model is to translate them.
        held_out: the languages that are judged.
        validation: those that choose rates.
        least: pairs that a source language has at least.
        tokens: what languages are adapted on, in target tokens; as far as they have so many.
        rows: of the target's vocabulary, and of the source's.
        into: whether many languages are translated into one.
    """

    name: str
    bitext: Bitext
    held_out: tuple[str, ...]
    validation: tuple[str, ...]
    least: int
    tokens: tuple[int, int]
    rows: tuple[int, int]
    into: bool

    @property
    def sources(self) -> list[str]:
        """The languages that are learned from."""
        apart = (*self.held_out, *self.validation, "eng")
        counts = {code: len(self.bitext.select(code, "train")) for code in self.bitext.languages}
        return [code for code, count in counts.items() if count >= self.least and code not in apart]


def english(folder: Path) -> Corpus:
    """Everyday sentences and news of about a hundred languages into English.

    All of tatoeba_laser is its test split: a fifth of a held-out language's sentences is judged here, and all
    else learned from. Of lafand_mt the languages without a train split teach by their dev split.
    """
    everyday = load_bitext(f"tatoeba-laser:{folder / 'tatoeba_laser'}").into("eng")
    news = load_bitext(f"lafand-mt:{folder / 'lafand_mt'}").into("eng")
    held_out, validation = ("hau", "swh", "yor", "zul", "est", "eus", "vie"), ("isl", "twi")
    taught = {p.source_language for p in news.pairs if p.split == "train"}
    pairs = [
        p if p.source_language in taught or p.split != "dev" else replace(p, split="train")
        for p in news.pairs
    ]
    for pair in everyday.pairs:
        code = pair.source_language
        if code not in ("hau", "swh", "yor", "zul"):  # whose sentences are the news alone
            apart = code in (*held_out, *validation)
            fifth = apart and generator("fifth", code, pair.id).random() < 0.2
            pairs.append(replace(pair, id=f"tatoeba {code} {pair.id}", split="test" if fifth else "train"))
    short = [p for p in pairs if max(len(p.source), len(p.target)) <= SHORT]
    kept, _ = clean(everyday.keep(short), Filters())
    return Corpus("english", kept, held_out, validation, 300, (4000, 16000), (4000, 8000), True)


def django(folder: Path) -> Corpus:
    """Messages of English into 61 languages."""
    kept, _ = clean(load_bitext("django").out_of("eng"), Filters())
    held_out = ("eus", "glg", "isl", "kat", "swh", "vie")
    return Corpus("django", kept, held_out, ("est", "npi"), 450, (1000, 4000), (8000, 3000), False)


CORPORA = {"english": english, "django": django}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--data", type=Path, help="the folder of tatoeba_laser and lafand_mt")
    parser.add_argument("--source", help="how sources come in", default="e5-small@9")
    parser.add_argument("--work", type=Path, required=True, help="keeps what is learned, to go on from")
    parser.add_argument("--out", type=Path, help="benchmarks/results/translation-CORPUS.jsonl by default")
    parser.add_argument("--methods", default=",".join(UNGROUPED))
    parser.add_argument("--joint", type=int, default=3000, help="joint steps")
    parser.add_argument("--meta", type=int, default=250, help="outer steps of meta-training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.corpus == "english" and not options.data:
        parser.error("expected --data, the folder of tatoeba_laser and lafand_mt")
    corpus = CORPORA[options.corpus](options.data or Path())
    out = options.out or RESULTS / f"translation-{corpus.name}.jsonl"
    run = Run(corpus, options.source, Plan(joint=options.joint, meta=options.meta), options.work, out)
    for name in options.methods.split(","):
        run.judge(name)


class Run:
    """One corpus, its model and its results."""

    def __init__(self, corpus: Corpus, source: str, plan: Plan, work: Path, out: Path) -> None:
        self.corpus, self.source, self.work = corpus, source, work
        self.codec = _codec(corpus, source)
        known = {code: self.codec.material(corpus.bitext.select(code, "train")) for code in corpus.sources}
        self.module = _module(self.codec)
        model = ModuleModel(self.module, token_cross_entropy, precision="bfloat16")
        self.methods = Methods(model, known, plan, work)
        self.records = Records(out, _KEYS)
        if not self.records.rows:
            data = " --data DIR" if corpus.into else ""
            steps = f"--source {source} --joint {plan.joint} --meta {plan.meta}"
            command = f"python -m benchmarks.generation.translation {corpus.name}{data} --work FOLDER {steps}"
            self.records.add(about(command, self._facts(known, plan), ["sacrebleu"]))

    def judge(self, name: str) -> None:
        """Judge a method in all cells, at the rates that suit it on the validation languages."""
        best = {}
        for updates in UPDATES:
            by_multiple = {
                multiple: mean(
                    self._cell(name, code, self.corpus.tokens[0], updates, multiple, write=False)
                    for code in self.corpus.validation
                )
                for multiple in MULTIPLES
            }
            best[updates] = min(by_multiple, key=by_multiple.__getitem__)
        print(name, best, flush=True)
        for code, tokens, updates in _cells(self.corpus):
            self._cell(name, code, tokens, updates, best.get(updates, 1.0), write=True)

    def _cell(
        self, name: str, code: str, tokens: int, updates: int, multiple: float, *, write: bool
    ) -> float:
        """Nats per token of a language's test pairs after adapting."""
        row = {"method": name, "language": code, "tokens": tokens, "updates": updates}
        row |= {"draw": 0, "multiple": multiple}
        if row not in self.records:
            learner, meta = self.methods.learned(name)
            support = support_of(self.codec, self.corpus.bitext, code, tokens or self.corpus.tokens[0], 0)
            tests = self.corpus.bitext.select(code, "test")[:JUDGED]
            test = self.codec.material(tests, limit=10_000)
            how = Updates(updates, 8, multiple)
            nats, params = judged(self.methods, learner, meta, support, test, how, 0, code)
            if write:
                drafts = drafts_of(self.codec, self.module, params, [pair.source for pair in tests])
                _keep(self.work / "drafts" / f"{_name(row)}.json", row, tests, drafts)
            self.records.add({**row, "nats_per_token": round(nats / test.n_tokens, 4)})
        return float(self.records.find(**row)[0]["nats_per_token"])

    def _facts(self, known: dict[str, Material], plan: Plan) -> dict[str, object]:
        steps = {"joint_steps": plan.joint, "more_steps": plan.more, "meta_steps": plan.meta}
        return {
            "sources": list(known),
            "source": self.source,
            "validation": self.corpus.validation,
            "held_out": self.corpus.held_out,
            "pairs": {code: len(material) for code, material in known.items()},
            "parameters": sum(v.numel() for v in self.methods.scratch.values()),
            "seed": plan.seed,
            **steps,
        }


def _cells(corpus: Corpus) -> Iterator[tuple[str, int, int]]:
    for code in corpus.held_out:
        yield code, 0, 0
        for tokens in corpus.tokens:
            yield from ((code, tokens, updates) for updates in UPDATES)


def _codec(corpus: Corpus, source: str) -> Codec:
    """Subwords of the target's side and of the source's, learned on the source languages."""
    known = {code: corpus.bitext.select(code, "train") for code in corpus.sources}
    targets = {(p.id, p.target_language): p.target for pairs in known.values() for p in pairs}
    texts = [p.source for pairs in known.values() for p in pairs[:1000]]
    tags = () if corpus.into else corpus.sources
    target = Vocabulary.train(
        list(targets.values()), corpus.rows[0], tags, n_tags=max(2, len(tags)), n_slots=8
    )
    if source == "subwords":
        return Codec(target, TokenSide(Vocabulary.train(texts, corpus.rows[1], n_tags=2, n_slots=8)))
    name, _, layer = source.partition("@")
    return Codec(target, StateSide(name, int(layer or -1)))


def _module(codec: Codec) -> TranslationModel:
    """Two layers of decoder, and two of encoder over subwords, one over states."""
    small = StackConfig(d=192, layers=2, heads=4, d_inner=768)
    if isinstance(codec.source, TokenSide):
        rows = len(codec.source.vocabulary)
        return TranslationModel(
            TranslationConfig(len(codec.target), source_vocabulary=rows, decoder=small, encoder=small)
        )
    return TranslationModel(
        TranslationConfig(
            len(codec.target), d_states=codec.source.width, decoder=small, encoder=replace(small, layers=1)
        )
    )


def support_of(codec: Codec, bitext: Bitext, code: str, tokens: int, draw: int) -> Material:
    """Pairs of a language that a seed draws, of so many target tokens; all there are where it has fewer."""
    pairs: list[SentencePair] = list(bitext.select(code, "train"))
    order = generator(draw, "support", code).permutation(len(pairs)).tolist()
    # A pair has six tokens at least, on the mean of so many.
    material = codec.material([pairs[i] for i in order[: tokens // 6]])
    left, rows = tokens, []
    for row, ids in enumerate(material.targets):
        left -= len(ids) - 1
        if left < 0:
            break
        rows.append(row)
    return material.rows(rows)


def drafts_of(codec: Codec, module: TranslationModel, params: Params, texts: list[str]) -> list[str]:
    written = copy.deepcopy(module)
    with torch.no_grad():
        for name, value in written.named_parameters():
            value.copy_(params[name])
    return codec.translate(written, texts, width=1, batch=64, limits=Limits(1.5, 8))


def _keep(path: Path, row: dict[str, object], pairs: tuple[SentencePair, ...], drafts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, object] = {name: [getattr(p, name) for p in pairs] for name in ("source", "target")}
    rows |= {"drafts": drafts, "row": {**row, "into": pairs[0].target_language}}
    with atomic_file(path) as beside:
        beside.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")


def _name(row: dict[str, object]) -> str:
    return "_".join(str(row[key]).replace(" ", "") for key in _KEYS[:-1])


if __name__ == "__main__":
    main()
