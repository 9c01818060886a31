"""Features of stretches of texts: pooled token states, how words are written, n-grams of characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metaglot.encoders.base import Encoder, JoinedEncoder, TokenEncoder, TokenStates
from metaglot.errors import SettingsError
from metaglot.kinds.base import Stretch

SHAPES = 9
"""How many numbers `shapes` gives."""

_STRINGS = 2048  # encoded at once: a lexical encoder's own width is several times what is kept


def parts(encoder: Encoder) -> tuple[Encoder, ...]:
    """Return the encoders that one is joined of, or itself alone."""
    return encoder.parts if isinstance(encoder, JoinedEncoder) else (encoder,)


def token_encoder(encoder: Encoder, kind: str) -> TokenEncoder:
    """Return the first part of an encoder that gives states of single tokens.

    Raises:
        SettingsError: none does; the kind is named.
    """
    for part in parts(encoder):
        if isinstance(part, TokenEncoder):
            return part
    raise SettingsError(
        f"the kind {kind!r} needs an encoder with states of single tokens, and {encoder.name!r} has none.",
        hint="Choose a transformer such as 'e5-small', alone or as 'e5-small+ngrams'.",
    )


def lexical_encoder(encoder: Encoder) -> Encoder | None:
    """Return the first part of an encoder whose blocks are lexical, or None."""
    return next((part for part in parts(encoder) if part.lexical), None)


def inner_layers(encoder: TokenEncoder) -> tuple[int, int]:
    """Return the layers at one and two thirds of an encoder's depth: what token states are taken of.

    There grammar and meaning of single tokens stand; the last layers of a sentence encoder serve the
    sentence. Where the depth is not known, the last layer is taken twice.
    """
    depth = encoder.layers
    return (round(depth / 3), round(depth * 2 / 3)) if depth else (-1, -1)


def pooled(states: TokenStates, places: Sequence[Stretch]) -> NDArray[np.float32]:
    """Return the mean state `[U, L·d]` of the tokens that share a character with each stretch.

    A stretch that no token touches (a tokenizer drops what it cannot read) gets the nearest token's
    state, and zeros where the text has no token at all.
    """
    covering = states.offsets[:, 1] > states.offsets[:, 0]
    starts, ends = states.offsets[covering].T
    if not len(places) or not len(starts):
        return np.zeros((len(places), states.states.shape[1]), np.float32)
    begins, stops = np.array(places, np.int64).T
    # Tokens are in the order of the text, so those of a stretch are neighbours.
    first = np.searchsorted(ends, begins, side="right")
    last = np.searchsorted(starts, stops, side="left")
    untouched = first >= last
    if untouched.any():
        middles = (begins + stops)[untouched, None]
        first[untouched] = np.abs((starts + ends)[None] - middles).argmin(1)
        last[untouched] = first[untouched] + 1
    values = states.states[covering].astype(np.float64)
    sums = np.concatenate([np.zeros_like(values[:1]), values.cumsum(0)])
    means: NDArray[np.float32] = ((sums[last] - sums[first]) / (last - first)[:, None]).astype(np.float32)
    return means


def shapes(text: str, places: Sequence[Stretch]) -> NDArray[np.float32]:
    """Return how stretches are written and where they stand `[U, SHAPES]`, ones and zeros.

    Names and numbers look alike in many languages, and a tokenizer that ignores case would hide it.
    The columns: first of the text; last; begins with a capital; and is not the first; all capitals; has
    a digit; has a letter or digit; has neither; follows what is before it without a space. No row is
    all zeros, which is what the units of another sort have here.
    """
    found = np.zeros((len(places), SHAPES), np.float32)
    for row, (start, end) in enumerate(places):
        string = text[start:end]
        capital = string[:1].isupper()
        word = any(character.isalnum() for character in string)
        found[row] = (
            row == 0,
            row == len(places) - 1,
            capital,
            capital and row > 0,
            string.isupper(),
            any(character.isdigit() for character in string),
            word,
            not word,
            start > 0 and not text[start - 1].isspace(),
        )
    return found


def hashed(encoder: Encoder, strings: Sequence[str], width: int) -> NDArray[np.float16]:
    """Return a lexical encoder's features of strings, folded to `[n, width]`, rows of length 1 or 0.

    Columns whose numbers are equal modulo the width are added: hashing with signs into fewer columns.
    Each different string is encoded once.

    Args:
        encoder: what `lexical_encoder` found.
        strings: words, mostly; n of them.
        width: of the result; at most the encoder's own.
    """
    places = {string: number for number, string in enumerate(dict.fromkeys(strings))}
    different = list(places)
    block = next(name for name in encoder.blocks if name in encoder.lexical)
    width = min(width, encoder.blocks[block])
    found = np.zeros((len(different), width), np.float16)
    for begin in range(0, len(different), _STRINGS):
        full = encoder.encode(different[begin : begin + _STRINGS])[block]
        folded = np.zeros((len(full), width), np.float32)
        for column in range(0, full.shape[1], width):
            part = full[:, column : column + width]
            folded[:, : part.shape[1]] += part
        folded /= np.maximum(np.linalg.norm(folded, axis=1, keepdims=True), 1e-12)
        found[begin : begin + len(full)] = folded
    rows: NDArray[np.float16] = found[[places[string] for string in strings]]
    return rows
