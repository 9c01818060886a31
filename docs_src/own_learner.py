"""A learner in one file: the nearest class mean, beside what the other languages have taught.

    W_b = τ_b · mean of the support examples of each label,    logits = Σ_b X_b W_bᵀ + s · prior

What is learned across languages is how far to trust each: τ_b of every feature block, and s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.learners.base import as_it_is, by_head, check_support, mean_query_loss, nothing_written
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator


class MeanAndPrior:
    """Class means added to the prior, their weights meta-learned."""

    needs = frozenset({"label-scores"})

    predict = by_head
    prepare = as_it_is
    meta_loss = mean_query_loss
    write = nothing_written

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return the logarithms of all weights."""
        return {f"log_weight.{name}": torch.tensor(1.0) for name in [*model.blocks, "prior"]}

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return 0.05

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return one linear head for the support set's labels."""
        check_support(support)
        member = F.one_hot(support.targets, len(support.classes)).to(support.inputs[next(iter(model.blocks))])
        share = member / member.sum(0).clamp(min=1)
        weights = {
            block: meta[f"log_weight.{block}"].exp() * (share.T @ support.inputs[block])
            for block in model.blocks
        }
        return model.linear_head(weights, prior_scale=meta["log_weight.prior"].exp())
