"""Pairs, and what kinds share whose examples are one unit."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import f1_score
from tests.tiny_tokens import WIDTH, TinyTokens

from metaglot.encoders import JoinedEncoder
from metaglot.encoders.ngrams import NgramEncoder
from metaglot.errors import DataError, SettingsError
from metaglot.kinds.classification import Classification
from metaglot.kinds.pairs import Pairs
from metaglot.kinds.single import macro_f1
from metaglot.types import Answer, Example

TINY = TinyTokens()
KIND = Pairs()
STATISTICS = 12  # of one direction in one layer: mean, deviation, 6 quantiles, 4 shares
SHARED = slice(3 * 2 * STATISTICS, None)
LABELS = st.sampled_from(["entailment", "neutral", "contradiction"])


def pair(first, second, label="", id_="1"):
    return Example(id_, first, label, "eng", pair=second)


def features(first, second, encoder=TINY):
    return {
        name.removeprefix("tiny:"): block[0].astype(np.float32)
        for name, block in KIND.encode(encoder, [pair(first, second)], description="").inputs.items()
    }


def test_blocks_are_as_wide_as_they_say_whatever_stands_beside_the_transformer():
    both = JoinedEncoder([NgramEncoder(64), TINY])
    found = KIND.encode(both, [pair("a b", "a"), pair("c", "d e")], description="")
    assert {name: block.shape for name, block in found.inputs.items()} == {
        name: (2, width) for name, width in KIND.blocks(both).items()
    }
    assert {block.dtype for block in found.inputs.values()} == {np.dtype(np.float16)}
    assert found.places == (((0, 3),), ((0, 1),))
    assert KIND.lexical(both) == frozenset()


def test_a_text_and_itself_match_and_leave_nothing():
    found = features("the cat sat", "the cat sat")
    assert found["apart"] == pytest.approx(0, abs=1e-2)
    assert found["unmatched"] == pytest.approx(0, abs=1e-2)
    assert found["together"] == pytest.approx(found["second"] ** 2, rel=1e-2)
    best = found["match"][: SHARED.start].reshape(6, STATISTICS)
    assert best[:, 0] == pytest.approx(1, abs=1e-2)  # the mean
    assert best[:, 1] == pytest.approx(0, abs=1e-2)  # the deviation
    assert best[:, 2:8] == pytest.approx(1, abs=1e-2)  # the quantiles
    assert (best[:, 8:] == 0).all()  # the shares of those who match badly
    assert (found["match"][SHARED][:8] == 1).all()


def test_unmatched_is_what_the_second_text_alone_says():
    first, second = TINY.token_states(["cat sat", "cat ran"], (4,))
    tokens = np.concatenate([first.states, second.states]).astype(np.float64)
    tokens -= tokens.mean(0)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    (_, _), (cat, ran) = tokens[:2], tokens[2:]
    wanted = (1 - (tokens[:2] @ ran).max()) * ran / 2
    assert tokens[0] == pytest.approx(cat)
    assert features("cat sat", "cat ran")["unmatched"] == pytest.approx(wanted, abs=2e-3)


def test_shared_words_ngrams_and_numbers_are_counted():
    found = features("We saw 12 cats.", "WE SAW 13")["match"][SHARED]
    names = ["2-grams", "3-grams", "4-grams", "words"]
    first, second = dict(zip(names, found[:8:2], strict=True)), dict(zip(names, found[1:8:2], strict=True))
    # " we ", " saw ", " 12 ", " cats ": 3 + 4 + 3 + 5 stretches of 2; shared are 3 + 4 + " 1".
    assert first["2-grams"] == pytest.approx(8 / 15, abs=1e-3)
    assert second["2-grams"] == pytest.approx(8 / 10, abs=1e-3)
    assert first["words"] == pytest.approx(2 / 4)
    assert second["words"] == pytest.approx(2 / 3, abs=1e-3)
    assert found[8:10].tolist() == [1, 1]  # a number that only the second has, and only the first
    assert found[10:] == pytest.approx([np.log(16), np.log(10), np.log(10) - np.log(16)], abs=1e-2)


def test_which_text_is_first_counts():
    here, there = features("a dog ran home", "a dog ran"), features("a dog ran", "a dog ran home")
    for name in ("apart", "together"):
        assert here[name] == pytest.approx(there[name], abs=1e-2)
    for name in ("second", "unmatched", "match"):
        assert np.abs(here[name] - there[name]).max() > 0.05, name


def test_an_example_does_not_depend_on_those_beside_it():
    alone = features("a dog ran home", "a dog ran")
    beside = KIND.encode(TINY, [pair("x y", "z"), pair("a dog ran home", "a dog ran")], description="")
    for name, block in alone.items():
        assert (beside.inputs.get(f"tiny:{name}", beside.inputs.get(name))[1] == block).all()


def test_a_text_of_several_pairs_is_encoded_once():
    class Counting(TinyTokens):
        def token_states(self, texts, layers=(-1,), *, description="encoding"):
            self.texts = list(texts)
            return super().token_states(texts, layers, description=description)

    encoder = Counting()
    KIND.encode(encoder, [pair("a b", "c"), pair("a b", "d"), pair("d", "a b")], description="")
    assert sorted(encoder.texts) == ["a b", "c", "d"]
    assert encoder.asked == [(2, 4, -1)]


@given(st.text(max_size=30), st.text(max_size=30).filter(str.strip))
def test_features_are_finite_whatever_the_texts(first, second):
    for name, block in features(first, second).items():
        assert np.isfinite(block).all(), name


def test_texts_without_a_token_are_zeros_but_for_their_characters():
    found = features("[unreadable]", "[other]")
    for name in ("second", "apart", "together", "unmatched"):
        assert (found[name] == 0).all()
    assert (found["match"][: SHARED.start] == 0).all()


def test_what_follows_is_learned_in_one_language_and_known_in_another():
    chance = random.Random(0)

    def examples(language):
        words = [f"{language}{n}" for n in range(100, 400)]
        for label in ("no", "yes") * 40:
            first = chance.sample(words, 8)
            second = chance.sample(first, 3) if label == "yes" else [*first[:1], *chance.sample(words, 2)]
            yield pair(" ".join(first), " ".join(second), label)

    def rows(language):
        found = list(examples(language))
        blocks = KIND.encode(TINY, found, description="").inputs
        return blocks["match"].astype(np.float32), [e.label for e in found]

    head = RidgeClassifier().fit(*rows("a"))
    assert head.score(*rows("b")) > 0.95


@pytest.mark.parametrize("second", ["", "  \n"])
def test_a_pair_without_a_second_text_is_refused_by_its_id(second):
    with pytest.raises(DataError, match=r"'pair': expected two texts, .* example 'x7'"):
        KIND.encode(TINY, [pair("a", "b"), pair("a", second, id_="x7")], description="")


def test_an_encoder_without_token_states_is_refused_by_name():
    for use in (KIND.blocks, lambda e: KIND.encode(e, [pair("a", "b")], description="")):
        with pytest.raises(SettingsError, match=r"'pairs' needs .* 'ngrams:64' has none"):
            use(NgramEncoder(64))


def test_one_unit_has_the_examples_label_and_the_highest_score_answers():
    examples = [pair("a", "b", "yes"), pair("c", "d", "no"), pair("e", "f", "yes")]
    assert KIND.count_labels(examples) == {"yes": 2, "no": 1}
    assert KIND.targets(examples[1], ((0, 1),), ("no", "yes")) == ["no"]
    scores = torch.tensor([[0.1, 0.7, 0.7]])
    assert KIND.decode(scores, examples[0], ((0, 1),), ("a", "b", "c")) == Answer("b")


@pytest.mark.parametrize("kind", [KIND, Classification()])
def test_answers_are_judged_by_accuracy_and_macro_f1(kind):
    examples = [pair("a", "b", label) for label in ("yes", "yes", "yes", "no")]
    answers = [Answer(label) for label in ("yes", "yes", "no", "never")]
    found = kind.judge(examples, answers)
    assert tuple(found) == kind.metrics
    # yes: 2·2 / (3 + 2); no: right never, said once, true once; never: said once.
    assert found == {"accuracy": pytest.approx(1 / 2), "macro_f1": pytest.approx(4 / 5 / 3)}


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=20))
def test_macro_f1_is_scikit_learns(found):
    wanted, given_ = zip(*found, strict=True)
    assert macro_f1(found) == pytest.approx(f1_score(wanted, given_, average="macro", zero_division=0.0))


def test_the_widths_are_the_encoders():
    assert KIND.blocks(TINY)["tiny:second"] == WIDTH
