"""What models that write learn from: sequences of one language, cut into batches of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from metaglot.errors import DataError
from metaglot.sequences.vocabulary import PADDING
from metaglot.space import generator
from metaglot.types import Batch

WINDOW = 16
"""Batches whose sequences are sorted by length together: little padding, and little order."""


class Sources(Protocol):
    """The source sides of a material's pairs, by their places."""

    def lengths(self) -> np.ndarray:
        """Return how many tokens each has, `[n]`."""
        ...

    def inputs(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return `source` and `source_mask` of these rows, as a `TranslationModel` takes them."""
        ...


@dataclass(frozen=True)
class TokenSources:
    """Sources that are tokens of a vocabulary."""

    ids: tuple[Sequence[int], ...]

    def lengths(self) -> np.ndarray:
        """Return how many tokens each has, `[n]`."""
        return np.array([len(ids) for ids in self.ids])

    def inputs(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return ids `[n, S]` and where they are, `[n, S]`."""
        source = padded([self.ids[row] for row in rows])
        return {"source": source, "source_mask": source != PADDING}


@dataclass(frozen=True)
class StateSources:
    """Sources that are states of a frozen encoder, kept in half precision."""

    states: tuple[np.ndarray, ...]

    def lengths(self) -> np.ndarray:
        """Return how many tokens each has, `[n]`."""
        return np.array([len(states) for states in self.states])

    def inputs(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return states `[n, S, d]`, float32, and where they are, `[n, S]`."""
        chosen = [self.states[row] for row in rows]
        longest = max(map(len, chosen))
        source = torch.zeros(len(rows), longest, chosen[0].shape[1])
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for place, states in enumerate(chosen):
            source[place, : len(states)] = torch.from_numpy(states.astype(np.float32))
            mask[place, : len(states)] = True
        return {"source": source, "source_mask": mask}


@dataclass(frozen=True)
class Material:
    """Sequences of one language that a model is to write, with their sources where it translates.

    Attributes:
        targets: numbers of a vocabulary, from the first token (a tag, or begin) to the last.
        sources: what they are translations of; None where there is nothing to translate.
        group: which of the model's groups the language is of; −1 for none of them.
        n_bytes: bytes of UTF-8 that the targets stand for, all together.
        tagged: whether targets start with a language's tag or begin, one of which may stand for the other;
            a pretrained model's do not.
        given: tokens at a target's start that are never predicted.
    """

    targets: tuple[Sequence[int], ...]
    sources: Sources | None = None
    group: int = -1
    n_bytes: int = 0
    tagged: bool = True
    given: int = 1

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def n_tokens(self) -> int:
        """How many tokens are to be predicted."""
        return sum(len(ids) - self.given for ids in self.targets)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return the sequences at these places, padded: inputs by name, and targets `[n, T]`.

        At each place of `target` the target is the next token; 0 is padding, which losses leave out.
        """
        ids = padded([self.targets[row] for row in rows])
        inputs = {} if self.sources is None else self.sources.inputs(rows)
        inputs["target"] = ids[:, :-1]
        targets = ids[:, 1:].clone()
        targets[:, : self.given - 1] = PADDING
        return Batch(inputs, targets, torch.arange(0), group=self.group)

    def lengths(self) -> np.ndarray:
        """Return what each sequence costs: its tokens, those of its source among them, `[n]`."""
        found = np.array([len(ids) - 1 for ids in self.targets])
        return found if self.sources is None else found + self.sources.lengths()

    def batches(self, size: int, *key: int | str) -> Iterator[Batch]:
        """Yield batches of `size` sequences, of like lengths and in an order that `key` draws, for ever."""
        lengths, turn = self.lengths(), 0
        while True:
            chance = generator(*key, "turn", turn)
            order = chance.permutation(len(self))
            for first in range(0, len(order), size * WINDOW):
                window = order[first : first + size * WINDOW]
                parts = by_length(window, lengths[window], size)
                yield from (self.batch(parts[place]) for place in chance.permutation(len(parts)).tolist())
            turn += 1

    def rows(self, rows: Sequence[int]) -> Material:
        """Return the sequences at these places alone; their bytes are not counted anew."""
        sources = None if self.sources is None else _Chosen(self.sources, tuple(rows))
        targets = tuple(self.targets[row] for row in rows)
        return replace(self, targets=targets, sources=sources, n_bytes=0)


@dataclass(frozen=True)
class _Chosen:
    """Some of other sources."""

    of: Sources
    places: tuple[int, ...]

    def lengths(self) -> np.ndarray:
        return self.of.lengths()[list(self.places)]

    def inputs(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return self.of.inputs([self.places[row] for row in rows])


def padded(ids: Sequence[Sequence[int]]) -> Tensor:
    """Return numbers `[n, T]`, shorter sequences padded at their ends.

    Raises:
        DataError: there is no sequence, or one has nothing to predict.
    """
    if not ids or min(map(len, ids)) < 1:
        raise DataError("expected sequences of at least one token, found none.")
    longest = max(map(len, ids))
    return torch.tensor([[*row, *([PADDING] * (longest - len(row)))] for row in ids])


def in_order(material: Material, size: int) -> Iterator[Batch]:
    """Yield all sequences once in batches of `size`, of like lengths."""
    for rows in by_length(np.arange(len(material)), material.lengths(), size):
        yield material.batch(rows)


def by_length(rows: np.ndarray, lengths: np.ndarray, size: int) -> list[list[int]]:
    """Return rows in batches of `size`, the shortest first: little of a batch is padding then."""
    order = rows[np.argsort(lengths, kind="stable")]
    return [order[first : first + size].tolist() for first in range(0, len(order), size)]
