"""Parsing: what a text asks for, as a tree of intents and slots over its words.

The text is one unit, whose label is the intent at the root, and so is each stretch of up to `LONGEST`
tokens (of MTOP's nodes 98 % are no longer). A stretch's label is the chain of nodes that cover just it,
from the outer to the inner one ("SL:CONTACT>IN:GET_CONTACT"), or `NOTHING`. What a tree scores is the sum
over its nodes of

    log p(chain | stretch) − log p(NOTHING | stretch)

and the answer is the tree that scores most among all that are well-formed: whatever the scores are, it is
a tree. The root's intent is chosen apart, for any intent may have any slot.

Intents at the root are learned from features of the whole text, in a block that is zero for stretches, as
theirs is for texts. Features of a stretch are, at two thirds of the encoder's depth, the mean state of its
tokens less the text's, and what changes at its edges: the first token's state less that of the one before,
and the last one's less that of the one after; its length; and n-grams of the characters inside, before and
after it.

Stern, Andreas & Klein, "A minimal span-based neural constituency parser", ACL 2017.
Pasupat et al., "Span-based hierarchical semantic parsing for task-oriented dialog", EMNLP 2019.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaglot.encoders.base import Encoder, TokenStates
from metaglot.kinds.base import NOTHING, Stretch, Units
from metaglot.kinds.chart import INTENTS, SLOTS, best_forest
from metaglot.kinds.features import (
    SHAPES,
    hashed,
    inner_layers,
    lexical_encoder,
    pooled,
    shapes,
    token_encoder,
)
from metaglot.kinds.segmentation import words
from metaglot.kinds.tagging import span_f1
from metaglot.kinds.trees import INTENT, SLOT
from metaglot.types import Answer, Example, Span

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 8
"""Tokens of the longest stretch that can be a node, the root apart."""

CHAIN = ">"
"""Between the labels of nodes that cover the same words."""

LEXICAL_WIDTH = 1024
_STRETCHES, _TEXT = ":stretches", ":text"


class Parsing:
    """A tree of intents and slots."""

    shots = "example"
    metrics = ("exact_match", "tree_f1")

    def count_labels(self, examples: Sequence[Example], known: Iterable[str] = ()) -> Counter[str]:
        """Return roots' intents, chains of nodes and `NOTHING`, with the number of examples of each."""
        found: Counter[str] = Counter()
        for example in examples:
            if example.spans:
                found.update({example.spans[0].label, NOTHING, *_chains(example.spans).values()})
        return found

    def blocks(self, encoder: Encoder) -> Mapping[str, int]:
        """Return a dense block for stretches and one for texts, and one of n-grams for both.

        Raises:
            SettingsError: the encoder has no states of single tokens.
        """
        dense = token_encoder(encoder, "parsing")
        width = sum(w for name, w in dense.blocks.items() if name not in dense.lexical)
        found = {dense.name + _STRETCHES: 3 * (width + SHAPES) + LONGEST, dense.name + _TEXT: width}
        if lexical := lexical_encoder(encoder):
            found[lexical.name + _STRETCHES] = _lexical_width(lexical)
        return found

    def lexical(self, encoder: Encoder) -> frozenset[str]:
        """Return the block of n-grams."""
        lexical = lexical_encoder(encoder)
        return frozenset() if lexical is None else frozenset({lexical.name + _STRETCHES})

    def encode(self, encoder: Encoder, examples: Sequence[Example], *, description: str) -> Units:
        """Return a unit for each text, and after it one for each of its stretches."""
        dense = token_encoder(encoder, "parsing")
        texts = [example.text for example in examples]
        states = dense.token_states(texts, inner_layers(dense), description=description)
        vectors = dense.encode(texts, description=description)
        tokens = [e.tokens or tuple(words(e.text, s)) for e, s in zip(examples, states, strict=True)]
        places = tuple(
            ((0, len(text)), *((cut[i][0], cut[j - 1][1]) for i, j in stretches(len(cut)).tolist()))
            for text, cut in zip(texts, tokens, strict=True)
        )
        inputs: dict[str, NDArray[Any]] = {
            block: np.zeros((sum(map(len, places)), width), np.float16)
            for block, width in self.blocks(encoder).items()
        }
        roots, below = _rows(places)
        inputs[dense.name + _TEXT][roots] = np.concatenate(
            [vectors[block] for block in dense.blocks if block not in dense.lexical], 1
        )
        for rows, text, cut, state in zip(below, texts, tokens, states, strict=True):
            inputs[dense.name + _STRETCHES][rows] = _dense(text, cut, state)
        if lexical := lexical_encoder(encoder):
            block = inputs[lexical.name + _STRETCHES]
            block[roots] = hashed(lexical, texts, block.shape[1])
            strings = [text[a:b] for text, cut in zip(texts, tokens, strict=True) for a, b in cut]
            grams = hashed(lexical, strings, block.shape[1] // 2)
            ends = np.cumsum([0, *map(len, tokens)])
            for rows, (begin, end) in zip(below, pairwise(ends), strict=True):
                block[rows] = _grams(grams[begin:end].astype(np.float32))
        return Units(inputs, places)

    def targets(self, example: Example, places: Sequence[Stretch], labels: Collection[str]) -> list[str]:
        """Return the root's intent, and each stretch's chain of nodes.

        A node that is no unit, since it is too long or ends inside a token, is not learned.
        """
        chains = _chains(example.spans)
        root = example.spans[0].label if example.spans else NOTHING
        return [root, *(chains.get(place, NOTHING) for place in places[1:])]

    def decode(
        self, scores: Tensor, example: Example, places: Sequence[Stretch], labels: Sequence[str]
    ) -> Answer:
        """Return the best well-formed tree; nothing at all where the inventory has no intent for a root."""
        values = np.clip(np.nan_to_num(scores.detach().double().cpu().numpy(), nan=-1e9), -1e9, 1e9)
        ends = [_ends(label) for label in labels]
        roots = [
            c for c, label in enumerate(labels) if ends[c] and label.startswith(INTENT) and CHAIN not in label
        ]
        if not roots:
            return Answer()
        nothing = labels.index(NOTHING) if NOTHING in labels else None
        gains = values[1:] - (values[1:, nothing, None] if nothing is not None else 0.0)
        chains = np.array([c for c, end in enumerate(ends) if end], np.intp)
        tops, bottoms = np.array([ends[c] for c in chains], np.intp).T
        nodes = best_forest(_token_numbers(places[1:]), gains[:, chains], tops, bottoms)
        spans = [Span(0, len(example.text), labels[roots[int(values[0, roots].argmax())]])]
        for unit, chain in nodes:
            start, end = places[unit + 1]
            spans += [Span(start, end, label) for label in labels[chains[chain]].split(CHAIN)]
        return Answer(spans=tuple(spans))

    def judge(self, examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
        """Return the share of trees that are right as a whole, and F1 over the nodes of all of them.

        A node is right where its label, its start and its end are.
        """
        exact = sum(e.spans == a.spans for e, a in zip(examples, answers, strict=True))
        return {"exact_match": exact / len(examples), "tree_f1": span_f1(examples, answers)}


def _lexical_width(lexical: Encoder) -> int:
    """Return how many columns n-grams get: an even number, half of them for the words inside a stretch."""
    return min(LEXICAL_WIDTH, lexical.blocks[next(iter(lexical.lexical))] // 2 * 2)


@cache
def stretches(tokens: int) -> NDArray[np.intp]:
    """Return first token and end of the stretches of a text with so many tokens `[U, 2]`."""
    found = [(i, j) for i in range(tokens) for j in range(i + 1, min(tokens, i + LONGEST) + 1)]
    table = np.array(found, np.intp).reshape(-1, 2)
    table.setflags(write=False)
    return table


def _rows(places: Sequence[Sequence[Stretch]]) -> tuple[NDArray[np.intp], list[slice]]:
    """Return the rows of the texts' units `[n]`, and each text's rows of its stretches."""
    ends = np.cumsum([0, *map(len, places)])
    return ends[:-1], [slice(begin + 1, end) for begin, end in pairwise(ends.tolist())]


def _chains(spans: Sequence[Span]) -> dict[Stretch, str]:
    """Return the labels of the nodes below the root, those of one stretch as a chain."""
    found: dict[Stretch, str] = {}
    for span in spans[1:]:
        place = (span.start, span.end)
        found[place] = found[place] + CHAIN + span.label if place in found else span.label
    return found


def _ends(chain: str) -> tuple[int, int] | None:
    """Return what a chain begins and ends with, INTENTS or SLOTS; None where it is no chain."""
    labels = chain.split(CHAIN)
    kinds = [INTENTS if x.startswith(INTENT) else SLOTS if x.startswith(SLOT) else None for x in labels]
    if None in kinds or any(a == b for a, b in pairwise(kinds)):
        return None
    return kinds[0], kinds[-1]  # type: ignore[return-value] # None is out


def _token_numbers(places: Sequence[Stretch]) -> NDArray[np.intp]:
    """Return first token and end of stretches, among which is each token alone `[U, 2]`."""
    characters = np.array(places, np.intp).reshape(-1, 2)
    first = np.unique(characters[:, 0], return_inverse=True)[1]
    last = np.unique(characters[:, 1], return_inverse=True)[1]
    return np.stack([first, last + 1], 1)


def _dense(text: str, tokens: Sequence[Stretch], states: TokenStates) -> NDArray[np.float32]:
    """Return the features of a text's stretches `[U, 3·(d + SHAPES) + LONGEST]`."""
    # Of the two layers that tagging takes, and that are cached for both, the upper one.
    layers = pooled(states, tokens)
    own = layers[:, layers.shape[1] // 2 :]
    if len(own):
        own = own - own.mean(0)
    own = np.concatenate([own, shapes(text, tokens)], 1)
    inside, before, after = _parts(own)
    start, end = stretches(len(tokens)).T
    return np.concatenate(
        [
            inside,
            own[start] - before,
            own[end - 1] - after,
            np.eye(LONGEST, dtype=np.float32)[end - start - 1],
        ],
        1,
    )


def _grams(own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the n-grams of stretches `[U, 2 w]` for their tokens' `[T, w]`: inside, before and after."""
    inside, before, after = _parts(own)
    half = own.shape[1] // 2
    parts = [inside, before[:, :half] + before[:, half:], after[:, :half] + after[:, half:]]
    lengths = [np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in parts]
    joined = np.concatenate([part / length for part, length in zip(parts, lengths, strict=True)], 1)
    together: NDArray[np.float32] = joined.astype(np.float32) / np.float32(3**0.5)  # of length 1 or less
    return together


def _parts(own: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean inside of stretches and what stands before and after, zeros at the text's ends."""
    start, end = stretches(len(own)).T
    zero = np.zeros((1, own.shape[1]), np.float32)
    sums = np.concatenate([zero, own.cumsum(0)])
    edged = np.concatenate([zero, own, zero])
    return (sums[end] - sums[start]) / (end - start)[:, None], edged[start], edged[end + 1]
