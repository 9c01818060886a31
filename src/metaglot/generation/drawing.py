"""What training steps are on: batches of all languages together, and episodes of one language each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from metaglot.errors import DataError, SettingsError
from metaglot.families import branch
from metaglot.generation.material import WINDOW, Material, by_length
from metaglot.sequences.vocabulary import BEGIN
from metaglot.space import generator
from metaglot.types import Batch, Episode

ALL = "all languages"
"""The task of a joint batch."""


@dataclass(frozen=True)
class Sizes:
    """How much a step is on, in sequences.

    Attributes:
        joint: of a batch of all languages.
        support: of an episode's support set.
        query: of its query set.
        untagged: share of joint sequences whose language tag is left out, so that a language that has
            none can begin as they do.
    """

    joint: int = 32
    support: int = 40
    query: int = 16
    untagged: float = 0.2


class JointDraw:
    """(step, place) → an episode whose sequences are of all languages, each as often as any other.

    Args:
        sources: code → material.
        sizes: of a batch.
        seed: of everything random.
    """

    def __init__(self, sources: Mapping[str, Material], sizes: Sizes, seed: int) -> None:
        self._materials = [sources[code] for code in sorted(sources)]
        self._sizes, self._seed = sizes, seed
        self._lengths = [material.lengths() for material in self._materials]
        self._window: tuple[int, list[list[tuple[int, int]]]] = (-1, [])

    def __call__(self, step: int, place: int) -> Episode:
        """Return the episode of a step: half a batch as support set, half as query set."""
        chance = generator(self._seed, "joint", step, place)
        chosen = self._batch(step)
        order = chance.permutation(len(chosen)).tolist()
        half = len(chosen) // 2
        parts = [[chosen[i] for i in rows] for rows in (order[:half], order[half:])]
        share = self._sizes.untagged if self._materials[0].tagged else 0.0
        support, query = (untagged(self._mixed(part), share, chance) for part in parts)
        return Episode(support, query, ALL)

    def _batch(self, step: int) -> list[tuple[int, int]]:
        """(material, row) of a step's sequences, which are of like lengths."""
        number, place = divmod(step, WINDOW)
        if self._window[0] != number:
            chance = generator(self._seed, "joint window", number)
            count = self._sizes.joint * WINDOW
            which = chance.integers(len(self._materials), size=count)
            rows = [int(chance.integers(len(self._materials[m]))) for m in which]
            lengths = np.array([self._lengths[m][row] for m, row in zip(which, rows, strict=True)])
            parts = by_length(np.arange(count), lengths, self._sizes.joint)
            order = chance.permutation(len(parts)).tolist()
            self._window = (number, [[(int(which[i]), rows[i]) for i in parts[p]] for p in order])
        return self._window[1][place]

    def _mixed(self, chosen: Sequence[tuple[int, int]]) -> Batch:
        by_material: dict[int, list[int]] = {}
        for material, row in chosen:
            by_material.setdefault(material, []).append(row)
        return joined([self._materials[m].batch(rows) for m, rows in sorted(by_material.items())])


class EpisodeDraw:
    """(step, place) → an episode of one language, drawn by chance, the same chance for all.

    No language has its tag: an episode is what a new language will be.

    Args:
        sources: code → material.
        sizes: of support and query sets.
        seed: of everything random.
        every: let place p be of language p % their number, instead of by chance.

    Raises:
        DataError: a language has fewer than two sequences.
    """

    def __init__(
        self, sources: Mapping[str, Material], sizes: Sizes, seed: int, *, every: bool = False
    ) -> None:
        self._codes = sorted(sources)
        self._every = every
        self._sources, self._sizes, self._seed = sources, sizes, seed
        for code in self._codes:
            if len(sources[code]) < 2:
                raise DataError(
                    f"expected at least 2 sequences of every source language, found {len(sources[code])} of "
                    f"{code}."
                )

    def __call__(self, step: int, place: int) -> Episode:
        """Return the episode at a place of a step's meta-batch."""
        if self._every:
            return self.of(self._codes[place % len(self._codes)], step, place)
        chance = generator(self._seed, "episode", step, place)
        return self.of(self._codes[int(chance.integers(len(self._codes)))], step, place)

    def of(self, code: str, *key: int | str) -> Episode:
        """Return an episode of a language: a function of the seed, the language and `key`."""
        chance = generator(self._seed, "rows", code, *key)
        material = self._sources[code]
        query = min(self._sizes.query, len(material) // 2)
        rows = chance.permutation(len(material))[: query + self._sizes.support].tolist()
        return Episode(
            untagged(material.batch(rows[query:]), float(material.tagged), chance),
            untagged(material.batch(rows[:query]), float(material.tagged), chance),
            code,
        )


def shared_out(codes: Iterable[str], fresh: float) -> tuple[list[str], list[str]]:
    """Return the languages that joint training sees, and those that episodes are of.

    A model knows the languages that it was jointly trained on, and episodes of them teach a learner that
    there is little to adapt: learned rates fall to a fifth. Episodes of languages that joint training has
    not seen are as a new one will be (as a prior is cross-fitted); but then fewer languages are trained on.
    Kin are shared out between both sides. Where one side would have fewer than two languages both have all.

    Args:
        codes: the source languages.
        fresh: share of them that is left to episodes; 0 gives both sides all.

    Raises:
        SettingsError: the share is not from 0 to below 1.
    """
    if not 0 <= fresh < 1:
        raise SettingsError(f"expected 0 ≤ fresh < 1, found {fresh}.")
    order = sorted(codes, key=lambda code: (branch(code) or "", code))
    apart = [code for i, code in enumerate(order) if int((i + 1) * fresh) > int(i * fresh)]
    joint = [code for code in order if code not in apart]
    if min(len(apart), len(joint)) < 2:
        return sorted(order), sorted(order)
    return sorted(joint), sorted(apart)


def untagged(batch: Batch, share: float, chance: np.random.Generator) -> Batch:
    """Return a batch, a share of whose targets start with begin in place of a language's tag."""
    target = batch.inputs["target"].clone()
    target[torch.from_numpy(chance.random(len(target)) < share), 0] = BEGIN
    return replace(batch, inputs={**batch.inputs, "target": target})


def joined(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one, padded to the longest."""
    inputs = {name: _stacked([b.inputs[name] for b in batches]) for name in batches[0].inputs}
    return Batch(inputs, _stacked([b.targets for b in batches]), batches[0].classes)


def _stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    longest = max(t.shape[1] for t in tensors)
    wide = [
        torch.cat([t, t.new_zeros(len(t), longest - t.shape[1], *t.shape[2:])], dim=1)
        if t.shape[1] < longest
        else t
        for t in tensors
    ]
    return torch.cat(wide)
