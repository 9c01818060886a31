"""Logistic regression as the last layer: solved to the end, differentiated by its solution.

    W(S) = argmin_W  Σ_i −log softmax(W φ(x_i) + s · prior_i)_{y_i} + λ/2 ‖W‖²,   ω = (body, λ, a_b, s)

φ(x) are an example's features, block b times a_b, and s the trust in the prior's scores, where there
are any: it is what the head corrects. Lee, Maji, Ravichandran & Soatto (2019), "Meta-learning with
differentiable convex optimization", put a support vector machine in this place; Bertinetto et al. (2019)
logistic regression, by a few unrolled Newton steps. Here the convex problem is solved to convergence
and its solution differentiated by the implicit function theorem, which is exact and costs one system,
whatever the steps. (λ multiplies the sum over examples, not the mean: it is a prior's precision.)

At the solution W = Aᵀ Φ, with A `[n, C]` the residuals of n support examples and K = Φ Φᵀ `[n, n]`:

    F(A; K, O, λ) = λ A + P − Y = 0,    P = softmax(K A + O),    O = s · prior,    Y one-hot

With K = G Gᵀ, G `[n, r]`, the scores are G V + O, and Newton's method finds V `[r, C]`:

    Newton:    (λ I + Gᵀ H G) dV = Gᵀ (P − Y) + λ V,        H_i = diag p_i − p_i p_iᵀ
    gradient:  (λ I + Gᵀ H G) t = Gᵀ H ∂L/∂A,               u = (∂L/∂A − G t) / λ
               −∂L/∂K = (H u) Aᵀ,   −∂L/∂O = H u,   −∂L/∂λ = ⟨u, A⟩

The system of r·C unknowns is solved directly where it is small, by conjugate gradients where not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from metaglot.errors import DataError
from metaglot.learners.base import START, as_it_is, body_start, by_head, mean_query_loss, nothing_written
from metaglot.learners.closed_form import kernel_of, primal
from metaglot.learners.features import membership, support_features
from metaglot.learners.implicit import conjugate_gradients
from metaglot.learners.ridge import PENALTY, first_scales, scales_of
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

TRUST = "log_trust"
# Unknowns up to which a system is solved directly: above, conjugate gradients are faster.
_DIRECT = 400
# Solving is in double precision, until the objective's slope is below this.
_TOLERANCE = 1e-9
_NEWTON_STEPS = 50
_SHORTEST = 1e-6
_CG_STEPS = 1000
_CG_TOLERANCE = 1e-10
# The share of the objective that is taken for rounding.
_ROUNDING = 1e-12


class Logistic:
    """Logistic regression solved to convergence, differentiated implicitly; features, penalty learned.

    Args:
        outer_rate: the outer loop's step size for a body.
    """

    needs = frozenset({"label-scores"})

    predict = by_head
    prepare = as_it_is
    meta_loss = mean_query_loss
    write = nothing_written

    def __init__(self, *, outer_rate: float = 0.003) -> None:
        self.start_rate = outer_rate

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return the body's start, λ = 1, equal scales and a trust of 20 in the prior, in logarithms."""
        return first_logistic(model)

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return self.start_rate if name.startswith(START) else 0.1

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the logistic head of the support set.

        Raises:
            DataError: the support set has fewer than two labels, or does not fit the model.
        """
        features = support_features(model, meta, support)
        scales = scales_of(model, meta)
        residuals, _ = fit_logistic(kernel_of(features, scales), features, meta)
        return model.linear_head(primal(features.inputs, scales, residuals), prior_scale=meta[TRUST].exp())


def first_logistic(model: FeatureModel) -> Params:
    """Return the body's start, λ = 1, equal scales and a trust of 20 in the prior, in logarithms."""
    return body_start(model) | first_scales(model) | {TRUST: torch.tensor(math.log(20.0))}


def fit_logistic(kernel: Tensor, support: Batch, meta: Params) -> tuple[Tensor, Tensor]:
    """Return A and the support set's probabilities P, both `[n, C]`, of the penalised maximum.

    Args:
        kernel: K `[n, n]`.
        support: the support set.
        meta: λ and s in logarithms.
    """
    targets, _ = membership(support)
    offset = torch.zeros_like(targets) if support.prior is None else meta[TRUST].exp() * support.prior
    penalty = meta[PENALTY].exp().to(kernel)
    residuals = _Solution.apply(kernel, offset.to(kernel), penalty, targets)  # type: ignore[no-untyped-call]
    return residuals, (kernel @ residuals + offset).softmax(-1)


class _Solution(torch.autograd.Function):
    """A of (K, O, λ, Y), with the implicit function theorem as its backward pass."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, offset: Tensor, penalty: Tensor, targets: Tensor) -> Tensor:
        if not bool(torch.isfinite(kernel).all() & torch.isfinite(offset).all() & (penalty > 0)):
            raise DataError(
                "expected features and a penalty that are numbers, found others.",
                hint="Look for features that are not finite, or far too large.",
            )
        factor = _root(kernel)
        chances = _newton(factor, offset.double(), penalty.double(), targets.double())
        residuals = (targets - chances) / penalty.double()
        ctx.save_for_backward(kernel, offset, penalty, factor, chances, residuals)
        return residuals.to(kernel)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        kernel, offset, penalty, factor, chances, residuals = ctx.saved_tensors
        direct = upstream.double()
        right = factor.T @ _curved(chances, direct)
        solved = _solve(factor, chances, penalty.double(), right, _CG_TOLERANCE)
        u = (direct - factor @ solved) / penalty.double()
        curved = _curved(chances, u)
        by_penalty = -(u * residuals).sum()
        return (-curved @ residuals.T).to(kernel), (-curved).to(offset), by_penalty.to(penalty), None


def _root(kernel: Tensor) -> Tensor:
    """G `[n, r]` with K = G Gᵀ."""
    factor: Tensor
    factor, fault = torch.linalg.cholesky_ex(kernel.double())
    if bool(fault):  # K is singular
        values, vectors = torch.linalg.eigh(kernel.double())
        kept = values > values[-1].clamp(min=0) * torch.finfo(kernel.dtype).eps
        factor = vectors[:, kept] * values[kept].sqrt()
    return factor


def _curved(chances: Tensor, y: Tensor) -> Tensor:
    """H y `[n, C]`."""
    return chances * (y - (chances * y).sum(-1, keepdim=True))


def _solve(factor: Tensor, chances: Tensor, penalty: Tensor, right: Tensor, tolerance: float) -> Tensor:
    """The solution `[r, C]` of (λ I + Gᵀ H G) x = right, exact or to a relative residual."""
    n_labels = right.shape[1]
    if right.numel() <= _DIRECT:
        eye = torch.eye(n_labels, dtype=right.dtype, device=right.device)
        H = chances.unsqueeze(2) * (eye - chances.unsqueeze(1))
        matrix = torch.einsum("ir,iab,is->rasb", factor, H, factor).reshape(right.numel(), right.numel())
        matrix.diagonal().add_(penalty)
        return torch.cholesky_solve(right.reshape(-1, 1), torch.linalg.cholesky(matrix)).reshape(right.shape)

    def product(x: Tensor) -> Tensor:
        x = x.reshape(right.shape)
        return (penalty * x + factor.T @ _curved(chances, factor @ x)).reshape(1, -1)

    found = conjugate_gradients(product, right.reshape(1, -1), steps=_CG_STEPS, tolerance=tolerance)
    return found.reshape(right.shape)


def _newton(factor: Tensor, offset: Tensor, penalty: Tensor, targets: Tensor) -> Tensor:
    """P `[n, C]` at the minimum, by Newton steps that are halved until the convex objective falls."""
    labels = targets.argmax(-1)

    def objective(V: Tensor) -> Tensor:
        loss = F.cross_entropy(factor @ V + offset, labels, reduction="sum")
        return loss + penalty / 2 * V.square().sum()

    V = targets.new_zeros(factor.shape[1], targets.shape[1])
    value = objective(V)
    for _ in range(_NEWTON_STEPS):
        chances = (factor @ V + offset).softmax(-1)
        slope = factor.T @ (chances - targets) + penalty * V
        size = float(torch.linalg.vector_norm(slope))
        if size < _TOLERANCE:
            break
        step, length = _solve(factor, chances, penalty, slope, min(0.1, size)), 1.0
        # What is less than rounding is no rise.
        while objective(V - length * step) > value + _ROUNDING * value.abs() and length > _SHORTEST:
            length /= 2
        V = V - length * step
        value = objective(V)
    return (factor @ V + offset).softmax(-1)
