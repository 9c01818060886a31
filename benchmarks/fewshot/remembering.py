"""Features of texts that were encoded before: the folds of a corpus share most of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metaglot.encoders import Encoder
from metaglot.encoders.base import Features


class RememberingEncoder:
    """An encoder that keeps the features of every text in memory, each once.

    Character n-grams are not in the cache on disk, for they are larger there than they are dear; over
    16 folds of long texts they are dear.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._rows: dict[str, dict[str, Features]] = {}
        self.name: str = encoder.name
        self.blocks: Mapping[str, int] = encoder.blocks
        self.lexical: frozenset[str] = encoder.lexical

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self._encoder.fingerprint

    def encode(self, texts: Sequence[str], *, description: str = "encoding") -> dict[str, Features]:
        """Return block name → features `[n, d]`, float32."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            found = self._encoder.encode(new, description=description)
            for row, text in enumerate(new):
                self._rows[text] = {name: block[row] for name, block in found.items()}
        return {
            name: np.stack([self._rows[text][name] for text in texts])
            if len(texts)
            else np.empty((0, width), np.float32)
            for name, width in self.blocks.items()
        }
