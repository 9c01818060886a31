"""Pairs: one label for two texts, such as entailment or paraphrase; its unit is the pair.

Each text is encoded by itself, and features say how the second, v, stands to the first, u:

    second      v, the mean state of the last layer: some hypotheses give themselves away
    apart       |u − v|
    together    u · v, component by component
    unmatched   mean over v's tokens t of (1 − best_t) t, where best_t is the highest cosine of t with
                any token of u: what the second text says that the first does not
    match       how well tokens find one another (mean, deviation, quantiles and shares of best_t, both
                ways, in three layers), and how many words, character n-grams and numbers are shared

Cosines are of token states less the mean state of the two texts. Only `match` and `unmatched` look at
tokens, which a linear head over u and v cannot.

Chosen on AfriXNLI with a frozen e5-small: seven source languages of 450 pairs, five others judged on
contents that no source has; accuracy without an example of the language, chance 33.3:

    v                                           46.4
    v, |u − v|, u · v                           51.6
    match and unmatched                         52.6
    all of them                                 54.4

Of 32 examples a label 54.6 come, and 49.8 without the sources. u itself adds nothing, and neither do
hashed n-grams of the second text or of its new words. Both as one text ("u </s> v", "cross-encoded") give
42.2 by its vector and 49.7 by comparing its two parts: an encoder that never met pairs hardly compares
them, and every pair would have to be encoded anew.

Conneau et al., "Supervised learning of universal sentence representations", EMNLP 2017 (u, v, |u − v|,
u · v). Zhang et al., "BERTScore", ICLR 2020 (greedy matching of token states).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaglot.encoders.base import Encoder, TokenEncoder, TokenStates
from metaglot.encoders.ngrams import fold
from metaglot.errors import DataError, Where
from metaglot.kinds.base import Units
from metaglot.kinds.features import inner_layers, token_encoder
from metaglot.kinds.single import count_labels, decode_label, judge_labels, label_of
from metaglot.types import Example

Floats = NDArray[np.float32]

_LAYERS = 3  # the two inner ones and the last; `unmatched` is of the second
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
_POOR = (0.3, 0.5, 0.7, 0.9)  # the shares of tokens whose best cosine is lower
_NGRAMS = (2, 3, 4)
_MATCH = _LAYERS * 2 * (2 + len(_QUANTILES) + len(_POOR)) + 2 * (len(_NGRAMS) + 1) + 5


class Pairs:
    """One label for two texts."""

    shots = "label"
    metrics = ("accuracy", "macro_f1")

    count_labels = count_labels
    targets = label_of
    decode = decode_label
    judge = judge_labels

    def blocks(self, encoder: Encoder) -> Mapping[str, int]:
        """Return the blocks `second`, `apart`, `together`, `unmatched`, and `match`.

        Raises:
            SettingsError: the encoder has no states of single tokens.
        """
        part = token_encoder(encoder, "pairs")
        width = _width(part)
        names = ("second", "apart", "together", "unmatched")
        return {f"{part.name}:{name}": width for name in names} | {"match": _MATCH}

    def lexical(self, encoder: Encoder) -> frozenset[str]:
        """Return no block: each says how two texts of one language stand to one another."""
        return frozenset()

    def encode(self, encoder: Encoder, examples: Sequence[Example], *, description: str) -> Units:
        """Return one unit for each pair, float16; a text that stands in several pairs is encoded once.

        Raises:
            DataError: an example has no second text.
            SettingsError: the encoder has no states of single tokens, or too few layers.
        """
        for example in examples:
            if not example.pair.strip():
                raise DataError(
                    f"expected two texts, found no second one in the example {example.id!r}.",
                    where=Where(field="pair"),
                    hint="Name the column of the second text, or choose the kind 'classification'.",
                )
        widths = self.blocks(encoder)
        part = token_encoder(encoder, "pairs")
        texts = list(dict.fromkeys(text for e in examples for text in (e.text, e.pair)))
        layers = (*inner_layers(part), -1)
        states = dict(zip(texts, part.token_states(texts, layers, description=description), strict=True))
        found = {name: np.zeros((len(examples), width), np.float16) for name, width in widths.items()}
        for row, example in enumerate(examples):
            first, second = (_layers(states[text], _width(part)) for text in (example.text, example.pair))
            features = (*_compared(first, second), _overlap(example.text, example.pair))
            *vectors, matched, shared = features
            for name, vector in zip(widths, (*vectors, np.concatenate([matched, shared])), strict=True):
                found[name][row] = vector
        return Units(found, tuple(((0, len(e.text)),) for e in examples))


def _width(part: TokenEncoder) -> int:
    return next(iter(part.blocks.values()))


def _layers(states: TokenStates, width: int) -> Floats:
    """Return `[T, L, d]`."""
    return states.states.astype(np.float32).reshape(-1, _LAYERS, width)


def _compared(first: Floats, second: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return v, |u − v|, u · v, what is unmatched `[d]`, and how well tokens match, of two texts' states."""
    u, v = _vector(first[:, -1]), _vector(second[:, -1])
    unmatched, matched = np.zeros_like(v), []
    for layer in range(_LAYERS):
        cosines, tokens = _cosines(first[:, layer], second[:, layer])
        matched += [*_best(cosines), *_best(cosines.T)]
        if layer == 1 and cosines.size:
            unmatched = ((1 - cosines.max(1))[:, None] * tokens).mean(0)
    return v, np.abs(u - v), u * v, unmatched, np.array(matched, np.float32)


def _vector(states: Floats) -> Floats:
    """Return the mean state `[d]`, its entries of about 1 so that float16 holds their products."""
    mean = states.mean(0) if len(states) else np.zeros(states.shape[1], np.float32)
    scaled: Floats = mean * (len(mean) ** 0.5 / max(float(np.linalg.norm(mean)), 1e-6))
    return scaled


def _cosines(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return the cosines `[T of the second, T of the first]`, and the second's tokens `[T, d]`.

    Tokens are centred on the pair's own mean and of length 1. (Raw states of one text all point much the
    same way. A mean over more than the pair would let one example's features depend on the others.)
    """
    if not len(first) or not len(second):
        return np.zeros((len(second), len(first)), np.float32), second
    tokens = np.concatenate([first, second])
    tokens = tokens - tokens.mean(0)
    tokens /= np.maximum(np.linalg.norm(tokens, axis=1, keepdims=True), 1e-6)
    return tokens[len(first) :] @ tokens[: len(first)].T, tokens[len(first) :]


def _best(cosines: Floats) -> Iterator[float]:
    """Yield what is told of the highest cosine of each row; zeros where there is no token."""
    if not cosines.size:
        yield from [0.0] * (2 + len(_QUANTILES) + len(_POOR))
        return
    best = cosines.max(1)
    yield float(best.mean())
    yield float(best.std())
    yield from np.quantile(best, _QUANTILES).tolist()
    yield from (float((best < bound).mean()) for bound in _POOR)


def _overlap(first: str, second: str) -> Floats:
    """Return which share of each text's words and n-grams the other has, numbers of one alone, lengths."""
    found: list[Any] = []
    words = [_words(text) for text in (first, second)]
    for n in (*_NGRAMS, 0):
        one, two = ({gram for word in text for gram in _grams(word, n)} for text in words)
        both = len(one & two)
        found += [both / max(len(one), 1), both / max(len(two), 1)]
    one, two = ({number for word in text for number in re.findall(r"\d+", word)} for text in words)
    lengths = [np.log1p(len(text)) for text in (first, second)]
    found += [len(two - one), len(one - two), *lengths, lengths[1] - lengths[0]]
    return np.array(found, np.float32)


def _words(text: str) -> list[str]:
    """Return a text's words: letters, marks and digits. In scripts without spaces a "word" is a run."""
    folded = fold(text)
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in folded)
    return "".join(kept).split()


def _grams(word: str, n: int) -> Iterator[str]:
    """Yield a word's stretches of n characters, with a space on both sides; for 0 the word."""
    padded = f" {word} "
    yield from (padded[i : i + n] for i in range(len(padded) - n + 1)) if n else (word,)
