"""Every gradient-based learner, meta-trained for a second or two, beats its start on tasks it never saw."""

import pytest

from metaglot.learners import LEARNERS
from small_tasks import embedder, five_ways, judge, learn, regressor, sinusoid

# Learner → its options, outer steps, and what the query error after adapting may be, as a share of what it
# is before meta-training. Joint training learns a start too, and little else.
REGRESSION = {
    "maml": ({}, 100, 0.3),
    "fomaml": ({}, 100, 0.6),
    "anil": ({}, 100, 0.3),
    "boil": ({}, 100, 0.3),
    "meta-sgd": ({}, 100, 0.5),
    "maml++": ({"anneal": 50}, 100, 0.3),
    "imaml": ({"penalty": 0.5, "steps": 3, "cg_steps": 5}, 20, 0.75),
    "cavia": ({"rate": 0.1}, 100, 0.6),
    "reptile": ({}, 100, 0.5),
    "multitask": ({}, 100, 0.9),
}
# Learner → its options, and the accuracy that meta-training has to reach: five classes, one example each.
CLASSES = {
    "maml": ({}, 0.7),
    "fomaml": ({}, 0.7),
    "anil": ({}, 0.7),
    "meta-sgd": ({}, 0.7),
    "maml++": ({"anneal": 40}, 0.7),
    "imaml": ({"adapt": "head"}, 0.7),
    "protomaml": ({}, 0.7),
    "cavia": ({}, 0.7),
    "reptile": ({}, 0.7),
}


@pytest.mark.parametrize("name", list(REGRESSION))
def test_on_sines_of_an_amplitude_and_a_phase(name):
    options, steps, share = REGRESSION[name]
    learner = LEARNERS[name](**({"rate": 0.05, "outer_rate": 0.005} | options))
    model = regressor()
    before, after = learn(learner, model, sinusoid, steps)
    errors = judge(learner, model, before, sinusoid)[0], judge(learner, model, after, sinusoid)[0]
    assert errors[1] < share * errors[0]


@pytest.mark.parametrize("name", list(CLASSES))
def test_on_classes_that_few_of_many_columns_tell_apart(name):
    options, least = CLASSES[name]
    learner = LEARNERS[name](**({"rate": 0.5, "outer_rate": 0.02} | options))
    check_classes(learner, least)


def test_a_learned_body_under_a_head_of_zeros():
    learner = LEARNERS["protomaml"](rate=0.5, outer_rate=0.02, zero_head=True)
    check_classes(learner, 0.7)


def check_classes(learner, least):
    model = embedder()
    before, after = learn(learner, model, five_ways, 60)
    accuracy = judge(learner, model, before, five_ways)[1], judge(learner, model, after, five_ways)[1]
    assert accuracy[0] < 0.4
    assert accuracy[1] > least
