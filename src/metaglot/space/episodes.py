"""Seeded sampling: which examples of a task are support and which are query.

Everything here works on row numbers, and every draw is a function of its seed and its place alone
(no generator is carried from one draw to the next), so that any episode can be drawn again, bit for
bit, in any order and in any process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metaglot.errors import DataError
from metaglot.types import Example

Rows = NDArray[np.int64]
Shots = Literal["label", "example"]
"""What the k of k shots counts: examples of each label, or examples."""

QUERY_SHARE = 1 / 3


def generator(*key: int | str) -> np.random.Generator:
    """Return a random generator that is a function of `key` alone."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


@dataclass(frozen=True)
class Draw:
    """Row numbers of one episode, into the task's pool, and its labels."""

    support: Rows
    query: Rows
    labels: tuple[str, ...]


def draw_support(
    pool: Sequence[Example], labels: Sequence[str], shots: int, *key: int | str, by: Shots = "label"
) -> Rows:
    """Return the rows of `shots` examples per label, all there are where there are fewer.

    Draws with the same `key` are nested: the support set of 4 shots contains that of 1.

    Args:
        pool: the task's examples.
        labels: the labels to draw from.
        shots: k.
        key: the seed and the draw's place.
        by: what k counts. `"example"` draws k examples in all, whatever their labels, the first with a
            span where any has one: nobody picks nothing but sentences without a name to teach names.
    """
    if by == "example":
        return _spanned_first(pool, generator(*key).permutation(len(pool)))[:shots]
    rows = _rows_by_label(pool)
    return np.concatenate(
        [generator(*key, label).permutation(rows[label])[:shots] for label in labels if label in rows]
        or [np.empty(0, dtype=np.int64)]
    )


def draw_episode(
    pool: Sequence[Example],
    labels: Sequence[str],
    shots: int,
    queries: int,
    *key: int | str,
    ways: int | None = None,
    by: Shots = "label",
) -> Draw:
    """Draw a support set of `shots` per label and a query set of up to `queries` per label.

    Support and query are disjoint, by id and by group: what was made from one template or document
    is on one side only, whatever labels it has. About a third of a label's groups are kept for the
    query set, so where there are few examples the support set has fewer than `shots`. A label whose
    groups all stand on one side because of other labels' is left out.

    Args:
        pool: the task's examples.
        labels: the labels to draw from.
        shots: k.
        queries: the most query examples per label.
        key: the seed and the episode's place.
        ways: draw this many of the labels; all where None.
        by: what `shots` and `queries` count: examples per label, or examples. Of examples that count
            whatever their labels, all labels are kept.

    Raises:
        DataError: fewer than two labels can be both learned and judged.
    """
    if by == "example":
        return _draw_examples(pool, labels, shots, queries, *key)
    rows = {label: _by_group(pool, places) for label, places in _rows_by_label(pool).items()}
    able = [label for label in labels if len(rows.get(label, ())) >= 2]
    if len(able) < 2:
        raise DataError(
            "expected two labels with examples of two or more groups to draw an episode from, "
            f"found {len(able)}."
        )
    if ways is not None and ways < len(able):
        chosen = generator(*key, "ways").choice(len(able), size=max(2, ways), replace=False)
        able = sorted(able[i] for i in chosen)
    support, query, drawn = [], [], []
    judged: dict[str, bool] = {}  # group → whether it is on the query's side
    for label in able:
        chance = generator(*key, label)
        names = list(rows[label])
        names = [names[i] for i in chance.permutation(len(names))]
        aside = max(1, round(len(names) * QUERY_SHARE)) - sum(judged.get(name, False) for name in names)
        free = [name for name in names if name not in judged]
        judged |= {name: place < aside for place, name in enumerate(free)}
        if len({judged[name] for name in names}) < 2:
            continue
        sides = [
            np.concatenate([rows[label][n] for n in names if judged[n] is side]) for side in (True, False)
        ]
        query.append(chance.permutation(sides[0])[:queries])
        support.append(chance.permutation(sides[1])[:shots])
        drawn.append(label)
    if len(drawn) < 2:
        raise DataError(
            "expected two labels that share no groups to draw an episode from, found "
            f"{len(drawn)} of {len(able)}."
        )
    return Draw(np.concatenate(support), np.concatenate(query), tuple(drawn))


def _draw_examples(
    pool: Sequence[Example], labels: Sequence[str], shots: int, queries: int, *key: int | str
) -> Draw:
    """Draw `shots` examples and up to `queries` others, of other groups."""
    chance = generator(*key)
    groups = list(_by_group(pool, np.arange(len(pool))).values())
    if len(groups) < 2:
        raise DataError(
            f"expected examples of two or more groups to draw an episode from, found {len(groups)}."
        )
    order = [groups[i] for i in chance.permutation(len(groups))]
    aside = max(1, round(len(order) * QUERY_SHARE))
    sides = (np.concatenate(part) for part in (order[:aside], order[aside:]))
    query, support = (_spanned_first(pool, chance.permutation(rows)) for rows in sides)
    return Draw(support[:shots], query[:queries], tuple(labels))


def _spanned_first(pool: Sequence[Example], rows: Rows) -> Rows:
    """Return rows with the first that has a span in front."""
    place = next((i for i, row in enumerate(rows.tolist()) if pool[row].spans), 0)
    return np.concatenate([rows[place : place + 1], rows[:place], rows[place + 1 :]])


def _rows_by_label(pool: Sequence[Example]) -> dict[str, Rows]:
    found: dict[str, list[int]] = {}
    for row, example in enumerate(pool):
        found.setdefault(example.label, []).append(row)
    return {label: np.array(rows, dtype=np.int64) for label, rows in found.items()}


def _by_group(pool: Sequence[Example], rows: Rows) -> dict[str, Rows]:
    """Group → its rows; an example without a group is one of its own."""
    found: dict[str, list[int]] = {}
    for row in rows.tolist():
        found.setdefault(pool[row].group or f"\0{row}", []).append(row)
    return {name: np.array(group, dtype=np.int64) for name, group in found.items()}
