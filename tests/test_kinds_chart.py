"""CKY over nodes against all forests of small texts."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaglot.kinds.chart import INTENTS, SLOTS, best_forest

TOPS = np.array([INTENTS, SLOTS, SLOTS, INTENTS])
BOTTOMS = np.array([INTENTS, SLOTS, INTENTS, SLOTS])


def all_stretches(tokens: int, longest: int | None = None) -> np.ndarray:
    longest = longest or tokens
    return np.array([(i, j) for i in range(tokens) for j in range(i + 1, min(tokens, i + longest) + 1)])


def is_forest(stretches: np.ndarray, nodes: list[tuple[int, int]]) -> bool:
    """Whether nodes are apart or inside one another, and intents and slots alternate, slots outermost."""
    for unit, chain in nodes:
        start, end = stretches[unit]
        around = []
        for other, its_chain in nodes:
            its_start, its_end = stretches[other]
            if other != unit and its_start < end and start < its_end:
                if its_start <= start and end <= its_end:
                    around.append((its_end - its_start, BOTTOMS[its_chain]))
                elif not (start <= its_start and its_end <= end):
                    return False
        outer = min(around)[1] if around else INTENTS
        if TOPS[chain] == outer:
            return False
    return True


def brute_force(stretches: np.ndarray, gains: np.ndarray) -> float:
    choices = range(-1, gains.shape[1])
    best = 0.0
    for picked in product(choices, repeat=len(stretches)):
        nodes = [(unit, chain) for unit, chain in enumerate(picked) if chain >= 0]
        total = sum(gains[unit, chain] for unit, chain in nodes)
        if total > best and is_forest(stretches, nodes):
            best = total
    return best


@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_is_the_best_of_all_forests(tokens, seed):
    stretches = all_stretches(tokens)
    gains = np.random.default_rng(seed).normal(-0.2, 1, (len(stretches), 4))
    nodes = best_forest(stretches, gains, TOPS, BOTTOMS)
    assert is_forest(stretches, nodes)
    assert sum(gains[node] for node in nodes) == pytest.approx(brute_force(stretches, gains))


@pytest.mark.parametrize("seed", range(3))
def test_is_the_best_where_long_stretches_are_no_units(seed):
    stretches = all_stretches(4, longest=2)
    gains = np.random.default_rng(seed).normal(-0.2, 1, (len(stretches), 2))
    nodes = best_forest(stretches, gains, TOPS[1:3], BOTTOMS[1:3])
    padded = np.full((len(stretches), 4), -np.inf)
    padded[:, 1:3] = gains
    assert is_forest(stretches, [(unit, chain + 1) for unit, chain in nodes])
    assert sum(gains[node] for node in nodes) == pytest.approx(brute_force(stretches, padded))


@given(st.integers(1, 7), st.integers(0, 10**6), st.sampled_from([1.0, 1e-300, 1e30, np.inf]))
@settings(max_examples=60, deadline=None)
def test_any_gains_give_a_forest_outer_nodes_first(tokens, seed, size):
    rng = np.random.default_rng(seed)
    stretches = all_stretches(tokens)
    gains = rng.choice([-1.0, -0.1, 0.1, 1.0], (len(stretches), 4)) * size
    nodes = best_forest(stretches, gains, TOPS, BOTTOMS)
    assert is_forest(stretches, nodes)
    order = [(stretches[unit][0], -stretches[unit][1]) for unit, _ in nodes]
    assert order == sorted(order)


def test_an_intent_alone_inside_the_root_is_never_taken():
    gains = np.array([[5.0, -1.0, -1.0, -1.0]])
    assert best_forest(np.array([(0, 1)]), gains, TOPS, BOTTOMS) == []


def test_a_bad_slot_is_taken_for_the_good_intent_inside():
    stretches = all_stretches(2)
    gains = np.full((3, 4), -9.0)
    gains[1, 1] = -1.0  # a slot over both tokens
    gains[0, 0] = 3.0  # an intent over the first
    assert best_forest(stretches, gains, TOPS, BOTTOMS) == [(1, 1), (0, 0)]


def test_nothing_and_not_a_number_are_no_nodes():
    stretches = all_stretches(3)
    assert best_forest(stretches, np.zeros((6, 4)), TOPS, BOTTOMS) == []
    assert best_forest(stretches, np.full((6, 4), np.nan), TOPS, BOTTOMS) == []
    assert best_forest(stretches[:0], np.zeros((0, 4)), TOPS, BOTTOMS) == []


@pytest.mark.parametrize(("tokens", "longest", "most"), [(15, 15, 0.02), (60, 60, 1.0), (3000, 8, 1.0)])
def test_takes_its_time_and_no_more(tokens, longest, most):
    stretches = all_stretches(tokens, longest)
    gains = np.random.default_rng(0).normal(0, 1, (len(stretches), 150))
    tops = np.arange(150) % 2
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        best_forest(stretches, gains, tops, 1 - tops)
        took.append(time.perf_counter() - begin)
    print(f"{tokens} tokens: {min(took) * 1e3:.1f} ms")
    assert min(took) < most
