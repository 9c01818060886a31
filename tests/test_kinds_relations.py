"""Relations: two entities of a text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from tests.tiny_tokens import WIDTH, TinyTokens

from metaglot.encoders import JoinedEncoder
from metaglot.encoders.ngrams import NgramEncoder
from metaglot.errors import DataError, SettingsError
from metaglot.kinds.relations import Relations, entities_of, relation_of
from metaglot.types import Answer, Example, Span

TINY = TinyTokens()
NGRAMS = NgramEncoder(2048)
BOTH = JoinedEncoder([TINY, NGRAMS])
KIND = Relations()
TEXT = "Ada Lovelace was the daughter of Byron , they say"
ADA, BYRON = (0, 12), (33, 38)


def example(first=ADA, second=BYRON, text=TEXT, label="parent(e2,e1)", more=(), id_="1"):
    return Example(id_, text, label, "eng", spans=(*more, Span(*first, "e1"), Span(*second, "e2")))


def encode(*examples):
    return {n.removeprefix("tiny:"): b for n, b in KIND.encode(TINY, examples, description="").inputs.items()}


def mean(*strings):
    return np.mean([TINY.token_states([s], (2, 4))[0].states.astype(float) for s in strings], axis=0).mean(0)


def test_blocks_are_as_wide_as_they_say():
    for encoder in (TINY, BOTH):
        found = KIND.encode(encoder, [example(), example(BYRON, ADA)], description="")
        assert {n: b.shape for n, b in found.inputs.items()} == {
            n: (2, width) for n, width in KIND.blocks(encoder).items()
        }
        assert {block.dtype for block in found.inputs.values()} == {np.dtype(np.float16)}
        assert found.places == (((0, len(TEXT)),),) * 2
    assert KIND.lexical(BOTH) == frozenset()
    assert KIND.blocks(TINY) == {
        "tiny:first": 2 * WIDTH,
        "tiny:second": 2 * WIDTH,
        "tiny:between": 4 * WIDTH,
    }


def test_features_are_the_mean_states_of_entities_and_of_what_is_between():
    found = encode(example())
    tokens = TINY.token_states([TEXT], (2, 4))[0].states.astype(float)
    assert found["first"][0] == pytest.approx(tokens[:4].mean(0), abs=2e-3)  # Ada Lov ela ce
    assert found["second"][0] == pytest.approx(mean("Byr", "on"), abs=2e-3)
    between = mean("was", "the", "dau", "ght", "er", "of") - tokens.mean(0)
    assert found["between"][0] == pytest.approx(np.concatenate([between, 0 * between]), abs=2e-3)


def test_the_order_of_the_entities_counts_and_not_that_of_the_spans():
    here, there = encode(example()), encode(example(BYRON, ADA))
    assert (here["first"] == there["second"]).all()
    assert (here["second"] == there["first"]).all()
    half = 2 * WIDTH
    assert (here["between"][:, :half] == there["between"][:, half:]).all()
    assert (there["between"][:, :half] == 0).all()
    assert not (here["first"] == there["first"]).any()
    reversed_ = Example("1", TEXT, "", "eng", spans=example().spans[::-1])
    assert all((here[name] == block).all() for name, block in encode(reversed_).items())


def test_neither_label_nor_other_spans_are_looked_at():
    other = encode(example(label="x", more=(Span(17, 20, "trigger"),)))
    assert all((block == other[name]).all() for name, block in encode(example()).items())


@pytest.mark.parametrize("text", ["Ada Byron", "AdaByron"])
def test_between_entities_side_by_side_is_nothing(text):
    found = encode(example((0, 3), (len(text) - 5, len(text)), text))
    assert (found["between"] == 0).all()
    assert (found["first"] != 0).all()


def test_an_entity_that_no_token_touches_has_the_nearest_tokens_state():
    found = encode(example((0, 3), (4, 11), "Ada [Byron] on"))
    assert found["second"][0] in (pytest.approx(mean("Ada"), abs=2e-3), pytest.approx(mean("on"), abs=2e-3))


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ((), "expected one entity 'e1', found none in the example 'x7'"),
        ((Span(0, 3, "e1"),), "expected one entity 'e2', found none"),
        ((Span(0, 3, "e1"), Span(4, 5, "e1"), Span(6, 8, "e2")), "expected one entity 'e1', found 2"),
        (
            (Span(0, 3, "e1"), Span(2, 5, "e2")),
            "apart from one another, found 'e1' at 0 to 3 and 'e2' at 2 to 5",
        ),
        ((Span(0, 9, "e1"), Span(2, 5, "e2")), "apart from one another"),
        ((Span(4, 5, "e1"), Span(2, 9, "e2")), "apart from one another"),
        ((Span(0, 3, "e1"), Span(4, 99, "e2")), "within the text's 49 characters, found 4 to 99"),
        ((Span(5, 5, "e1"), Span(6, 8, "e2")), "'e1' within the text's 49 characters, found 5 to 5"),
        ((Span(-3, 5, "e1"), Span(6, 8, "e2")), "found -3 to 5"),
    ],
)
def test_an_example_without_its_two_entities_is_refused_by_its_id(spans, message):
    bad = Example("x7", TEXT, "r", "eng", spans=spans)
    with pytest.raises(DataError, match=f"^field 'spans': .*{message}") as caught:
        KIND.encode(TINY, [example(), bad], description="")
    assert "'x7'" in str(caught.value)
    assert caught.value.hint


def test_entities_may_touch():
    first, second = entities_of(example((3, 5), (0, 3)))
    assert (first.label, second.label, first.start, second.start) == ("e1", "e2", 3, 0)


def test_an_encoder_without_token_states_is_refused_by_name():
    for use in (KIND.blocks, lambda e: KIND.encode(e, [example()], description="")):
        with pytest.raises(SettingsError, match=r"'relations' needs .* 'ngrams:2048' has none"):
            use(NGRAMS)


@pytest.mark.parametrize(
    ("label", "relation"),
    [
        ("org:founded_by(e1,e2)", "org:founded_by"),
        ("org:founded_by(e2,e1)", "org:founded_by"),
        ("Cause-Effect(e1, e2)", "Cause-Effect"),
        ("P127", "P127"),
        ("f(e1,e1)", "f(e1,e1)"),
        ("another", "another"),
        ("brother", "brother"),
        *[
            (label, None)
            for label in ("no_relation", "Other", "NA", "nota", "None of the above", "no relation")
        ],
    ],
)
def test_labels_lose_their_direction_and_none_of_the_above_counts_for_nothing(label, relation):
    assert relation_of(label) == relation


def judge(found):
    examples = [example(label=wanted) for wanted, _ in found]
    return KIND.judge(examples, [Answer(given) for _, given in found])


def test_macro_f1_counts_directions_together_and_leaves_none_of_the_above_out():
    scores = judge(
        [
            ("a(e1,e2)", "a(e1,e2)"),
            ("a(e2,e1)", "a(e1,e2)"),  # the other direction: neither precise nor recalled
            ("b(e1,e2)", "no_relation"),
            ("no_relation", "no_relation"),
            ("no_relation", "b(e2,e1)"),
            ("b(e1,e2)", "b(e1,e2)"),
        ]
    )
    assert tuple(scores) == KIND.metrics
    assert scores == {"macro_f1": pytest.approx((2 / 4 + 2 / 4) / 2), "accuracy": pytest.approx(3 / 6)}


def test_nothing_to_find_and_nothing_found_is_right():
    assert judge([("Other", "Other")]) == {"macro_f1": 1.0, "accuracy": 1.0}


DIRECTED = st.sampled_from(["a(e1,e2)", "a(e2,e1)", "b(e1,e2)", "b(e2,e1)", "c", "no_relation"])


@given(st.lists(st.tuples(DIRECTED, DIRECTED), min_size=1, max_size=20))
def test_macro_f1_is_the_mean_of_precisions_and_recalls_counted_one_by_one(found):
    scores = []
    for name in "abc":
        said = [(w, g) for w, g in found if g[0] == name]
        true = [(w, g) for w, g in found if w[0] == name]
        if not said and not true:
            continue
        precision = sum(w == g for w, g in said) / len(said) if said else 0.0
        recall = sum(w == g for w, g in true) / len(true) if true else 0.0
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    assert judge(found)["macro_f1"] == pytest.approx(np.mean(scores) if scores else 1.0)


PLAIN = st.sampled_from(["P1", "P2", "P3", "NA"])


@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=20))
def test_macro_f1_of_labels_without_direction_is_scikit_learns(found):
    wanted, given_ = zip(*found, strict=True)
    labels = sorted({*wanted, *given_} - {"NA"})
    if labels:
        expected = f1_score(wanted, given_, labels=labels, average="macro", zero_division=0.0)
        assert judge(found)["macro_f1"] == pytest.approx(expected)
