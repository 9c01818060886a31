"""Ridge: a closed-form head whose hyperparameters are meta-learned (R2D2).

    θ(S) = τ(k) · argmin_W ‖X_S W − Y_S‖² + λ ‖W‖²,    ω = (λ, block scales a_b, τ)

Bertinetto, Henriques, Torr & Vedaldi (2019), "Meta-learning with differentiable closed-form
solvers", eqs. 4 to 6. Here the features are frozen and come in blocks, so that what is learned
across languages is the penalty, how much each block counts, and how sharp the predictions should
be at k examples per label: log τ(k) = t₀ + t₁ log₂ k.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from metaglot.learners.base import (
    as_it_is,
    by_head,
    check_support,
    mean_query_loss,
    nothing_written,
    shots_of,
)
from metaglot.learners.closed_form import one_hot, ridge
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Ridge:
    """Closed-form ridge head, its penalty, block scales and sharpness meta-learned (R2D2)."""

    needs = frozenset({"label-scores"})

    predict = by_head
    prepare = as_it_is
    meta_loss = mean_query_loss
    write = nothing_written

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return λ = 1, equal scales and a sharpness of 8, in logarithms."""
        meta = {f"log_scale.{block}": torch.zeros(()) for block in model.blocks}
        return meta | {"log_penalty": torch.zeros(()), "log_sharpness": torch.tensor([math.log(8.0), 0.0])}

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return 0.03

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the ridge head of the support set."""
        check_support(support)
        scales = {block: meta[f"log_scale.{block}"].exp() for block in model.blocks}
        targets = one_hot(support.targets, len(support.classes))
        weights = ridge(support, targets, scales, meta["log_penalty"].exp())
        sharpness = sharpness_at(meta["log_sharpness"], shots_of(support))
        return model.linear_head({block: sharpness * weight for block, weight in weights.items()})


def sharpness_at(curve: Tensor, shots: float) -> Tensor:
    """Return τ(k) = exp(t₀ + t₁ log₂ k), a scalar, of the coefficients `[2]`."""
    return (curve[0] + curve[1] * math.log2(max(shots, 1.0))).exp()
