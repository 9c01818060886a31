"""Tagging: units, schemes, features, decoding and scores."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_tokens import WIDTH, TinyTokens

from metaglot.encoders import JoinedEncoder, TokenEncoder, load_encoder
from metaglot.encoders.ngrams import NgramEncoder
from metaglot.errors import SettingsError
from metaglot.kinds.features import SHAPES, hashed, inner_layers, pooled, shapes
from metaglot.kinds.segmentation import pieces, runs, words
from metaglot.kinds.tagging import NEIGHBOURS, Tagging, span_f1
from metaglot.types import Answer, Example, Span

TINY = TinyTokens()
KIND = Tagging()


def example(text, spans=(), tokens=None, label=""):
    """An example; `tokens=None` cuts it at spaces, and spans are (words, label), found in the text."""
    found = [Span(text.index(words), text.index(words) + len(words), name) for words, name in spans]
    cut = [m.span() for m in re.finditer(r"\S+", text)] if tokens is None else tokens
    return Example(text, text, label, "eng", spans=tuple(found), tokens=tuple(cut))


SLOTS = [
    example("wake me at 6:48 tomorrow", [("6:48 tomorrow", "time")]),
    example("play jazz", [("jazz", "genre")]),
    example("stop it"),
]
SPEECH = [
    example("she sings", [("she", "PRON"), ("sings", "VERB")]),
    example("cats sleep", [("cats", "NOUN"), ("sleep", "VERB")]),
]


# What is a unit


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("saa 6:48, ok?", ["saa", "6:48", ",", "ok", "?"]),
        ("l'alarme d’Or", ["l", "'", "alarme", "d", "’", "Or"]),
        ("a_b 3.5% e\u0301t", ["a_b", "3.5", "%", "e\u0301t"]),
        ("  \n\t ", []),
        ("", []),
    ],
)
def test_words_are_cut_at_spaces_and_punctuation(text, found):
    assert [text[a:b] for a, b in runs(text)] == found


@pytest.mark.parametrize(
    ("text", "whole", "cut"),
    [
        ("wakati 10:30", ["wakati", "10:30"], ["wak", "ati", "10:", "30"]),
        ("เปิดไฟ", ["เปิ", "ดไฟ"], ["เปิ", "ดไฟ"]),
        ("打开卧室灯 ok then", ["打开卧", "室灯", "ok", "then"], ["打开卧", "室灯", "ok", "the", "n"]),
        ("กกกั", ["กกกั"], ["กกกั"]),  # a subword would begin with a vowel sign
        ("[x] y", ["[", "x", "]", "y"], ["[", "x", "]", "y"]),
    ],
)
def test_scripts_without_spaces_are_cut_at_subwords_and_pieces_everywhere(text, whole, cut):
    states = TINY.token_states([text])[0]
    assert [text[a:b] for a, b in words(text, states)] == whole
    assert [text[a:b] for a, b in pieces(text, states)] == cut


@given(st.text(max_size=30))
def test_any_text_is_cut_without_loss_or_overlap(text):
    states = TINY.token_states([text])[0]
    for cut in (words, pieces):
        places = cut(text, states)
        assert all(a < b for a, b in places)
        assert [p for pair in places for p in pair] == sorted(p for pair in places for p in pair)
        inside = {i for a, b in places for i in range(a, b)}
        assert all(text[i].isspace() for i in set(range(len(text))) - inside)


def test_the_datas_own_tokens_are_the_units():
    given_, cut = SLOTS[0], example("play jazz", tokens=())
    units = KIND.encode(TINY, [given_, cut, example("", tokens=())], description="")
    assert units.places == (given_.tokens, ((0, 3), (3, 4), (5, 8), (8, 9)), ())
    assert {name: block.shape for name, block in units.inputs.items()} == {
        "tiny:tokens": (9, 2 * WIDTH),
        "shape": (9, SHAPES),
    }


# Schemes


def test_slots_are_tagged_and_every_beginning_has_its_inside():
    count = KIND.count_labels(SLOTS)
    assert count == {"O": 3, "B-time": 1, "I-time": 1, "B-genre": 1, "I-genre": 0}
    assert set(count) == {"O", "B-time", "I-time", "B-genre", "I-genre"}
    assert KIND.targets(SLOTS[0], SLOTS[0].tokens, set(count)) == ["O", "O", "O", "B-time", "I-time"]


def test_one_label_a_token_is_plain():
    assert KIND.count_labels(SPEECH) == {"PRON": 1, "NOUN": 1, "VERB": 2}
    assert KIND.targets(SPEECH[0], SPEECH[0].tokens, {"PRON", "VERB"}) == ["PRON", "VERB"]


def test_a_plain_corpus_may_lack_a_label_here_and_there():
    lacking = example("x y", [("x", "NOUN")])
    assert "O" not in KIND.count_labels([*SPEECH * 4, lacking])
    assert KIND.targets(lacking, lacking.tokens, {"NOUN"}) == ["NOUN", ""]


def test_what_a_model_knows_tells_the_scheme():
    ambiguous = [example("jazz", [("jazz", "genre")])]
    assert set(KIND.count_labels(ambiguous)) == {"genre"}
    assert set(KIND.count_labels(ambiguous, ["O", "B-time", "I-time"])) == {"O", "B-genre", "I-genre"}
    assert set(KIND.count_labels(SLOTS, ["NOUN"])) == {"time", "genre"}


def test_nothing_has_no_labels():
    assert KIND.count_labels([]) == {}
    assert KIND.count_labels([example("stop it")]) == {"O": 1}


# Features


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8),
    st.lists(st.tuples(st.integers(0, 25), st.integers(1, 10)), min_size=1, max_size=6),
)
def test_pooling_is_the_mean_of_the_tokens_that_a_stretch_touches(steps, stretches):
    offsets, at = [], 0
    for gap, width in steps:
        offsets.append((at + gap, at + gap + width))
        at += gap + width
    values = np.arange(2.0 * len(offsets)).reshape(-1, 2) ** 2
    states = TINY.token_states([""])[0].__class__(
        values.astype(np.float16), np.array(offsets, np.int32).reshape(-1, 2)
    )
    places = [(start, start + width) for start, width in stretches]
    real = [(a, b, v) for (a, b), v in zip(offsets, values, strict=True) if a < b]
    for row, (start, end) in zip(pooled(states, places), places, strict=True):
        touched = [v for a, b, v in real if a < end and b > start]
        nearest = sorted(real, key=lambda t: abs(t[0] + t[1] - start - end))[:1]
        expected = np.mean(touched or [v for _, _, v in nearest] or [np.zeros(2)], axis=0)
        assert np.allclose(row, expected)


def test_how_a_token_is_written():
    text = "In KIGALI, 24 l'eau"
    found = shapes(text, runs(text)).astype(int).tolist()
    assert found == [
        [1, 0, 1, 0, 0, 0, 1, 0, 0],
        [0, 0, 1, 1, 1, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 1],
        [0, 1, 0, 0, 0, 0, 1, 0, 1],
    ]


def test_layers_are_taken_at_thirds_of_the_depth():
    assert inner_layers(TinyTokens(12)) == (4, 8)
    assert inner_layers(TinyTokens(2)) == (1, 1)
    assert inner_layers(TinyTokens(0)) == (-1, -1)
    encoder = TinyTokens(6)
    KIND.encode(encoder, SLOTS, description="")
    assert encoder.asked == [(2, 4)]


def test_folding_n_grams_keeps_equal_words_equal_and_rows_of_length_one():
    found = hashed(NgramEncoder(256), ["jazz", "", "rock", "jazz"], 64)
    assert found.shape == (4, 64)
    assert (found[0] == found[3]).all()
    assert not found[1].any()
    assert np.allclose(np.linalg.norm(found[[0, 2]].astype(float), axis=1), 1, atol=1e-3)
    assert hashed(NgramEncoder(64), ["a"], 1024).shape == (1, 64)
    assert hashed(NgramEncoder(64), [], 32).shape == (0, 32)


def test_blocks_are_what_encode_returns():
    encoder = JoinedEncoder([TINY, NgramEncoder(2048)])
    units = KIND.encode(encoder, SLOTS, description="")
    assert {n: b.shape[1] for n, b in units.inputs.items()} == dict(KIND.blocks(encoder))
    assert KIND.lexical(encoder) == {"ngrams:2048:tokens"}
    assert KIND.lexical(TINY) == frozenset()
    assert all(block.dtype == np.float16 and len(block) == 9 for block in units.inputs.values())


def test_a_piece_shares_its_words_n_grams_and_knows_its_cuts():
    encoder = JoinedEncoder([TINY, NgramEncoder(2048)])
    texts = [example(text, tokens=()) for text in ("wakati", "wak ati", "wakxxx")]
    rows = KIND.encode(encoder, texts, description="").inputs["ngrams:2048:tokens"].astype(float)
    own, before, after = rows[:, :512], rows[:, 512:768], rows[:, 768:]
    assert own[0] @ own[1] > own[2] @ own[3] + 0.2  # pieces of one word, and two words
    assert np.allclose(np.linalg.norm(own, axis=1), 1, atol=2e-3)
    assert (before[0] == before[2]).all()  # both begin a text
    assert (before[1] != before[3]).any()  # after "wak-", after "wak"
    assert (before[1] == before[5]).all()
    assert (after[1] == after[3]).all()
    assert np.allclose(np.linalg.norm(before, axis=1), NEIGHBOURS, atol=2e-3)


def test_half_of_a_pieces_states_are_its_words():
    (wak, ati), (alone, _) = (
        KIND.encode(TINY, [example(text, tokens=())], description="").inputs["tiny:tokens"]
        for text in ("wakati", "wak ati")
    )
    states = TINY.token_states(["wakati"], (2, 4))[0].states
    assert np.allclose(wak[:WIDTH], states[:, :WIDTH].mean(0), atol=2e-3)
    assert (wak[:WIDTH] == ati[:WIDTH]).all()
    assert (wak[WIDTH:] == states[0, WIDTH:]).all()
    assert (wak[WIDTH:] == alone[WIDTH:]).all()


def test_an_encoder_without_token_states_is_refused_by_name():
    with pytest.raises(SettingsError, match=r"'tagging' needs an encoder with states of single tokens"):
        KIND.blocks(NgramEncoder(64))


# Answers


def test_decoding_gives_the_spans_of_well_formed_tags():
    labels = ["B-time", "I-time", "O"]
    scores = torch.tensor([[0, 0, 5.0], [1, 3, 0], [0, 0, 5], [0, 2, 1], [0, 9, 0]])
    answer = KIND.decode(scores, SLOTS[0], SLOTS[0].tokens, labels)
    assert answer.spans == (Span(5, 7, "time"), Span(11, 24, "time"))


def test_decoding_plain_labels_gives_each_token_one():
    answer = KIND.decode(
        torch.tensor([[0.0, 1.0], [2.0, 1.0]]), SPEECH[0], SPEECH[0].tokens, ["NOUN", "VERB"]
    )
    assert answer.spans == (Span(0, 3, "VERB"), Span(4, 9, "NOUN"))


@pytest.mark.parametrize("labels", [["B-x", "I-x", "O"], ["NOUN", "VERB", "X"]])
def test_a_text_without_units_has_no_spans(labels):
    assert KIND.decode(torch.zeros(0, 3), example("", tokens=()), (), labels) == Answer()


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_right_scores_give_the_right_answer_back(seed, length):
    chance = np.random.default_rng(seed)
    text = " ".join("w" * int(n) for n in chance.integers(1, 5, length))
    tokens = tuple(m.span() for m in re.finditer(r"\S+", text))
    cuts = sorted({0, length, *chance.integers(0, length + 1, 4).tolist()})
    spans = tuple(
        Span(tokens[a][0], tokens[b - 1][1], str(chance.choice(["x", "y"])))
        for a, b in itertools.pairwise(cuts)
        if chance.random() < 0.6
    )
    case = Example("1", text, "", "eng", spans=spans, tokens=tokens)
    labels = ["B-x", "B-y", "I-x", "I-y", "O"]
    wanted = [labels.index(tag) for tag in KIND.targets(case, tokens, labels)]
    scores = torch.nn.functional.one_hot(torch.tensor(wanted), 5).float()
    answer = KIND.decode(scores, case, tokens, labels)
    assert answer.spans == spans
    assert KIND.judge([case], [answer]) == {"f1": 1.0, "accuracy": 1.0, "exact": 1.0}


def test_scores_count_spans_strictly_tokens_and_texts():
    wrong_end = Answer(spans=(Span(11, 15, "time"),))
    answers = [wrong_end, Answer(spans=(Span(5, 9, "genre"),)), Answer()]
    assert KIND.judge(SLOTS, answers) == {"f1": 0.5, "accuracy": 8 / 9, "exact": 2 / 3}


def test_of_plain_labels_f1_is_accuracy():
    answers = [
        Answer(spans=(Span(0, 3, "PRON"), Span(4, 9, "NOUN"))),
        Answer(spans=(Span(0, 4, "X"), Span(5, 10, "VERB"))),
    ]
    found = KIND.judge(SPEECH, answers)
    assert found == {"f1": 0.5, "accuracy": 0.5, "exact": 0.0}


def test_nothing_to_find_and_nothing_found_is_right():
    assert span_f1([example("stop it")], [Answer()]) == 1.0
    assert span_f1([example("stop it")], [Answer(spans=(Span(0, 4, "x"),))]) == 0.0
    assert KIND.judge([example("", tokens=())], [Answer()]) == {"f1": 1.0, "accuracy": 1.0, "exact": 1.0}


# Encoders


def test_encoders_say_how_many_layers_they_have():
    assert isinstance(TINY, TokenEncoder)
    assert JoinedEncoder([NgramEncoder(64), TINY]).layers == 6
    assert JoinedEncoder([NgramEncoder(64)]).layers == 0


@pytest.mark.e5
def test_the_embedded_encoder_cuts_malayalam_endings_and_thai():
    encoder = load_encoder("e5-small+ngrams", dtype="float32", cache=False)
    assert encoder.layers == 12
    texts = ["അടുക്കളയിലെ ലൈറ്റ്", "เปิดไฟห้องครัว", "wake me at 6:48"]
    units = KIND.encode(encoder, [example(text, tokens=()) for text in texts], description="")
    thai = [texts[1][a:b] for a, b in units.places[1]]
    assert "".join(thai) == texts[1]
    assert "ไฟ" in thai
    assert len(units.places[0]) > 2
    assert {n: b.shape[1] for n, b in units.inputs.items()} == {
        "e5-small:tokens": 768,
        "shape": SHAPES,
        "ngrams:tokens": 1024,
    }
