"""Tagging: labelled stretches of a text (slots, names), or one label a token (parts of speech).

A unit is a token of the data, or where they have none a piece of the text as `segmentation` cuts it: a
subword. Of slots in Malayalam, Basque, Arabic, Korean, Amharic or Zulu commands 22 to 41 % begin or end
inside a word, and no tags of words can say so; of pieces it is 0 to 30 %.

The inventory of labels tells the scheme. With `O` in it the labels are IOB2 tags and the best well-formed
sequence is the answer; without, each token has one label of its own. Examples alone are read as the
latter where every span is one token of the data's and nine tokens of ten have one.

Features are states of the layers at one and two thirds of the encoder's depth (of parts of speech, slots
and names these predict more than the last), how a token is written (for names, above all where there is
no example yet), and n-grams of its characters and its neighbours' where the encoder has some.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaglot.encoders.base import Encoder, TokenStates
from metaglot.kinds.base import NOTHING, Stretch, Units
from metaglot.kinds.bio import BEGIN, INSIDE, OUTSIDE, spans_of, tags_of, viterbi
from metaglot.kinds.features import (
    SHAPES,
    hashed,
    inner_layers,
    lexical_encoder,
    pooled,
    shapes,
    token_encoder,
)
from metaglot.kinds.segmentation import pieces, runs, words
from metaglot.types import Answer, Example, Span

if TYPE_CHECKING:
    from torch import Tensor

LEXICAL_WIDTH = 1024
NEIGHBOURS = 0.6
"""How much the n-grams of the token before, or behind, weigh beside those of the token itself."""

SHAPE = "shape"
"""The block of how tokens are written."""

_BLOCK = ":tokens"
# A corpus of one label a token may lack some; in one of names or slots most tokens have none.
_COVERED = 0.9


class Tagging:
    """Labelled stretches, or a label for each token."""

    shots = "example"
    metrics = ("f1", "accuracy", "exact")

    def count_labels(self, examples: Sequence[Example], known: Iterable[str] = ()) -> Counter[str]:
        """Return the tags, or the labels of single tokens, with the number of examples of each."""
        inventory = frozenset(known)
        plain = OUTSIDE not in inventory if inventory else labels_tokens(examples)
        return (
            Counter(label for e in examples for label in {span.label for span in e.spans})
            if plain
            else count_tags(examples)
        )

    def blocks(self, encoder: Encoder) -> Mapping[str, int]:
        """Return the tokens' states, their shapes, and their n-grams where the encoder has some."""
        return token_blocks(encoder, "tagging")

    def lexical(self, encoder: Encoder) -> frozenset[str]:
        """Return the block of n-grams."""
        return token_lexical(encoder)

    def encode(self, encoder: Encoder, examples: Sequence[Example], *, description: str) -> Units:
        """Return a unit for each token."""
        states = token_states(encoder, examples, "tagging", description)
        places = tuple(map(units_of, examples, states))
        return Units(token_inputs(encoder, examples, states, places), places)

    def targets(self, example: Example, places: Sequence[Stretch], labels: Collection[str]) -> list[str]:
        """Return each token's tag; where labels are plain, its span's, and `NOTHING` where it has none."""
        tags = tags_of(example.spans, places)
        if OUTSIDE in labels:
            return tags
        return [NOTHING if tag == OUTSIDE else tag[len(BEGIN) :] for tag in tags]

    def decode(
        self, scores: Tensor, example: Example, places: Sequence[Stretch], labels: Sequence[str]
    ) -> Answer:
        """Return the spans of the best well-formed tags, or one span a token."""
        values = scores.detach().float().cpu().numpy()
        if OUTSIDE in labels:
            return Answer(spans=best_spans(values, places, labels))
        best = values.argmax(1).tolist() if places else []
        return Answer(
            spans=tuple(Span(start, end, labels[c]) for (start, end), c in zip(places, best, strict=True))
        )

    def judge(self, examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
        """Return span F1, the tokens' accuracy, and the share of texts that are right as a whole.

        F1 is over spans of all texts together and strict: a span is right where its start, end and
        label are. (On IOB2 tags that is seqeval's strict mode; where each token has a label of its
        own it equals accuracy.) A token is right where its tag is; tokens are the data's, or words.
        """
        right = total = 0
        for example, answer in zip(examples, answers, strict=True):
            tokens = example.tokens or runs(example.text)
            wanted, given = tags_of(example.spans, tokens), tags_of(answer.spans, tokens)
            right += sum(w == g for w, g in zip(wanted, given, strict=True))
            total += len(tokens)
        exact = sum(Counter(e.spans) == Counter(a.spans) for e, a in zip(examples, answers, strict=True))
        return {
            "f1": span_f1(examples, answers),
            "accuracy": right / total if total else 1.0,
            "exact": exact / len(examples),
        }


def labels_tokens(examples: Sequence[Example]) -> bool:
    """Return whether examples have one label a token: what tells the scheme where no inventory does."""
    covered = total = 0
    for example in examples:
        tokens = set(example.tokens)
        if any((span.start, span.end) not in tokens for span in example.spans):
            return False
        covered += len(example.spans)
        total += len(tokens)
    return covered > 0 and covered >= _COVERED * total


def count_tags(examples: Sequence[Example]) -> Counter[str]:
    """Return the tags with the number of examples of each; with every B- its I-, be it of none."""
    found: Counter[str] = Counter()
    for example in examples:
        tags = set(tags_of(example.spans, example.tokens or runs(example.text)))
        found.update(tags | {BEGIN + span.label for span in example.spans})
        for span in example.spans:
            found[INSIDE + span.label] += 0
    if found:
        found[OUTSIDE] += 0
    return found


def units_of(example: Example, states: TokenStates) -> tuple[Stretch, ...]:
    """Return the data's tokens, or the pieces of the text where it has none."""
    return example.tokens or tuple(pieces(example.text, states))


def token_blocks(encoder: Encoder, kind: str) -> dict[str, int]:
    """Return the blocks of `token_inputs`: name → width d.

    Raises:
        SettingsError: the encoder has no states of single tokens.
    """
    dense = token_encoder(encoder, kind)
    width = sum(w for name, w in dense.blocks.items() if name not in dense.lexical)
    found = {dense.name + _BLOCK: width * len(inner_layers(dense)), SHAPE: SHAPES}
    if lexical := lexical_encoder(encoder):
        block = next(iter(lexical.lexical))
        found[lexical.name + _BLOCK] = min(LEXICAL_WIDTH, lexical.blocks[block])
    return found


def token_lexical(encoder: Encoder) -> frozenset[str]:
    """Return those of `token_blocks` that mean nothing across languages."""
    lexical = lexical_encoder(encoder)
    return frozenset() if lexical is None else frozenset({lexical.name + _BLOCK})


def token_states(
    encoder: Encoder, examples: Sequence[Example], kind: str, description: str
) -> list[TokenStates]:
    """Return the states that `units_of` and `token_inputs` take, of each example's text."""
    tokens = token_encoder(encoder, kind)
    return tokens.token_states(
        [example.text for example in examples], inner_layers(tokens), description=description
    )


def token_inputs(
    encoder: Encoder,
    examples: Sequence[Example],
    states: Sequence[TokenStates],
    places: Sequence[Sequence[Stretch]],
) -> dict[str, NDArray[Any]]:
    """Return block name → features `[U, d]`, float16, of the tokens at places, one text's after another's.

    Of the two layers in `states` the lower is pooled over the word that a token is in, the upper over
    the token: pieces of one word have half of their features in common.
    """
    (name, width), _, *rest = token_blocks(encoder, "tagging").items()
    rows = np.zeros((sum(map(len, places)), width), np.float16)
    shape = np.zeros((len(rows), SHAPES), np.float16)
    own, before, after = [], [], []
    begin = 0
    for example, state, stretches in zip(examples, states, places, strict=True):
        if not stretches:
            continue
        text, end, half = example.text, begin + len(stretches), width // 2
        wholes = _words_of(example, state, stretches)
        rows[begin:end, :half] = pooled(state, wholes)[:, :half]
        rows[begin:end, half:] = pooled(state, stretches)[:, half:]
        shape[begin:end] = shapes(text, stretches)
        parts = [_written(text, *pair) for pair in zip(stretches, wholes, strict=True)]
        whole = [text[start:stop] for start, stop in wholes]
        own += [p if p == w else f"{w} {p}" for w, p in zip(whole, parts, strict=True)]
        before += ["<s>", *parts[:-1]]
        after += [*parts[1:], "</s>"]
        begin = end
    found: dict[str, NDArray[Any]] = {name: rows, SHAPE: shape}
    if rest and (lexical := lexical_encoder(encoder)):
        block, columns = rest[0]
        aside = columns // 4
        around = NEIGHBOURS * hashed(lexical, [*before, *after], aside)
        blocks = [hashed(lexical, own, columns - 2 * aside), around[: len(own)], around[len(own) :]]
        found[block] = np.concatenate(blocks, axis=1, dtype=np.float16)
    return found


def _words_of(example: Example, states: TokenStates, places: Sequence[Stretch]) -> list[Stretch]:
    """Return the word that each token is in: of the data's own tokens, themselves."""
    if example.tokens:
        return list(places)
    whole = words(example.text, states)
    begins = [begin for begin, _ in whole]
    return [whole[bisect_right(begins, start) - 1] for start, _ in places]


def _written(text: str, token: Stretch, word: Stretch) -> str:
    """Return a token's characters, with a hyphen where it is cut out of its word."""
    return "-" * (word[0] < token[0]) + text[slice(*token)] + "-" * (token[1] < word[1])


def best_spans(scores: NDArray[Any], places: Sequence[Stretch], labels: Sequence[str]) -> tuple[Span, ...]:
    """Return the spans of the best well-formed tags for scores `[U, C]`."""
    return spans_of([labels[c] for c in viterbi(scores, labels)], places)


def span_f1(examples: Sequence[Example], answers: Sequence[Answer]) -> float:
    """Return 2 TP / (2 TP + FP + FN) over the spans of all texts; 1 where there are none at all."""
    right = both = 0
    for example, answer in zip(examples, answers, strict=True):
        wanted, given = Counter(example.spans), Counter(answer.spans)
        right += (wanted & given).total()
        both += wanted.total() + given.total()
    return 2 * right / both if both else 1.0
