"""The kind of language modelling: running text, cut into blocks of bytes or subwords."""

from __future__ import annotations

from metaglot.errors import DataError
from metaglot.generation.material import Material
from metaglot.sequences.loss import bits_per_byte
from metaglot.sequences.vocabulary import BEGIN, Vocabulary

BLOCK = 128
"""Tokens of a block: what a model sees at once."""


def material(text: str, vocabulary: Vocabulary, *, block: int = BLOCK, group: int = -1) -> Material:
    """Return running text as blocks, each of which starts with begin.

    A block knows nothing of the one before it. So bits per byte are a little higher than they would be of
    the text in one piece, and the same for all models that are compared.

    Args:
        text: of one language.
        vocabulary: of bytes, or of subwords.
        block: tokens of a block.
        group: the language's.

    Raises:
        DataError: the text is empty.
    """
    ids = vocabulary.encode([text], framed=False)[0]
    if not ids:
        raise DataError("expected text to learn from, found none.")
    blocks = tuple([BEGIN, *ids[place : place + block]] for place in range(0, len(ids), block))
    return Material(blocks, None, group, len(text.encode()))


def bits(nats: float, material: Material) -> float:
    """Return the bits per byte of UTF-8 that so many nats of all of a material's blocks are."""
    return bits_per_byte(nats, material.n_bytes)
