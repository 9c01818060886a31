"""Spans as tags and back, and the decoder that only answers well-formed tags."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaglot.kinds.bio import first_fault, spans_of, tags_of, viterbi
from metaglot.types import Span

TOKENS = [(0, 4), (5, 7), (8, 12), (12, 13), (14, 20)]
LABELS = ["B-place", "B-time", "I-place", "I-time", "O"]


@pytest.mark.parametrize(
    ("spans", "tags"),
    [
        ([], ["O"] * 5),
        ([(5, 13, "x")], ["O", "B-x", "I-x", "I-x", "O"]),
        ([(0, 4, "x"), (5, 7, "x")], ["B-x", "B-x", "O", "O", "O"]),  # neighbours stay apart
        ([(8, 11, "x")], ["O", "O", "B-x", "O", "O"]),  # most of a token
        ([(8, 10, "x")], ["O"] * 5),  # not its middle
        ([(10, 12, "x")], ["O", "O", "B-x", "O", "O"]),
        ([(0, 12, "x"), (5, 7, "y")], ["B-x", "I-x", "I-x", "O", "O"]),  # the first has it
        ([(5, 7, "y"), (0, 12, "x")], ["B-x", "B-y", "B-x", "O", "O"]),  # and cuts the second in two
    ],
)
def test_a_token_belongs_to_the_span_that_holds_its_middle(spans, tags):
    assert tags_of([Span(*span) for span in spans], TOKENS) == tags


@pytest.mark.parametrize(
    ("tags", "place"),
    [
        (["O", "I-x"], 1),
        (["I-x"], 0),
        (["B-x", "I-y"], 1),
        (["B-x", "I-x", "O", "I-x"], 3),
        (["B-"], 0),
        (["x"], 0),
        (["B-x", "I-x", "B-x", "O"], None),
        ([], None),
    ],
)
def test_the_first_fault_is_found(tags, place):
    assert first_fault(tags) == place
    if place is not None:
        with pytest.raises(ValueError, match="expected O, B-x"):
            spans_of(tags, TOKENS[: len(tags)])


def test_tags_and_tokens_of_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        spans_of(["O"], TOKENS)


@st.composite
def tokens_and_spans(draw):
    cuts = sorted(draw(st.sets(st.integers(0, 60), min_size=2, max_size=16)))
    tokens = list(itertools.pairwise(cuts))
    inner = sorted(draw(st.sets(st.integers(0, len(tokens)), max_size=8)))
    spans = [
        Span(tokens[a][0], tokens[b - 1][1], draw(st.sampled_from("xyz")))
        for a, b in itertools.pairwise(inner)
        if draw(st.booleans())
    ]
    return tokens, spans


@given(tokens_and_spans())
def test_spans_of_whole_tokens_survive_the_way_there_and_back(case):
    tokens, spans = case
    assert list(spans_of(tags_of(spans, tokens), tokens)) == spans


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from("xyz")), max_size=6),
    st.lists(st.integers(0, 30), max_size=12),
)
def test_tags_of_any_spans_are_well_formed(spans, cuts):
    tokens = list(itertools.pairwise(sorted(cuts)))
    assert first_fault(tags_of([Span(*span) for span in spans], tokens)) is None


SMALL = st.integers(-3, 3)
EXTREME = st.floats(width=32)  # infinite, and no number at all


@st.composite
def any_scores(draw, values, longest, width):
    length = draw(st.integers(0, longest))
    flat = draw(st.lists(values, min_size=length * width, max_size=length * width))
    return np.array(flat, np.float32).reshape(length, width)


def sum_of(scores, path):
    return sum(scores[t, c] for t, c in enumerate(path))


def well_formed(path, labels):
    return first_fault([labels[c] for c in path]) is None


@given(any_scores(SMALL, 5, len(LABELS)))
def test_viterbi_finds_what_trying_all_finds(scores):
    path = viterbi(scores, LABELS)
    every = itertools.product(range(len(LABELS)), repeat=len(scores))
    best = max(sum_of(scores, p) for p in every if well_formed(p, LABELS))
    assert well_formed(path, LABELS)
    assert len(path) == len(scores)
    assert sum_of(scores, path) == best
    alone = scores.argmax(1).tolist() if len(scores) else []
    if well_formed(alone, LABELS):
        assert path == alone


@given(any_scores(EXTREME, 8, 6))
def test_viterbi_is_well_formed_for_any_scores_and_inventories_that_lack_a_beginning(scores):
    labels = ["I-a", "O", "B-b", "I-b", "I-c", "B-a"]
    assert well_formed(viterbi(scores, labels), labels)


def test_an_inventory_that_no_text_can_begin_with_is_an_error():
    with pytest.raises(ValueError, match="may stand first"):
        viterbi(np.zeros((2, 2)), ["I-x", "I-y"])
