"""An encoder with states of single tokens that is made of hashes: subwords of three characters."""

import hashlib
import re

import numpy as np

from metaglot.encoders import TokenStates

WIDTH = 8


class TinyTokens:
    """Each subword's state is its own direction, another in every layer, so that equal subwords are equal.

    A stretch in brackets is skipped, as a tokenizer drops what it cannot read.
    """

    name = "tiny"
    blocks = {"tiny": WIDTH}  # noqa: RUF012 - as an instance would have it
    lexical = frozenset()
    fingerprint = "tiny tokens"

    def __init__(self, layers=6):
        self.layers = layers
        self.asked = []

    def encode(self, texts, *, description="encoding"):
        rows = [vector("text " + text) for text in texts]
        return {"tiny": np.stack(rows) if rows else np.zeros((0, WIDTH), np.float32)}

    def token_states(self, texts, layers=(-1,), *, description="encoding"):
        self.asked.append(tuple(layers))
        return [self._states(text, layers) for text in texts]

    def _states(self, text, layers):
        readable = re.sub(r"\[.*?\]", lambda m: " " * len(m.group()), text)
        offsets = [
            (start, min(start + 3, word.end()))
            for word in re.finditer(r"\S+", readable)
            for start in range(word.start(), word.end(), 3)
        ]
        states = [[vector(f"{layer} {text[a:b]}") for layer in layers] for a, b in offsets]
        return TokenStates(
            np.array(states, np.float16).reshape(len(offsets), WIDTH * len(layers)),
            np.array(offsets, np.int32).reshape(-1, 2),
        )


def vector(text):
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
