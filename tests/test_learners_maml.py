"""MAML against closed forms, on models whose inner and outer losses are quadratic or linear."""

import math

import pytest
import torch

from metaglot.learners.fomaml import fomaml
from metaglot.learners.maml import MAML
from metaglot.types import Episode
from small_tasks import D, Quadratic, quadratic_batch

pytestmark = pytest.mark.usefixtures("double")

RATE = 0.1


def gradient(batch, theta):
    return batch.inputs["A"] @ theta - batch.inputs["b"]


def after(support, theta, steps, rate=RATE):
    for _ in range(steps):
        theta = theta - rate * gradient(support, theta)
    return theta


def meta_gradient(learner, meta, episode):
    meta = {k: v.clone().requires_grad_() for k, v in meta.items()}
    learner.meta_loss(Quadratic(), meta, [episode]).backward()
    return {k: v.grad for k, v in meta.items()}


@pytest.fixture
def theta():
    return torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)


@pytest.fixture
def episode():
    return Episode(quadratic_batch(1), quadratic_batch(2))


@pytest.mark.parametrize("steps", range(1, 11))
def test_the_meta_gradient_of_a_quadratic_is_the_closed_form(steps, theta, episode):
    found = meta_gradient(MAML(steps, RATE, learn_rates="none"), {"start.theta": theta}, episode)
    step = torch.eye(D) - RATE * episode.support.inputs["A"]
    outer = gradient(episode.query, after(episode.support, theta, steps))
    expected = torch.linalg.matrix_power(step, steps) @ outer
    assert torch.allclose(found["start.theta"], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_the_first_order_gradient_is_the_outer_one_at_the_end(steps, theta, episode):
    found = meta_gradient(fomaml(steps, RATE, learn_rates="none"), {"start.theta": theta}, episode)
    expected = gradient(episode.query, after(episode.support, theta, steps))
    assert torch.allclose(found["start.theta"], expected, rtol=0, atol=1e-10)
    exact = meta_gradient(MAML(steps, RATE, learn_rates="none"), {"start.theta": theta}, episode)
    assert not torch.allclose(found["start.theta"], exact["start.theta"], atol=1e-3)


@pytest.mark.parametrize("first_order", [True, False])
def test_the_gradient_of_the_rate_after_one_step_is_the_closed_form(first_order, theta, episode):
    meta = {"start.theta": theta, "log_rate.theta": torch.tensor(math.log(RATE))}
    found = meta_gradient(MAML(1, first_order=first_order), meta, episode)["log_rate.theta"]
    outer = gradient(episode.query, after(episode.support, theta, 1))
    expected = -RATE * gradient(episode.support, theta) @ outer
    assert found.item() == pytest.approx(expected.item(), abs=1e-10)


@pytest.mark.parametrize("steps", [2, 5])
def test_the_first_order_rate_takes_every_inner_gradient_for_a_constant(steps, theta, episode):
    meta = {"start.theta": theta, "log_rate.theta": torch.tensor(math.log(RATE))}
    found = meta_gradient(fomaml(steps), meta, episode)["log_rate.theta"]
    inner = sum(gradient(episode.support, after(episode.support, theta, i)) for i in range(steps))
    expected = -RATE * inner @ gradient(episode.query, after(episode.support, theta, steps))
    assert found.item() == pytest.approx(expected.item(), abs=1e-10)


@pytest.mark.parametrize("steps", [1, 4])
def test_without_curvature_first_order_is_exact(steps, theta):
    episode = Episode(quadratic_batch(1, curved=False), quadratic_batch(2))
    meta = {"start.theta": theta, "log_rate.theta": torch.tensor(math.log(RATE))}
    one, other = meta_gradient(MAML(steps), meta, episode), meta_gradient(fomaml(steps), meta, episode)
    for name in meta:
        assert torch.allclose(one[name], other[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("first_order", [True, False])
def test_adapting_makes_the_steps(grad, first_order, theta, episode):
    learner = MAML(3, RATE, first_order=first_order, learn_rates="none")
    with torch.set_grad_enabled(grad):
        adapted = learner.adapt(Quadratic(), {"start.theta": theta}, episode.support)
    assert torch.allclose(adapted["theta"], after(episode.support, theta, 3), rtol=0, atol=1e-12)
    assert not adapted["theta"].requires_grad


def test_the_gradients_of_several_episodes_are_averaged(theta):
    episodes = [Episode(quadratic_batch(s), quadratic_batch(s + 10)) for s in range(3)]
    learner = MAML(2, RATE, learn_rates="none")
    together = {"start.theta": theta.clone().requires_grad_()}
    learner.meta_loss(Quadratic(), together, episodes).backward()
    apart = [meta_gradient(learner, {"start.theta": theta}, e)["start.theta"] for e in episodes]
    assert torch.allclose(together["start.theta"].grad, torch.stack(apart).mean(0), atol=1e-12)


def test_lexical_blocks_start_at_zero_and_are_only_adapted(toy_model, toy_episode):
    model, learner = toy_model(), MAML()
    meta = learner.init(model, torch.Generator())
    assert "start.weight.dense" in meta
    assert "start.weight.lexical" not in meta
    assert "log_rate.weight.lexical" in meta
    with torch.no_grad():
        adapted = learner.adapt(model, meta, toy_episode().support)
    assert bool(adapted["weight.lexical"].any())


def test_one_step_from_the_start_is_softmax_regressions(toy_model, toy_episode):
    model, support = toy_model(), toy_episode((2, 2, 2), prior=False).support
    learner = MAML(1, RATE, learn_rates="none")
    with torch.no_grad():
        adapted = learner.adapt(model, learner.init(model, torch.Generator()), support)
    residual = torch.nn.functional.one_hot(support.targets, 3) - 1 / 3
    for block in model.blocks:
        step = RATE * residual.T.double() @ support.inputs[block] / len(support)
        assert torch.allclose(adapted[f"weight.{block}"], step, atol=1e-12)
