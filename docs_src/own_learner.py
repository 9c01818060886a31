"""A learner in one file: the nearest class mean, beside what the other languages have taught.

    W_b = τ_b · mean of the support examples of each label,    logits = Σ_b X_b W_bᵀ + s · prior

What is learned across languages is how far to trust each: τ_b of every feature block, and s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.learners.base import check_support, mean_query_loss
from metaglot.types import Batch, Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


class MeanAndPrior:
    """Class means added to the prior, their weights meta-learned."""

    needs = frozenset({"label-scores"})

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the logarithms of all weights."""
        return {f"log_weight.{name}": torch.tensor(1.0) for name in [*model.blocks, "prior"]}

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return 0.05

    def adapt(self, model: TaskModel, meta: Params, support: Batch) -> Params:
        """Return one linear head for the support set's labels."""
        check_support(support)
        member = F.one_hot(support.targets, len(support.classes)).to(support.inputs[next(iter(model.blocks))])
        share = member / member.sum(0).clamp(min=1)
        weights = {
            block: meta[f"log_weight.{block}"].exp() * (share.T @ support.inputs[block])
            for block in model.blocks
        }
        return model.linear_head(weights, prior_scale=meta["log_weight.prior"].exp())

    def predict(self, model: TaskModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`."""
        return model.forward(adapted, batch)

    def prepare(self, model: TaskModel, episode: Episode) -> Episode:
        """Return the episode as it is."""
        return episode

    def meta_loss(self, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
        """Return the mean query loss, a scalar."""
        return mean_query_loss(self, model, meta, episodes)
