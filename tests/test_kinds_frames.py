"""Frames: an intent for the text and slots in it."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_tokens import WIDTH, TinyTokens

from metaglot.encoders import JoinedEncoder, load_encoder
from metaglot.encoders.ngrams import NgramEncoder
from metaglot.errors import SettingsError
from metaglot.kinds.bio import first_fault, tags_of
from metaglot.kinds.frames import Frames, is_tag
from metaglot.kinds.tagging import Tagging
from metaglot.types import Answer, Example, Span

TINY = TinyTokens()
BOTH = JoinedEncoder([TINY, NgramEncoder(2048)])
KIND = Frames()
WAKE = Example(
    "1",
    "wake me at six",
    "alarm",
    "eng",
    spans=(Span(8, 14, "time"),),
    tokens=((0, 4), (5, 7), (8, 10), (11, 14)),
)
PLAY = Example("2", "play jazz", "play", "eng", spans=(Span(5, 9, "alarm"),))
LABELS = ["B-alarm", "B-time", "I-alarm", "I-time", "O", "intent:alarm", "intent:play"]


def test_intents_and_slots_of_one_name_are_apart():
    assert KIND.count_labels([WAKE, PLAY]) == {
        **{"intent:alarm": 1, "intent:play": 1, "O": 2},
        **{"B-time": 1, "I-time": 1, "B-alarm": 1, "I-alarm": 0},
    }
    assert sorted(KIND.count_labels([WAKE, PLAY])) == LABELS


def test_the_text_is_the_first_unit_and_tokens_follow():
    units = KIND.encode(TINY, [WAKE, PLAY], description="")
    assert units.places[0] == ((0, 14), *WAKE.tokens)
    assert units.places[1] == ((0, 9), (0, 3), (3, 4), (5, 8), (8, 9))
    assert KIND.targets(WAKE, units.places[0], LABELS) == ["intent:alarm", "O", "O", "B-time", "I-time"]
    assert KIND.targets(PLAY, units.places[1], LABELS) == ["intent:play", "O", "O", "B-alarm", "I-alarm"]


def test_a_text_without_an_intent_has_nothing_to_learn_for_it():
    bare = Example("3", "hm", "", "eng")
    assert KIND.targets(bare, ((0, 2), (0, 2)), LABELS) == ["", "O"]
    assert set(KIND.count_labels([bare])) == {"O"}


def test_the_units_of_texts_and_tokens_are_orthogonal_and_tokens_are_taggings():
    examples = [WAKE, Example("0", "", "play", "eng"), PLAY]
    found = KIND.encode(BOTH, examples, description="")
    starts = np.cumsum([0, *(len(places) for places in found.places)])[:-1]
    of_text = np.isin(np.arange(sum(map(len, found.places))), starts)
    assert {name: block.shape[1] for name, block in found.inputs.items()} == dict(KIND.blocks(BOTH))
    for name, block in found.inputs.items():
        rows = block.astype(float)
        assert block.dtype == np.float16
        assert len(rows) == len(of_text)
        assert not rows[~of_text if name.endswith(":text") else of_text].any()
    tagging = Tagging().encode(BOTH, examples, description="").inputs
    assert all((found.inputs[name][~of_text] == block).all() for name, block in tagging.items())
    assert KIND.lexical(BOTH) == {"ngrams:2048:text", "ngrams:2048:tokens"}
    assert KIND.lexical(TINY) == frozenset()


def test_a_texts_features_are_the_means_of_two_layers_of_length_one_from_one_pass():
    encoder = TinyTokens(6)
    row = KIND.encode(encoder, [WAKE], description="").inputs["tiny:text"][0].astype(float)
    assert encoder.asked == [(2, 4, -1)]
    means = TINY.token_states([WAKE.text], (4, -1))[0].states.astype(float).mean(0).reshape(2, WIDTH)
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    assert np.allclose(row.reshape(2, WIDTH), expected, atol=2e-3)


def test_each_unit_chooses_among_its_own_labels():
    scores = torch.tensor(
        [
            [9, 9, 9, 9, 9, 1, 2.0],  # the text: play, though tags score higher
            [0, 0, 0, 0, 1, 9, 9],
            [0, 0, 0, 0, 1, 9, 9],
            [0, 2, 0, 3, 0, 9, 9],
            [0, 0, 0, 3, 0, 9, 9],
        ]
    )
    places = ((0, 14), *WAKE.tokens)
    assert KIND.decode(scores, WAKE, places, LABELS) == Answer("play", (Span(8, 14, "time"),))


@pytest.mark.parametrize(
    ("labels", "answer"),
    [
        (["B-x", "I-x", "O"], Answer("", ())),
        (["intent:a", "intent:b"], Answer("a", ())),
    ],
)
def test_an_inventory_may_lack_intents_or_tags(labels, answer):
    scores = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])[:, : len(labels)]
    assert KIND.decode(scores, PLAY, ((0, 9), (0, 4)), labels) == answer


@given(st.integers(0, 2**32), st.integers(0, 8))
def test_any_scores_give_one_intent_and_well_formed_slots(seed, length):
    text = " ".join("ab" for _ in range(length))
    places = [m.span() for m in re.finditer(r"\S+", text)]
    scores = torch.from_numpy(np.random.default_rng(seed).normal(size=(length + 1, len(LABELS))) * 3)
    answer = KIND.decode(scores, Example("1", text, "", "eng"), ((0, len(text)), *places), LABELS)
    assert answer.label in {"alarm", "play"}
    assert all(a.end <= b.start for a, b in itertools.pairwise(answer.spans))
    assert first_fault(tags_of(answer.spans, places)) is None
    assert {(s.start, s.end) for s in answer.spans} <= {
        (a[0], b[1]) for a, b in itertools.combinations_with_replacement(places, 2)
    }


def test_a_frame_is_right_where_all_of_it_is():
    answers = [Answer("alarm", WAKE.spans), Answer("play", ())]
    assert KIND.judge([WAKE, PLAY], answers) == {
        "frame_accuracy": 0.5,
        "intent_accuracy": 1.0,
        "slot_f1": 2 / 3,
    }
    wrong = [Answer("play", WAKE.spans), Answer("play", PLAY.spans)]
    assert KIND.judge([WAKE, PLAY], wrong) == {
        "frame_accuracy": 0.5,
        "intent_accuracy": 0.5,
        "slot_f1": 1.0,
    }


def test_what_a_label_is_for():
    assert [is_tag(label) for label in LABELS] == [True] * 5 + [False] * 2


def test_no_examples_and_empty_texts_are_no_trouble():
    assert KIND.encode(BOTH, [], description="").places == ()
    empty = KIND.encode(BOTH, [Example("0", "", "x", "eng")], description="")
    assert empty.places == (((0, 0),),)
    assert all(len(block) == 1 and not block.any() for block in empty.inputs.values())
    assert KIND.decode(torch.zeros(1, 7), Example("0", "", "", "eng"), ((0, 0),), LABELS).spans == ()


def test_an_encoder_without_token_states_is_refused_by_name():
    with pytest.raises(SettingsError, match="'frames' needs an encoder"):
        KIND.blocks(NgramEncoder(64))


@pytest.mark.e5
def test_the_embedded_encoder_tells_texts_apart_by_their_meaning():
    encoder = load_encoder("e5-small", dtype="float32", cache=False)
    texts = ["wake me up at six", "set an alarm for seven", "play some jazz"]
    found = KIND.encode(encoder, [Example(t, t, "", "eng") for t in texts], description="")
    starts = np.cumsum([0, *(len(places) for places in found.places)])[:-1]
    wake, alarm, jazz = found.inputs["e5-small:text"][starts].astype(float)
    assert wake @ alarm > max(wake @ jazz, alarm @ jazz)
    assert found.inputs["e5-small:text"].shape[1] == 768
