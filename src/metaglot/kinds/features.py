"""Features of stretches of texts: pooled token states, and character n-grams of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaglot.encoders.base import Encoder, JoinedEncoder, TokenEncoder, TokenStates
from metaglot.errors import SettingsError
from metaglot.kinds.base import Stretch


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


def pooled(states: TokenStates, places: Sequence[Stretch]) -> NDArray[np.float32]:
    """Return the mean state `[U, L·d]` of the tokens that share a character with each stretch.

    A stretch that no token touches (a tokenizer drops what it cannot read) gets the nearest token's
    state, and zeros where the text has no token at all.
    """
    found = np.zeros((len(places), states.states.shape[1]), np.float32)
    if not len(states.states):
        return found
    starts, ends = states.offsets[:, 0], states.offsets[:, 1]
    values = states.states.astype(np.float32)
    for row, (start, end) in enumerate(places):
        inside = (starts < end) & (ends > start) & (ends > starts)
        if inside.any():
            found[row] = values[inside].mean(0)
        else:
            found[row] = values[np.abs((starts + ends) / 2 - (start + end) / 2).argmin()]
    return found


def hashed(encoder: Encoder, strings: Sequence[str], width: int) -> NDArray[np.float32]:
    """Return a lexical encoder's features of strings, folded to `[n, width]`, rows of length 1 or 0.

    Columns whose numbers are equal modulo the width are added: hashing with signs into fewer columns.
    Each different string is encoded once.

    Args:
        encoder: what `lexical_encoder` found.
        strings: words, mostly; n of them.
        width: of the result; at most the encoder's own.
    """
    places = {string: number for number, string in enumerate(dict.fromkeys(strings))}
    blocks: dict[str, NDArray[Any]] = encoder.encode(list(places))
    full = next(iter(blocks.values()))
    width = min(width, full.shape[1])
    folded = np.zeros((len(full), width), np.float32)
    for begin in range(0, full.shape[1], width):
        part = full[:, begin : begin + width]
        folded[:, : part.shape[1]] += part
    folded /= np.maximum(np.linalg.norm(folded, axis=1, keepdims=True), 1e-12)
    rows: NDArray[np.float32] = folded[[places[string] for string in strings]]
    return rows
