"""Ridge regression against scikit-learn and against leaving examples out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from metaglot.learners.closed_form import (
    best_sharpness,
    dual,
    duals,
    inverse_of,
    kernel_of,
    mean_log_likelihood,
    one_hot,
    primal,
    ridge,
)
from metaglot.types import Batch

pytestmark = pytest.mark.usefixtures("double")

SCALES = {"a": 1.3, "b": 0.4}


def problem(n, widths, n_labels, seed=0):
    chance = torch.Generator().manual_seed(seed)
    inputs = {
        name: torch.randn(n, width, generator=chance, dtype=torch.float64) for name, width in widths.items()
    }
    return inputs, torch.randn(n, n_labels, generator=chance, dtype=torch.float64)


def side_by_side(inputs, scales=SCALES):
    return torch.cat([scales[name] * inputs[name] for name in scales], dim=1).numpy()


def batch_of(inputs):
    nothing = torch.empty(0, dtype=torch.int64)
    return Batch(inputs=inputs, targets=nothing, classes=nothing)


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("n", [1, 4, 20])
def test_the_head_is_scikit_learns(n, penalty):
    inputs, targets = problem(n, {"a": 3, "b": 5}, 4)
    theirs = Ridge(alpha=penalty, fit_intercept=False).fit(side_by_side(inputs), targets.numpy()).coef_
    ours = ridge(batch_of(inputs), targets, SCALES, penalty)
    # Their coefficients are of the scaled features, ours of the features as they are.
    assert np.allclose(ours["a"], SCALES["a"] * theirs[:, :3], atol=1e-10)
    assert np.allclose(ours["b"], SCALES["b"] * theirs[:, 3:], atol=1e-10)


@given(
    n=st.integers(2, 7),
    d=st.integers(1, 6),
    labels=st.integers(1, 3),
    penalty=st.floats(0.01, 30),
    with_mean=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60)
def test_leave_one_out_scores_are_those_of_leaving_one_out(n, d, labels, penalty, with_mean, seed):
    inputs, targets = problem(n, {"a": d, "b": 2}, labels, seed)
    mean = problem(n, {}, labels, seed + 1)[1] if with_mean else None
    kernel = kernel_of(batch_of(inputs), SCALES)
    _, scores = dual(inverse_of(kernel, penalty), targets, mean)
    base = torch.zeros_like(targets) if mean is None else mean
    X = side_by_side(inputs)
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        fitted = Ridge(alpha=penalty, fit_intercept=False).fit(X[rest], (targets - base)[rest].numpy())
        assert np.allclose(
            scores[i], base[i] + torch.from_numpy(fitted.coef_.reshape(labels, -1) @ X[i]), atol=1e-7
        )


@given(n=st.integers(1, 8), d=st.integers(1, 10), with_mean=st.booleans(), seed=st.integers(0, 10_000))
@settings(max_examples=40)
def test_one_decomposition_solves_for_every_penalty(n, d, with_mean, seed):
    inputs, targets = problem(n, {"a": d, "b": 1}, 2, seed)
    mean = problem(n, {}, 2, seed + 1)[1] if with_mean else None
    kernel = kernel_of(batch_of(inputs), SCALES)
    penalties = [0.1, 1.0, 10.0]
    for penalty, found in zip(penalties, duals(kernel, penalties, targets, mean), strict=True):
        for one, other in zip(found, dual(inverse_of(kernel, penalty), targets, mean), strict=True):
            assert torch.allclose(one, other, atol=1e-8)
    whole = kernel + torch.eye(n, dtype=torch.float64)
    assert torch.allclose(inverse_of(kernel, 1.0) @ whole, torch.eye(n, dtype=torch.float64), atol=1e-9)


def test_the_primal_head_predicts_what_the_dual_solution_does():
    inputs, targets = problem(6, {"a": 3, "b": 5}, 4)
    new, _ = problem(9, {"a": 3, "b": 5}, 1, seed=1)
    alpha, _ = dual(inverse_of(kernel_of(batch_of(inputs), SCALES), 0.5), targets)
    head = primal(inputs, SCALES, alpha)
    by_kernel = sum(SCALES[b] ** 2 * new[b] @ inputs[b].T for b in SCALES) @ alpha
    assert torch.allclose(sum(new[name] @ head[name].T for name in SCALES), by_kernel, atol=1e-12)


def test_targets_are_centred():
    found = one_hot(torch.tensor([2, 0]), 4)
    assert found.tolist() == [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]]


@pytest.mark.parametrize("truth", [2.0, 8.0, 32.0])
def test_the_best_sharpness_is_that_of_which_labels_were_drawn(truth):
    chance = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, 3, generator=chance, dtype=torch.float64) / truth * 2
    targets = torch.multinomial((truth * scores).softmax(1), 1, generator=chance).squeeze(1)
    found = best_sharpness(scores, targets)
    assert truth / 1.5 < found < truth * 1.5
    for other in (found / 2, found * 2):
        assert mean_log_likelihood(scores, targets, other) < mean_log_likelihood(scores, targets, found)
    assert best_sharpness(scores, targets, [1000.0, 0.5 * truth]) == 0.5 * truth
