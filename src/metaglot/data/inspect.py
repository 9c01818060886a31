"""Looking through a corpus before a model is made of it."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from metaglot.data.advice import similar_labels, warnings
from metaglot.data.inspection import FLAT, LONG, SPANS, Inspection, LanguageReport, Strange, render
from metaglot.data.scripts import script_of, script_shares
from metaglot.families import branch
from metaglot.languages import language_name
from metaglot.types import SPLITS, Corpus, Example

__all__ = ["Inspection", "LanguageReport", "Strange", "inspect", "normalized", "render"]

_SHOWN = 5
# Characters of a text that are looked at: two articles that begin with the same thousand are one.
_BEGINNING = 1000


def inspect(corpus: Corpus) -> Inspection:
    """Look through a corpus: what it holds, and what in it will mislead.

    Takes about 30 µs an example.
    """
    labels = Counter(label for example in corpus.examples for label in _labels(example, corpus.kind))
    languages = {code: _language(code, corpus.select(code), labels, corpus.kind) for code in corpus.languages}
    languages_of: defaultdict[str, set[str]] = defaultdict(set)
    sides_of: defaultdict[str, set[bool]] = defaultdict(set)
    for example in corpus.examples:
        languages_of[example.id].add(example.language)
        sides_of[example.id].add(example.split == "train")
    mixed = sum(len(sides) > 1 for sides in sides_of.values()) if corpus.parallel else 0
    similar = tuple(similar_labels(labels))
    return Inspection(
        name=corpus.name,
        kind=corpus.kind,
        n_examples=len(corpus.examples),
        labels=dict(labels.most_common()),
        languages=languages,
        parallel=corpus.parallel,
        shared_ids=sum(len(found) > 1 for found in languages_of.values()),
        mixed_ids=mixed,
        similar_labels=similar,
        notices=corpus.notices,
        warnings=tuple(warnings(corpus.kind, labels, languages, similar, mixed)),
    )


def normalized(text: str) -> str:
    """Return a text without case, punctuation, symbols and spare spaces; as it is if that leaves nothing."""
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_PLAIN)
    return " ".join(plain.split()) or text


class _Plain(dict[int, str]):
    """For `str.translate`: punctuation, symbols, separators and controls become spaces."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = kept = " " if unicodedata.category(character)[0] in "PSZC" else character
        return kept


_PLAIN = _Plain()


def _labels(example: Example, kind: str) -> Iterable[str]:
    """Yield the labels that an example has, as often as it has them; intents are told from slots."""
    if kind not in SPANS:
        yield example.label
        return
    if kind == "frames":
        yield f"intent:{example.label}"
    yield from (span.label for span in example.spans)


def _asked(example: Example, kind: str) -> str:
    """Return what is given of an example to be predicted."""
    entities = [example.text[s.start : s.end] for s in example.spans] if kind == "relations" else []
    return "\n".join([example.text[:_BEGINNING], example.pair[:_BEGINNING], *entities]).rstrip("\n")


def _answer(example: Example, kind: str) -> Hashable:
    """Return what is to be predicted for an example, whatever its case and punctuation."""
    spans = [(normalized(example.text[s.start : s.end]), s.label) for s in example.spans]
    return example.label, tuple(spans) if kind in SPANS else ()


def _overlapping(example: Example) -> bool:
    ordered = sorted(example.spans, key=lambda span: span.start)
    return any(other.start < one.end for one, other in pairwise(ordered))


def _language(code: str, examples: Sequence[Example], labels: Mapping[str, int], kind: str) -> LanguageReport:
    own: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        for label in _labels(example, kind):
            own[label][example.split] += 1
    lengths = np.array([len(example.text) for example in examples])
    asked = [_asked(example, kind) for example in examples]
    plain = [normalized(text) for text in asked]
    answers: defaultdict[str, set[Hashable]] = defaultdict(set)
    texts: defaultdict[str, set[str]] = defaultdict(set)
    for example, exact, text in zip(examples, asked, plain, strict=True):
        answers[text].add(_answer(example, kind))
        texts[example.split].add(exact)
    plain_train = {text for example, text in zip(examples, plain, strict=True) if example.split == "train"}
    held_out = [
        (exact, text) for e, exact, text in zip(examples, asked, plain, strict=True) if e.split != "train"
    ]
    leaks = sum(text in texts["train"] for text, _ in held_out)
    scripts = script_shares(example.text[:_BEGINNING] for example in examples)
    strange = _strange(examples, scripts)
    splits = Counter(example.split for example in examples)
    return LanguageReport(
        code=code,
        name=language_name(code),
        branch=branch(code),
        splits={split: splits[split] for split in SPLITS if splits[split]},
        labels={label: dict(own[label]) for label in sorted(own)},
        missing_labels=tuple(sorted(labels.keys() - own.keys())),
        median_length=float(np.median(lengths)),
        p95_length=float(np.percentile(lengths, 95)),
        max_length=int(lengths.max()),
        long_texts=int((lengths > LONG).sum()),
        scripts={script: round(share, 4) for script, share in scripts.items() if share >= 0.001},
        strange=tuple(strange[:_SHOWN]),
        n_strange=len(strange),
        duplicates={s: n - len(texts[s]) for s, n in splits.items() if n > len(texts[s])},
        contradictions=sum(len(found) > 1 for found in answers.values()),
        leaks=leaks,
        near_leaks=sum(text in plain_train for _, text in held_out) - leaks,
        overlaps=sum(map(_overlapping, examples)) if kind in FLAT else 0,
    )


def _strange(examples: Sequence[Example], scripts: Mapping[str, float]) -> list[Strange]:
    """Find texts in whose letters the scripts that the language is usually written in have no majority."""
    usual = {script for script, share in scripts.items() if share >= 0.1}
    letters = {
        c for c in set("".join(e.text[:_BEGINNING] for e in examples)) if script_of(c) not in {"", *usual}
    }
    found = []
    for example in examples:
        if letters.isdisjoint(example.text[:_BEGINNING]):
            continue
        shares = script_shares([example.text[:_BEGINNING]])
        if sum(share for script, share in shares.items() if script in usual) < 0.5:
            found.append(
                Strange(
                    example.id, example.split, next(s for s in shares if s not in usual), example.text[:80]
                )
            )
    return found
