"""Parsing: stretches as units, chains of nodes as labels, trees whatever the scores."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_tokens import WIDTH, TinyTokens

from metaglot.encoders import JoinedEncoder
from metaglot.encoders.ngrams import NgramEncoder
from metaglot.errors import SettingsError
from metaglot.kinds.features import SHAPES
from metaglot.kinds.parsing import LEXICAL_WIDTH, LONGEST, Parsing, stretches
from metaglot.kinds.trees import read_tree, well_formed
from metaglot.types import Answer, Example, Span

TINY = TinyTokens()
KIND = Parsing()


def example(text, brackets="", tokens=()):
    return Example(text, text, "", "eng", spans=read_tree(text, brackets) if brackets else (), tokens=tokens)


CALL = example(
    "Call my Mum now", "[IN:CALL [SL:WHO [IN:FIND [SL:OWNER my ] [SL:RELATION Mum ] ] ] [SL:WHEN now ] ]"
)
AUNT = example("call auntie", "[IN:CALL [SL:WHO [IN:FIND [SL:RELATION auntie ] ] ] ]")
STOP = example("stop", "[IN:STOP ]")


def units(*examples, encoder=TINY):
    return KIND.encode(encoder, examples, description="encoding")


def certain(wanted, labels):
    """Scores that give each unit its wanted label."""
    return torch.tensor([[0.0 if label == name else -9.0 for label in labels] for name in wanted])


def test_counts_intents_chains_and_nothing_by_example():
    assert KIND.count_labels([CALL, AUNT, STOP]) == {
        "": 3,
        "IN:CALL": 2,
        "IN:STOP": 1,
        "SL:WHO>IN:FIND": 1,
        "SL:WHO>IN:FIND>SL:RELATION": 1,
        "SL:OWNER": 1,
        "SL:RELATION": 1,
        "SL:WHEN": 1,
    }


def test_units_are_the_text_and_its_stretches_of_words():
    (places,) = units(example("so, go")).places
    text = "so, go"
    assert [text[a:b] for a, b in places] == ["so, go", "so", "so,", "so, go", ",", ", go", "go"]


def test_the_data_s_tokens_come_first():
    (places,) = units(example("abc", tokens=((0, 1), (1, 3)))).places
    assert places == ((0, 3), (0, 1), (0, 3), (1, 3))


@pytest.mark.parametrize("tokens", [0, 1, LONGEST, LONGEST + 4])
def test_stretches_are_bounded(tokens):
    found = stretches(tokens)
    lengths = found[:, 1] - found[:, 0]
    assert len({tuple(pair) for pair in found.tolist()}) == len(found)
    assert not len(found) or (lengths.min() == 1 and lengths.max() == min(tokens, LONGEST))
    assert len(found) == sum(max(0, tokens - length + 1) for length in range(1, LONGEST + 1))


def test_ten_tokens_have_sixty_units_at_most():
    assert len(stretches(10)) + 1 <= 60


def test_targets_are_chains_of_the_nodes_that_cover_one_stretch():
    (places,) = units(AUNT).places
    wanted = KIND.targets(AUNT, places, KIND.count_labels([AUNT]))
    assert wanted == ["IN:CALL", "", "", "SL:WHO>IN:FIND>SL:RELATION"]


def test_a_slot_over_all_the_text_is_apart_from_the_root():
    all_of_it = example("jazz", "[IN:PLAY [SL:GENRE jazz ] ]")
    (places,) = units(all_of_it).places
    labels = sorted(KIND.count_labels([all_of_it]))
    wanted = KIND.targets(all_of_it, places, labels)
    assert wanted == ["IN:PLAY", "SL:GENRE"]
    assert KIND.decode(certain(wanted, labels), all_of_it, places, labels).spans == all_of_it.spans


def test_an_example_without_a_tree_has_units_without_labels():
    (places,) = units(example("call me")).places
    assert set(KIND.targets(example("call me"), places, ())) == {""}


@pytest.mark.parametrize("case", [CALL, AUNT, STOP])
def test_targets_decode_to_the_tree(case):
    labels = sorted(KIND.count_labels([CALL, AUNT, STOP]))
    (places,) = units(case).places
    answer = KIND.decode(certain(KIND.targets(case, places, labels), labels), case, places, labels)
    assert answer.spans == case.spans


def test_scores_count_against_nothing_s():
    labels = ["", "IN:STOP", "SL:X"]
    (places,) = units(STOP).places
    for gain, nodes in ((0.1, 2), (-0.1, 1)):
        scores = torch.tensor([[0.0, 0.0, 9.0], [5.0, 9.0, 5.0 + gain]])
        answer = KIND.decode(scores, STOP, places, labels)
        assert len(answer.spans) == nodes
        assert answer.spans[0] == Span(0, 4, "IN:STOP")


LABELS = ["", "IN:A", "IN:B", "SL:X", "SL:Y>IN:A", "SL:X>IN:B>SL:Y", "IN:A>SL:X", "SL:X>SL:Y", "other"]
EXTREMES = [0.0, -1.0, 1.0, 1e-30, 1e38, -1e38, float("inf"), float("-inf"), float("nan")]


@given(
    st.text(alphabet="ab ,é\tน", max_size=24),
    st.integers(0, 10**6),
    st.sets(st.sampled_from(LABELS)).map(lambda some: sorted(some | {"IN:A"})),
    st.booleans(),
)
def test_any_scores_give_a_well_formed_tree(text, seed, labels, extreme):
    case = example(text)
    (places,) = units(case).places
    rng = np.random.default_rng(seed)
    size = (len(places), len(labels))
    scores = rng.choice(EXTREMES, size) if extreme else rng.normal(0, 3, size)
    answer = KIND.decode(torch.tensor(scores), case, places, labels)
    assert well_formed(answer.spans) == ""
    assert {(s.start, s.end) for s in answer.spans} <= set(places)


def test_without_an_intent_there_is_no_tree():
    (places,) = units(STOP).places
    assert KIND.decode(torch.zeros(2, 2), STOP, places, ["", "SL:X"]) == Answer()


# Features


def test_features_have_the_blocks_that_are_promised():
    encoder = JoinedEncoder([TINY, NgramEncoder()])
    assert KIND.blocks(encoder) == {
        "tiny:stretches": 3 * (WIDTH + SHAPES) + LONGEST,
        "tiny:text": WIDTH,
        "ngrams:stretches": LEXICAL_WIDTH,
    }
    assert KIND.lexical(encoder) == {"ngrams:stretches"}
    assert KIND.lexical(TINY) == set()
    found = units(CALL, example(""), AUNT, encoder=encoder)
    total = sum(map(len, found.places))
    for name, width in KIND.blocks(encoder).items():
        assert found.inputs[name].shape == (total, width)
        assert found.inputs[name].dtype == np.float16
        assert np.isfinite(found.inputs[name]).all()
    assert np.linalg.norm(found.inputs["ngrams:stretches"].astype(np.float32), axis=1).max() < 1.001


@pytest.mark.parametrize("texts", [[], [""], ["", " "], ["", "go", ""]])
def test_texts_without_words_and_no_texts_are_encoded(texts):
    found = units(*map(example, texts), encoder=JoinedEncoder([TINY, NgramEncoder()]))
    assert len(found.places) == len(texts)
    assert {len(block) for block in found.inputs.values()} == {sum(map(len, found.places))}


def test_the_text_s_unit_and_those_of_stretches_have_blocks_of_their_own():
    found = units(CALL, AUNT)
    roots = np.zeros(len(found.inputs["tiny:text"]), bool)
    roots[[0, len(found.places[0])]] = True
    assert (found.inputs["tiny:text"].any(1) == roots).all()
    assert (found.inputs["tiny:stretches"].any(1) == ~roots).all()
    np.testing.assert_allclose(
        found.inputs["tiny:text"][roots], TINY.encode([CALL.text, AUNT.text])["tiny"], rtol=1e-2, atol=1e-3
    )


def test_dense_features_are_the_inside_and_what_changes_at_the_edges():
    text = "a b c"
    (places,) = units(example(text)).places
    rows = units(example(text)).inputs["tiny:stretches"].astype(np.float32)
    own = TINY.token_states([text], (4,))[0].states.astype(np.float32)
    own -= own.mean(0)
    width = WIDTH
    whole, first = places.index((0, 5), 1), places.index((0, 3))
    pitch = width + SHAPES
    np.testing.assert_allclose(rows[first][:width], own[:2].mean(0), atol=2e-2)
    np.testing.assert_allclose(rows[first][pitch : pitch + width], own[0], atol=2e-2)  # nothing before
    np.testing.assert_allclose(rows[first][2 * pitch : 2 * pitch + width], own[1] - own[2], atol=2e-2)
    np.testing.assert_allclose(rows[whole][:width], 0, atol=2e-2)
    assert rows[first][3 * pitch :].tolist() == [0, 1, *[0] * (LONGEST - 2)]


def test_n_grams_tell_inside_before_and_after_apart():
    encoder = JoinedEncoder([TINY, NgramEncoder()])
    text = "call auntie today"
    found = units(example(text), encoder=encoder)
    rows = found.inputs["ngrams:stretches"].astype(np.float32)
    quarter = LEXICAL_WIDTH // 4
    at = {text[a:b]: row for (a, b), row in zip(found.places[0][1:], rows[1:], strict=True)}
    assert not at["call"][2 * quarter : 3 * quarter].any()
    assert at["call"][3 * quarter :].any()
    assert not at["today"][3 * quarter :].any()
    np.testing.assert_allclose(at["call auntie"][3 * quarter :], at["auntie"][3 * quarter :])
    assert not np.allclose(at["call auntie"][: 2 * quarter], at["auntie"][: 2 * quarter])


def test_an_encoder_without_token_states_is_refused():
    with pytest.raises(SettingsError, match="'parsing' needs an encoder with states of single tokens"):
        KIND.blocks(NgramEncoder())


def test_examples_are_encoded_alike_alone_and_together():
    together, alone = units(CALL, AUNT), units(AUNT)
    for name, block in alone.inputs.items():
        assert (together.inputs[name][-len(block) :] == block).all()


# Scores


def test_judges_whole_trees_and_nodes():
    spans = CALL.spans
    less = Answer(spans=spans[:-1])
    judged = KIND.judge([CALL, STOP], [less, Answer(spans=STOP.spans)])
    assert judged["exact_match"] == 0.5
    right = len(spans)
    assert judged["tree_f1"] == pytest.approx(2 * right / (2 * right + 1))
    assert KIND.metrics == tuple(judged)


def test_learns_a_small_grammar():
    """What a least-squares head learns of some trees holds for new words in their places."""
    names, verbs = ["Ann", "Bob", "Cid", "Dora"], {"call": "IN:CALL", "text": "IN:TEXT"}

    def command(verb, name, when):
        tail = f" at {when}" if when else ""
        slot = f" [SL:WHEN at {when} ]" if when else ""
        return example(f"{verb} {name}{tail}", f"[{verbs[verb]} [SL:WHO {name} ]{slot} ]")

    cases = [command(v, n, w) for v in verbs for n in names for w in ("", "noon", "six")]
    labels = sorted(KIND.count_labels(cases))
    encoder = JoinedEncoder([TINY, NgramEncoder()])
    held_out = cases[::5]
    train = [case for case in cases if case not in held_out]

    def features(some):
        found = units(*some, encoder=encoder)
        blocks = [block.astype(np.float32) for block in found.inputs.values()]
        return np.concatenate([*blocks, np.ones((len(blocks[0]), 1))], 1), found.places

    x, places = features(train)
    wanted = [t for case, p in zip(train, places, strict=True) for t in KIND.targets(case, p, labels)]
    y = np.eye(len(labels))[[labels.index(t) for t in wanted]]
    weights = x.T @ np.linalg.solve(x @ x.T + 0.1 * np.eye(len(x)), y)
    x, places = features(held_out)
    scores = torch.from_numpy(x @ weights).split([len(p) for p in places])
    answers = [KIND.decode(s, c, p, labels) for s, c, p in zip(scores, held_out, places, strict=True)]
    judged = KIND.judge(held_out, answers)
    assert judged["tree_f1"] > 0.9, re.sub(r"\s+", " ", str(judged))
