"""The best tree over a text, given what each stretch of tokens gains as each node: CKY.

Intents and slots alternate, so a forest is of intents (inside a slot) or of slots (inside an intent). With
i the first token of a stretch, l its length, s(i, l, c) what a chain of nodes c gains there (its top and
its bottom are intents or slots), and k what a forest is of,

    G_k(i, l) = max(0, max_m F_k(i, m) + F_k(i + m, l − m))          no single node covers all
    F_k(i, l) = max(G_k(i, l), max_c s(i, l, c) + G_k′(i, l))        c begins with k, k′ ≠ its bottom

A stretch has one chain at most, for nodes that cover the same words are one chain. The best forest of
slots over all tokens is F_slot(0, n), found exactly in O(n³) steps, all stretches of a length at once.

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
    tokens = int(stretches[:, 1].max())
    starts, lengths = stretches[:, 0], stretches[:, 1] - stretches[:, 0]
    values = np.clip(np.nan_to_num(gains.astype(np.float64), nan=-_LARGEST), -_LARGEST, _LARGEST)
    # Of each stretch, top and bottom: the best chain, and what it gains.
    chains = np.full((2, 2, tokens, tokens + 1), -1)
    chain_gains = np.full((2, 2, tokens, tokens + 1), -np.inf)
    units = np.full((tokens, tokens + 1), -1)
    units[starts, lengths] = np.arange(len(stretches))
    for top in (INTENTS, SLOTS):
        for bottom in (INTENTS, SLOTS):
            some = np.flatnonzero((tops == top) & (bottoms == bottom))
            if len(some):
                best = values[:, some].argmax(1)
                chains[top, bottom, starts, lengths] = some[best]
                chain_gains[top, bottom, starts, lengths] = values[np.arange(len(values)), some[best]]
    splits, nodes = _fill(chain_gains, tokens)

    found: list[tuple[int, int]] = []
    forests = [(SLOTS, 0, tokens, True)]
    while forests:
        kind, start, length, may_be_node = forests.pop()
        bottom = nodes[kind, start, length] if may_be_node else -1
        split = splits[kind, start, length]
        if bottom >= 0:
            found.append((int(units[start, length]), int(chains[kind, bottom, start, length])))
            forests.append((1 - bottom, start, length, False))
        elif split:
            forests.append((kind, start + split, length - split, True))
            forests.append((kind, start, split, True))
    return found


def _fill(chain_gains: NDArray[np.float64], tokens: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where each forest is split (0: it is empty), and the bottom of the node it is (−1: none)."""
    forests = np.zeros((2, tokens, tokens + 1))
    splits = np.zeros((2, tokens, tokens + 1), np.intp)
    nodes = np.full((2, tokens, tokens + 1), -1)
    for length in range(1, tokens + 1):
        start = np.arange(tokens - length + 1)
        apart = np.zeros((2, len(start)))
        if length > 1:
            i, m = start[:, None], np.arange(1, length)[None, :]
            sums = forests[:, i, m] + forests[:, i + m, length - m]
            best = sums.argmax(2)
            apart = np.maximum(0.0, sums.max(2))
            splits[:, start, length] = np.where(apart > 0, best + 1, 0)
        # inside[top, bottom]: a chain, and below it a forest of what its bottom is not.
        inside = chain_gains[:, :, start, length] + apart[None, ::-1]
        whole = inside.max(1)
        nodes[:, start, length] = np.where(whole > apart, inside.argmax(1), -1)
        forests[:, start, length] = np.maximum(apart, whole)
    return splits, nodes
