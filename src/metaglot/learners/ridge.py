"""Ridge: a closed-form head whose features and hyperparameters are meta-learned (R2D2).

    θ(S) = τ(k) · argmin_W ‖X_S W − Y_S‖² + λ ‖W‖²,    ω = (body, λ, block scales a_b, τ)

Bertinetto, Henriques, Torr & Vedaldi (2019), "Meta-learning with differentiable closed-form
solvers", eqs. 4 to 6. X_S `[n, d]` are the support set's features, which come in blocks, block b times
a_b, and Y_S `[n, C]` its centred one-hot labels. On a body, the body is learned through the solution.
Over frozen features what is learned is the penalty, how much each block counts, and how sharp the
predictions should be at k examples per label: log τ(k) = t₀ + t₁ log₂ k.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from metaglot.learners.base import (
    START,
    as_it_is,
    body_start,
    by_head,
    mean_query_loss,
    nothing_written,
    shots_of,
)
from metaglot.learners.closed_form import one_hot, ridge
from metaglot.learners.features import support_features
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

SCALE = "log_scale."
PENALTY = "log_penalty"


class Ridge:
    """Closed-form ridge head; features or their scales, penalty and sharpness are meta-learned (R2D2).

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
        """Return the body's start, λ = 1, equal scales and a sharpness of 8, in logarithms."""
        sharpness = {"log_sharpness": torch.tensor([math.log(8.0), 0.0])}
        return body_start(model) | first_scales(model) | sharpness

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return self.start_rate if name.startswith(START) else 0.03

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the ridge head of the support set.

        Raises:
            DataError: the support set has fewer than two labels, or does not fit the model.
        """
        features = support_features(model, meta, support)
        scales = scales_of(model, meta)
        targets = one_hot(support.targets, len(support.classes)).to(next(iter(features.inputs.values())))
        weights = ridge(features, targets, scales, meta[PENALTY].exp())
        sharpness = sharpness_at(meta["log_sharpness"], shots_of(support))
        return model.linear_head({block: sharpness * weight for block, weight in weights.items()})


def first_scales(model: FeatureModel) -> Params:
    """Return equal scales and a penalty of one, in logarithms."""
    return {SCALE + block: torch.zeros(()) for block in model.blocks} | {PENALTY: torch.zeros(())}


def scales_of(model: FeatureModel, meta: Params) -> dict[str, Tensor]:
    """Return block name → a_b, a scalar."""
    return {block: meta[SCALE + block].exp() for block in model.blocks}


def sharpness_at(curve: Tensor, shots: float) -> Tensor:
    """Return τ(k) = exp(t₀ + t₁ log₂ k), a scalar, of the coefficients `[2]`."""
    return (curve[0] + curve[1] * math.log2(max(shots, 1.0))).exp()
