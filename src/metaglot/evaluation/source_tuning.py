"""What a baseline may tune on: episodes of the source languages, one setting for each number of shots.

It is the information that meta-learning has, and no example of a new language enters. Settings are
chosen for 1, 2, 4, 8 … examples per label; a support set takes those of the power of two nearest to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F

from metaglot.errors import DataError
from metaglot.learners.base import shots_of
from metaglot.model import Model, Sources, Table
from metaglot.space import draw_episode, generator
from metaglot.types import Batch, Episode

if TYPE_CHECKING:
    from torch import Tensor

Setting = TypeVar("Setting")

LANGUAGES = 8
"""Source languages that settings are tuned on, an episode of each."""
QUERIES = 32
"""The most query examples per label of such an episode."""


def power_of_shots(support: Batch) -> int:
    """Return the power of two nearest to a support set's examples per label."""
    return 1 << round(math.log2(max(1.0, shots_of(support))))


def tuning_languages(sources: Sources) -> list[int]:
    """Return the places of the source languages to tune on, the same for every baseline."""
    order = generator("tuning").permutation(len(sources.tables))
    return sorted(order[:LANGUAGES].tolist())


def tuning_episode(
    model: Model, table: Table, shots: int, rows: Sequence[int] | None = None
) -> Episode | None:
    """Return the episode of a source language, or None where it has too few examples for one.

    Args:
        model: the model.
        table: the language's.
        shots: examples per label; of sentences, as many as have so many units per label.
        rows: those of its examples that may be drawn; all where None.
    """
    chosen = range(len(table.examples)) if rows is None else rows
    pool = [table.examples[row] for row in chosen]
    labels, by = table.task.labels, table.task.shots
    key = ("tuning", table.task.language, shots)
    if by == "example":
        shots = max(1, round(shots * len(labels) * len(table.examples) / len(table.targets)))
    try:
        drawn = draw_episode(pool, labels, shots, QUERIES, *key, by=by)
    except DataError:
        return None
    support, query = (
        table.support(model, torch.tensor([chosen[row] for row in part.tolist()]), drawn.labels)
        for part in (drawn.support, drawn.query)
    )
    if len(torch.unique(support.targets)) < 2:
        return None
    return Episode(support, query, table.task.language)


def best_setting(
    settings: Sequence[Setting], judged: Iterable[tuple[Sequence[Tensor], Tensor]], default: Setting
) -> Setting:
    """Return the setting of the highest mean accuracy over episodes; of equals, of the least log-loss.

    Args:
        settings: to choose from.
        judged: of every episode, the query logits `[n, C]` under each setting, and the labels `[n]`.
        default: where there is no episode to judge by.
    """
    hits, losses, count = [0.0] * len(settings), [0.0] * len(settings), 0
    for logits, targets in judged:
        count += 1
        for place, scores in enumerate(logits):
            hits[place] += float((scores.argmax(-1) == targets).double().mean())
            losses[place] += float(F.cross_entropy(scores, targets))
    if not count:
        return default
    return settings[max(range(len(settings)), key=lambda place: (hits[place], -losses[place]))]
