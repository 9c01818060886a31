"""`ngrams`: hashed character n-grams, which need no training and know every script.

A text is folded (NFKC, case), each word is padded with a space on both sides, and all its stretches
of 2 to 5 characters are hashed into d columns with a sign, so that collisions cancel on average
(Weinberger et al., 2009, "Feature Hashing for Large Scale Multitask Learning"). A column holds
sign · log(1 + |count|); rows have length 1. In scripts without spaces a "word" is the whole run.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from metaglot.encoders.base import Encoder, EncoderOptions, Features, clean
from metaglot.errors import SettingsError
from metaglot.storage import text_hash

WIDTH = 4096
LENGTHS = (2, 5)
CHUNK = 1024  # texts at once


def load(argument: str, options: EncoderOptions) -> Encoder:
    """Hashed character n-grams (`ngrams:8192` sets the width): strong where the encoder is weak."""
    if argument and not (argument.isdecimal() and 16 <= int(argument) <= 1 << 20):
        raise SettingsError(
            f"expected the width of the n-grams to be a number from 16 to {1 << 20}, as in ngrams:4096, "
            f"found {argument!r}."
        )
    return NgramEncoder(int(argument or WIDTH))


class NgramEncoder:
    """Signed, hashed counts of character n-grams within words, of length 1."""

    def __init__(self, width: int = WIDTH) -> None:
        self.name = "ngrams" if width == WIDTH else f"ngrams:{width}"
        self.blocks = {self.name: width}
        self.lexical = frozenset(self.blocks)
        self.fingerprint = text_hash("character n-grams", str(width), str(LENGTHS))

    @cached_property
    def _hasher(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer  # noqa: PLC0415 - slow to import

        return HashingVectorizer(
            analyzer="char_wb",
            ngram_range=LENGTHS,
            n_features=self.blocks[self.name],
            alternate_sign=True,
            norm=None,
            lowercase=False,
            dtype=np.float32,
        )

    def encode(self, texts: Sequence[str], *, description: str = "encoding") -> dict[str, Features]:
        """Return the block `[n, d]`, float32; a text without characters is a row of zeros."""
        found = np.zeros((len(texts), self.blocks[self.name]), np.float32)
        for begin in range(0, len(texts), CHUNK):
            folded = [fold(text) for text in texts[begin : begin + CHUNK]]
            counts = self._hasher.transform(folded).tocoo()
            found[begin + counts.row, counts.col] = np.sign(counts.data) * np.log1p(np.abs(counts.data))
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return {self.name: found}


def fold(text: str) -> str:
    """Return `text` in one form of its characters (NFKC) and without case."""
    return unicodedata.normalize("NFKC", clean(text)).casefold()
