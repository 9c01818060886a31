"""Implicit MAML against closed forms on quadratics, and against MAML with very many steps."""

import gc
from weakref import WeakSet

import pytest
import torch
import torch.nn.functional as F

from metaglot.learners.imaml import IMAML
from metaglot.learners.implicit import conjugate_gradients
from metaglot.learners.maml import MAML
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.types import Episode
from small_tasks import D, Quadratic, SharedQuadratic, quadratic_episode, regressor, sinusoid

pytestmark = pytest.mark.usefixtures("double")

PENALTY = 1.5
EXACT = {"cg_steps": 200, "cg_tolerance": 1e-13}
SOLVERS = [{"solver": "newton", "steps": 8}, {"solver": "descent", "steps": 2000, "rate": 0.05}]


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def meta():
    return {
        "start.theta": tensor(0.3, -1.2, 0.7),
        "start.shared": tensor(-0.2, 0.5, 0.1),
        "log_penalty": tensor(PENALTY).log().squeeze(),
    }


@pytest.mark.parametrize("options", SOLVERS, ids=["newton", "descent"])
def test_solution_and_gradients_are_the_closed_forms(options, meta):
    episode, learner = quadratic_episode(1), IMAML(adapt="theta", **EXACT, **options)
    A, b = episode.support.inputs["A"], episode.support.inputs["b"]
    start, shared = meta["start.theta"], meta["start.shared"]
    inverse = torch.linalg.inv(A + PENALTY * torch.eye(D))
    solution = inverse @ (b - A @ shared + PENALTY * start)
    adapted = learner.adapt(SharedQuadratic(), meta, episode.support)
    assert torch.allclose(adapted["theta"], solution, atol=1e-9)

    _, found = meta_gradient(learner, SharedQuadratic(), meta, [episode])
    on_both = episode.query.inputs["A"] @ (solution + shared)
    by_theta = inverse @ (on_both - episode.query.inputs["b"])
    assert torch.allclose(found["start.theta"], PENALTY * by_theta, atol=1e-9)
    assert torch.allclose(found["start.shared"], on_both - A @ by_theta, atol=1e-9)
    expected = PENALTY * by_theta @ (start - solution)
    assert found["log_penalty"].item() == pytest.approx(expected.item(), abs=1e-9)


def test_on_a_network_it_is_the_gradient_through_very_many_steps():
    """Newton's solution differentiated implicitly, and 500 proximal steps differentiated exactly."""
    model, episode = regressor(4), sinusoid(3, 5, 4)
    learner = IMAML(50, penalty=PENALTY, **EXACT)
    meta = {n: v.double() for n, v in learner.init(model, torch.Generator()).items()}
    _, found = meta_gradient(learner, model, meta, [episode])

    start = {n.removeprefix("start."): v.clone().requires_grad_() for n, v in meta.items() if "start" in n}
    theta = start
    for _ in range(500):
        loss = F.mse_loss(model.forward(theta, episode.support), episode.support.targets)
        loss = loss + PENALTY / 2 * sum((theta[n] - start[n]).square().sum() for n in theta)
        slopes = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        theta = {n: v - 0.2 * g for (n, v), g in zip(theta.items(), slopes, strict=True)}
    query = F.mse_loss(model.forward(theta, episode.query), episode.query.targets)
    unrolled = torch.autograd.grad(query, list(start.values()))
    adapted = learner.adapt(model, meta, episode.support)
    for name, expected in zip(start, unrolled, strict=True):
        assert torch.allclose(adapted[name], theta[name], atol=1e-6), name
        assert torch.allclose(found[f"start.{name}"], expected, atol=1e-6), name


@pytest.mark.parametrize(("learner", "grows"), [(IMAML, False), (MAML, True)])
def test_memory_does_not_grow_with_the_inner_steps(learner, grows):
    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor

    def kept(steps):
        made = learner(steps, 0.05, **({"solver": "descent"} if learner is IMAML else {}))
        model, alive = regressor(4), WeakSet()

        def keep(tensor):
            held = Kept(tensor)
            alive.add(held)
            return held

        meta = {n: v.requires_grad_() for n, v in made.init(model, torch.Generator()).items()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda held: held.tensor):
            loss = made.meta_loss(model, meta, [sinusoid(1)])
            gc.collect()
            assert loss.requires_grad
            return sum(held.tensor.numel() for held in alive)

    assert (kept(20) > kept(2)) == grows


def test_every_task_has_its_own_conjugate_gradients():
    chance = torch.Generator().manual_seed(0)
    M = torch.randn(4, 6, 6, generator=chance)
    A, b = M @ M.mT + 0.1 * torch.eye(6), torch.randn(4, 6, generator=chance)
    A[1] *= 1e4
    b[2] = 0

    def solve(rows):
        return conjugate_gradients(
            lambda p: torch.einsum("mij,mj->mi", A[rows], p), b[rows], steps=50, tolerance=1e-12
        )

    together = solve([0, 1, 2, 3])
    assert torch.allclose(together, torch.linalg.solve(A, b), atol=1e-8)
    assert not bool(together[2].any())
    for task in range(4):
        assert torch.allclose(solve([task])[0], together[task], atol=1e-12)


def test_a_task_whose_curvature_is_negative_stops_without_a_step():
    A = torch.stack([torch.diag(tensor(-1, 2, 3)), torch.diag(tensor(1, 2, 3))])
    b = tensor(3, 0, 0).expand(2, 3).clone()
    found = conjugate_gradients(lambda p: torch.einsum("mij,mj->mi", A, p), b, steps=9, tolerance=0.0)
    assert torch.allclose(found[0], b[0])
    assert torch.allclose(found[1], b[1])


def test_a_fixed_penalty_is_no_meta_parameter(meta):
    learner = IMAML(8, adapt="theta", penalty=PENALTY, learn_penalty=False, **EXACT)
    assert set(learner.init(SharedQuadratic(), torch.Generator())) == {"start.theta", "start.shared"}
    episode = quadratic_episode(1)
    fixed = {n: v for n, v in meta.items() if n != "log_penalty"}
    learned = IMAML(8, adapt="theta", **EXACT)
    found = meta_gradient(learner, SharedQuadratic(), fixed, [episode])[1]
    expected = meta_gradient(learned, SharedQuadratic(), meta, [episode])[1]
    assert torch.allclose(found["start.theta"], expected["start.theta"], atol=1e-12)


def test_without_curvature_the_solution_is_one_step_and_the_gradient_first_order(meta):
    curved, plain = quadratic_episode(1), quadratic_episode(2)
    flat = {"A": torch.zeros(D, D), "b": plain.support.inputs["b"]}
    support = type(plain.support)(flat, plain.support.targets, plain.support.classes)
    start = {"start.theta": meta["start.theta"], "log_penalty": meta["log_penalty"]}
    learner = IMAML(4, **EXACT)
    end = start["start.theta"] + flat["b"] / PENALTY
    assert torch.allclose(learner.adapt(Quadratic(), start, support)["theta"], end, atol=1e-10)
    found = meta_gradient(learner, Quadratic(), start, [Episode(support, curved.query)])[1]["start.theta"]
    expected = curved.query.inputs["A"] @ end - curved.query.inputs["b"]
    assert torch.allclose(found, expected, atol=1e-10)
