"""Matching networks: a label is as probable as the attention that its support examples get.

    P(y | q, S) = Σ_{i : y_i = y} a(q, x_i),    a(q, ·) = softmax_i Σ_b τ_b cos(f_b(q), f_b(x_i))
    logit_y(q) = log P(y | q, S)

Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra (2016), "Matching networks for one shot learning",
eqs. 1 and 2, with f = g. What is learned is f and one sharpness τ_b per feature block b (1 in the paper,
where a cosine of at most one makes attention nearly even). On a body, f is the body; over frozen
features it is a linear projection of every dense block.

Nothing is averaged: an adaptation is the support set, as the features' directions f(x_i)/‖f(x_i)‖
`[n, d]` and the labels `[n, C]`, so that it is larger than a linear head with more than one example per
label, and is run by this learner alone. The paper's full-context embeddings are left out: they read the
support set by an LSTM, in an order that it does not have and that predictions would depend on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.learners.base import as_it_is, body_start, mean_query_loss, nothing_written
from metaglot.learners.features import (
    ABSENT,
    features_of,
    membership,
    projected,
    projections,
    support_features,
)
from metaglot.learners.protonet import SHARPNESS, first_sharpness, metric_rate
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

SUPPORT = "support."
"""What the names of the support set's directions `[n, d]` in an adaptation begin with."""
LABELS = "labels"
"""The name of its labels `[n, C]`, ones and zeros."""


class Matching:
    """Attention over the support examples by cosine in a learned space (matching networks).

    Args:
        outer_rate: the outer loop's step size for a body.
    """

    needs = frozenset({"label-scores"})

    prepare = as_it_is
    meta_loss = mean_query_loss
    write = nothing_written

    def __init__(self, *, outer_rate: float = 0.003) -> None:
        self.start_rate = outer_rate

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return the body's start, identity projections and a sharpness of 8 per block."""
        return body_start(model) | first_sharpness(model, 8.0) | projections(model)

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return metric_rate(name, self.start_rate)

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the support set: directions of every block `[n, d]`, and labels `[n, C]`.

        Raises:
            DataError: the support set has fewer than two labels, or does not fit the model.
        """
        features = support_features(model, meta, support)
        member, _ = membership(features)
        directions = _directions(model, meta, features)
        return {SUPPORT + block: value for block, value in directions.items()} | {LABELS: member}

    def predict(self, model: FeatureModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`, the logarithms of probabilities."""
        similar = similarities(model, meta, adapted, batch)
        examples = [member.nonzero().squeeze(-1) for member in adapted[LABELS].T]
        absent = similar.new_full((len(similar),), ABSENT)
        found = [torch.logsumexp(similar[:, rows], 1) if len(rows) else absent for rows in examples]
        return torch.stack(found, 1) - torch.logsumexp(similar, 1, keepdim=True)


def attention(model: FeatureModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
    """Return how much of every example's attention `[n]` each support example gets, `[n, support]`."""
    return similarities(model, meta, adapted, batch).softmax(1)


def similarities(model: FeatureModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
    """Return Σ_b τ_b cos of a batch's examples and the support set's, `[n, support]`."""
    directions = _directions(model, meta, features_of(model, meta, batch))
    cosines = [
        meta[SHARPNESS + block].exp() * value @ adapted[SUPPORT + block].T
        for block, value in directions.items()
    ]
    return torch.stack(cosines).sum(0)


def _directions(model: FeatureModel, meta: Params, features: Batch) -> dict[str, Tensor]:
    """Projected features of length one `[n, d]`, of every block."""
    return {
        block: F.normalize(projected(meta, block, features.inputs[block]), dim=-1) for block in model.blocks
    }
