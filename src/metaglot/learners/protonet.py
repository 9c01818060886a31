"""Prototypical networks: the nearest class mean in a learned space.

    c_y = mean of f(x) over the support examples of y,    logit_y(q) = −Σ_b τ_b ‖f_b(q) − c_{b,y}‖²

Snell, Swersky & Zemel (2017), "Prototypical networks for few-shot learning", eqs. 1 and 2. What is
learned is f and one sharpness τ_b per block b. On a body, f is the body. Over frozen features f is a
linear projection P_b of every dense block (lexical blocks are taken as they are). Up to a term that is
the same for every label, the logits are linear in q (ibid., eq. 8), which is how they are kept:

    W_b = 2 τ_b C_b P_b,    bias = −Σ_b τ_b ‖c_b‖²

with C_b `[C, d]` the projected class means of block b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from metaglot.learners.base import START, as_it_is, body_start, by_head, mean_query_loss, nothing_written
from metaglot.learners.features import (
    ABSENT,
    PROJECTION,
    class_means,
    membership,
    projected,
    projections,
    support_features,
)
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

SHARPNESS = "log_sharpness."


class ProtoNet:
    """Nearest class mean in features or a projection of them that is meta-learned (ProtoNet).

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
        """Return the body's start, identity projections and a sharpness per block.

        The sharpness is 8 for frozen features, whose norm is about one, and 1, as in the paper, on a body.
        """
        return body_start(model) | first_sharpness(model, 1.0 if model.body else 8.0) | projections(model)

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return metric_rate(name, self.start_rate)

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the prototypes of the support set, as a linear head.

        Raises:
            DataError: the support set has fewer than two labels, or does not fit the model.
        """
        features = support_features(model, meta, support)
        member, count = membership(features)
        means = {block: class_means(features.inputs[block], member, count) for block in model.blocks}
        return nearest_mean(model, meta, means, count > 0)


def first_sharpness(model: FeatureModel, start: float) -> Params:
    """Return a sharpness to start from per block, in logarithms."""
    return {SHARPNESS + block: torch.tensor(math.log(start)) for block in model.blocks}


def metric_rate(name: str, body: float) -> float:
    """Return the outer loop's rate for what learners of a metric learn, `body` for a body."""
    if name.startswith(START):
        return body
    return 0.002 if name.startswith(PROJECTION) else 0.03


def nearest_mean(model: FeatureModel, meta: Params, means: Mapping[str, Tensor], known: Tensor) -> Params:
    """Return the head that compares with class means.

    Args:
        model: the model.
        meta: `projection.<block>` and `log_sharpness.<block>`.
        means: block name → class means `[C, d]`, not projected.
        known: which labels have a mean `[C]`, bool; the others are never the nearest.
    """
    weights, some = {}, next(iter(means.values()))
    bias = some.new_zeros(len(some))
    for block, mean in means.items():
        sharpness = meta[SHARPNESS + block].exp()
        centres = projected(meta, block, mean)
        projection = meta.get(PROJECTION + block)
        weights[block] = 2 * sharpness * (centres if projection is None else centres @ projection)
        bias = bias - sharpness * centres.square().sum(-1)
    return model.linear_head(weights, torch.where(known, bias, bias.new_tensor(ABSENT)))
