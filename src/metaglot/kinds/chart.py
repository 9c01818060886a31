"""The best tree over a text, given what each stretch of tokens gains as each node: CKY.

Intents and slots alternate, so a forest is of intents (inside a slot) or of slots (inside an intent). With
i the first token of a stretch, l its length, s(i, l, c) what a chain of nodes c gains there (its top and
its bottom are intents or slots), and k what a forest is of,

    G_k(i, l) = max(0, max_m F_k(i, m) + F_k(i + m, l − m))          no single node covers all
    F_k(i, l) = max(G_k(i, l), max_c s(i, l, c) + G_k′(i, l))        c begins with k, k′ ≠ its bottom

A stretch has one chain at most, for nodes that cover the same words are one chain. The best forest of
slots over all n tokens is exact. Where no node has more than L tokens, G and F are needed up to that length
alone, and all tokens are covered by the best row of forests: O(n L²) steps, stretches of a length at once.

Stern, Andreas & Klein, "A minimal span-based neural constituency parser", ACL 2017, section 3; the null
label of a stretch that is no node is the 0 here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

INTENTS, SLOTS = 0, 1

# Gains beyond this are taken as this: sums over all nodes of a tree stay finite and different.
_LARGEST = 1e9


def best_forest(
    stretches: NDArray[np.intp],
    gains: NDArray[np.floating[Any]],
    tops: NDArray[np.intp],
    bottoms: NDArray[np.intp],
) -> list[tuple[int, int]]:
    """Return the nodes of the forest of slots that gains most: (stretch, chain), outer ones first.

    Args:
        stretches: `[U, 2]`, first token and end of each; all different.
        gains: `[U, C]` of each chain of nodes, against being no node; a sum over the forest is maximised.
            NaN is never taken.
        tops: `[C]`, INTENTS or SLOTS: what a chain begins with.
        bottoms: `[C]`, what it ends with.
    """
    if not gains.size:
        return []
    starts, lengths = stretches[:, 0], stretches[:, 1] - stretches[:, 0]
    tokens, longest = int(stretches[:, 1].max()), int(lengths.max())
    values = np.clip(np.nan_to_num(gains.astype(np.float64), nan=-_LARGEST), -_LARGEST, _LARGEST)
    # Of each stretch, top and bottom: the best chain, and what it gains.
    chains = np.full((2, 2, tokens, longest + 1), -1)
    chain_gains = np.full((2, 2, tokens, longest + 1), -np.inf)
    units = np.full((tokens, longest + 1), -1)
    units[starts, lengths] = np.arange(len(stretches))
    for top in (INTENTS, SLOTS):
        for bottom in (INTENTS, SLOTS):
            some = np.flatnonzero((tops == top) & (bottoms == bottom))
            if len(some):
                best = values[:, some].argmax(1)
                chains[top, bottom, starts, lengths] = some[best]
                chain_gains[top, bottom, starts, lengths] = values[np.arange(len(values)), some[best]]
    splits, nodes, forests = _fill(chain_gains)

    found: list[tuple[int, int]] = []
    # The leftmost last, so that it is taken first.
    open_ = [(SLOTS, start, length, True) for start, length in _row(forests[SLOTS])]
    while open_:
        kind, start, length, may_be_node = open_.pop()
        bottom = nodes[kind, start, length] if may_be_node else -1
        split = splits[kind, start, length]
        if bottom >= 0:
            found.append((int(units[start, length]), int(chains[kind, bottom, start, length])))
            open_.append((1 - bottom, start, length, False))
        elif split:
            open_.append((kind, start + split, length - split, True))
            open_.append((kind, start, split, True))
    return found


def _fill(
    chain_gains: NDArray[np.float64],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Fill the chart.

    Args:
        chain_gains: `[2, 2, n, L + 1]`: top and bottom, first token, length.

    Returns:
        For each kind, first token and length: where the forest is split (0: it is empty), the bottom of
        the node that covers all of it (−1: none), and what it gains, F.
    """
    _, _, tokens, lengths = chain_gains.shape
    forests = np.zeros((2, tokens, lengths))
    splits = np.zeros((2, tokens, lengths), np.intp)
    nodes = np.full((2, tokens, lengths), -1)
    for length in range(1, lengths):
        start = np.arange(tokens - length + 1)
        apart = np.zeros((2, len(start)))
        if length > 1:
            i, m = start[:, None], np.arange(1, length)[None, :]
            sums = forests[:, i, m] + forests[:, i + m, length - m]
            apart = np.maximum(0.0, sums.max(2))
            splits[:, start, length] = np.where(apart > 0, sums.argmax(2) + 1, 0)
        # inside[top, bottom]: a chain, and below it a forest of what its bottom is not.
        inside = chain_gains[:, :, start, length] + apart[None, ::-1]
        whole = inside.max(1)
        nodes[:, start, length] = np.where(whole > apart, inside.argmax(1), -1)
        forests[:, start, length] = np.maximum(apart, whole)
    return splits, nodes, forests


def _row(forests: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the best forests side by side that cover all tokens, the last first: (first token, length).

    Args:
        forests: `[n, L + 1]`, what a forest gains for its first token and length.
    """
    tokens, longest = forests.shape[0], forests.shape[1] - 1
    gains, last = np.zeros(tokens + 1), np.zeros(tokens + 1, np.intp)
    for end in range(1, tokens + 1):
        lengths = np.arange(1, min(end, longest) + 1)
        sums = gains[end - lengths] + forests[end - lengths, lengths]
        gains[end], last[end] = sums.max(), lengths[sums.argmax()]
    found = []
    while tokens:
        found.append((int(tokens - last[tokens]), int(last[tokens])))
        tokens -= int(last[tokens])
    return found
