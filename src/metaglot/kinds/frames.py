"""Frames: a text's intent and its slots at once, from one pass of the encoder.

A text has a unit for itself, the first, and one for each of its tokens, as in tagging. Both kinds of
units have feature blocks of their own, in which the other's are zero, so that they do not disturb one
another. One list of labels has intents (`intent:…`) and tags; each unit chooses among its own.

The text's features are the means of its token states, of the last layer and of the one at two thirds of
the depth, and its n-grams. Beside the sources' prior that is worth 2 to 6 points of accuracy of intents
more than the sentence vector (20 and 100 examples, with e5-small), and needs no second pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaglot.encoders.base import Encoder, TokenStates
from metaglot.kinds.base import NOTHING, Stretch, Units
from metaglot.kinds.bio import BEGIN, INSIDE, OUTSIDE, tags_of
from metaglot.kinds.features import hashed, inner_layers, lexical_encoder, pooled, token_encoder
from metaglot.kinds.tagging import (
    LEXICAL_WIDTH,
    best_spans,
    count_tags,
    span_f1,
    token_blocks,
    token_inputs,
    token_lexical,
    units_of,
)
from metaglot.types import Answer, Example

if TYPE_CHECKING:
    from torch import Tensor

INTENT = "intent:"
"""What an intent begins with in the list of labels: a slot may have the same name."""

_BLOCK = ":text"


class Frames:
    """An intent for the text, and slots in it."""

    shots = "example"
    metrics = ("frame_accuracy", "intent_accuracy", "slot_f1")

    def count_labels(self, examples: Sequence[Example], known: Iterable[str] = ()) -> Counter[str]:
        """Return intents and tags with the number of examples of each."""
        found = Counter(INTENT + e.label for e in examples if e.label)
        found.update(count_tags(examples))  # a sum would drop the tags that no example has
        return found

    def blocks(self, encoder: Encoder) -> Mapping[str, int]:
        """Return the text's blocks, and its tokens' as in tagging."""
        return _text_blocks(encoder) | token_blocks(encoder, "frames")

    def lexical(self, encoder: Encoder) -> frozenset[str]:
        """Return the blocks of n-grams."""
        own = lexical_encoder(encoder)
        return token_lexical(encoder) | (frozenset() if own is None else {own.name + _BLOCK})

    def encode(self, encoder: Encoder, examples: Sequence[Example], *, description: str) -> Units:
        """Return a unit for each text, and behind it one for each of its tokens."""
        tokens = token_encoder(encoder, "frames")
        texts = [example.text for example in examples]
        every = tokens.token_states(texts, _layers(encoder), description=description)
        width = every[0].states.shape[1] // len(_layers(encoder)) if every else 0
        inner = [TokenStates(s.states[:, : 2 * width], s.offsets) for s in every]
        places = [units_of(example, states) for example, states in zip(examples, inner, strict=True)]
        starts = np.cumsum([0, *(len(stretches) + 1 for stretches in places)])
        of_text = np.zeros(starts[-1], bool)
        of_text[starts[:-1]] = True
        upper = [TokenStates(s.states[:, width:], s.offsets) for s in every]
        inputs = {
            name: _spread(block, where)
            for found, where in (
                (_text_inputs(encoder, texts, upper), of_text),
                (token_inputs(encoder, examples, inner, places), ~of_text),
            )
            for name, block in found.items()
        }
        return Units(inputs, tuple(((0, len(text)), *own) for text, own in zip(texts, places, strict=True)))

    def targets(self, example: Example, places: Sequence[Stretch], labels: Collection[str]) -> list[str]:
        """Return the intent and then each token's tag."""
        intent = INTENT + example.label if example.label else NOTHING
        return [intent, *tags_of(example.spans, places[1:])]

    def decode(
        self, scores: Tensor, example: Example, places: Sequence[Stretch], labels: Sequence[str]
    ) -> Answer:
        """Return the best intent for the text, and the spans of the best well-formed tags."""
        values = scores.detach().float().cpu().numpy()
        intents = [c for c, label in enumerate(labels) if label.startswith(INTENT)]
        tags = [c for c, label in enumerate(labels) if is_tag(label)]
        best = labels[intents[int(values[0, intents].argmax())]] if intents else INTENT
        spans = best_spans(values[1:, tags], places[1:], [labels[c] for c in tags]) if tags else ()
        return Answer(best.removeprefix(INTENT), spans)

    def judge(self, examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
        """Return the shares of right frames (intent and all slots) and intents, and the slots' F1."""
        cases = list(zip(examples, answers, strict=True))
        intents = [e.label == a.label for e, a in cases]
        slots = [Counter(e.spans) == Counter(a.spans) for e, a in cases]
        return {
            "frame_accuracy": sum(map(all, zip(intents, slots, strict=True))) / len(cases),
            "intent_accuracy": sum(intents) / len(cases),
            "slot_f1": span_f1(examples, answers),
        }


def is_tag(label: str) -> bool:
    """Return whether a label of the inventory is a token's, not a text's."""
    return label == OUTSIDE or label.startswith((BEGIN, INSIDE))


def _layers(encoder: Encoder) -> tuple[int, int, int]:
    """Return the layers of the tokens' states, and the last one."""
    return (*inner_layers(token_encoder(encoder, "frames")), -1)


def _text_blocks(encoder: Encoder) -> dict[str, int]:
    dense = token_encoder(encoder, "frames")
    found = {dense.name + _BLOCK: 2 * sum(w for b, w in dense.blocks.items() if b not in dense.lexical)}
    if lexical := lexical_encoder(encoder):
        own = lexical.blocks[next(iter(lexical.lexical))]
        found[lexical.name + _BLOCK] = min(LEXICAL_WIDTH, own)
    return found


def _text_inputs(
    encoder: Encoder, texts: Sequence[str], states: Sequence[TokenStates]
) -> dict[str, NDArray[Any]]:
    """Return block name → features `[n, d]`, float16, of whole texts.

    Each layer's mean has length 1: the layers' own lengths differ, and would be their weights.
    """
    (name, width), *rest = _text_blocks(encoder).items()
    means = np.zeros((len(texts), width), np.float32)
    for row, (text, state) in enumerate(zip(texts, states, strict=True)):
        means[row] = pooled(state, [(0, len(text))])[0]
    layers = means.reshape(len(texts), 2, width // 2)
    layers /= np.maximum(np.linalg.norm(layers, axis=2, keepdims=True), 1e-6)
    found: dict[str, NDArray[Any]] = {name: means.astype(np.float16)}
    if rest and (lexical := lexical_encoder(encoder)):
        found[rest[0][0]] = hashed(lexical, texts, rest[0][1])
    return found


def _spread(block: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the rows of a block `[u, d]` at the u places of `where` `[U]`, and zeros elsewhere."""
    rows = np.zeros((len(where), block.shape[1]), block.dtype)
    rows[where] = block
    return rows
