"""Prototypical networks: the nearest class mean in a learned space.

    c_y = mean of f(x) over the support examples of y,    logit_y(q) = −Σ_b τ_b ‖f_b(q) − c_{b,y}‖²

Snell, Swersky & Zemel (2017), "Prototypical networks for few-shot learning", eqs. 1 and 2. The
encoder is frozen, so what is learned is f: a linear projection P_b of every dense block (lexical
blocks are taken as they are), and one sharpness τ_b per block. Up to a term that is the same for
every label, the logits are linear in q (ibid., eq. 8), which is how they are kept:

    W_b = 2 τ_b C_b P_b,    bias = −Σ_b τ_b ‖c_b‖²
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.learners.base import as_it_is, by_head, check_support, mean_query_loss, nothing_written
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator


class ProtoNet:
    """Nearest class mean in a projection of the features that is meta-learned (ProtoNet)."""

    needs = frozenset({"label-scores"})

    predict = by_head
    prepare = as_it_is
    meta_loss = mean_query_loss
    write = nothing_written

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return identity projections and a sharpness of 8 per block."""
        meta = {f"log_sharpness.{block}": torch.tensor(math.log(8.0)) for block in model.blocks}
        for block, width in model.blocks.items():
            if block not in model.lexical:
                meta[f"projection.{block}"] = torch.eye(width)
        return meta

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return 0.002 if name.startswith("projection") else 0.03

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the prototypes of the support set, as a linear head.

        Raises:
            DataError: a label has no support example, so it has no mean.
        """
        check_support(support)
        n_labels = len(support.classes)
        member = F.one_hot(support.targets, n_labels).to(next(iter(support.inputs.values())).dtype)
        count = member.sum(0)
        present = count > 0
        weights, bias = {}, torch.zeros(n_labels, dtype=member.dtype, device=member.device)
        for block in model.blocks:
            sharpness = meta[f"log_sharpness.{block}"].exp()
            means = (member.T @ support.inputs[block]) / count.clamp(min=1).unsqueeze(-1)
            projection = meta.get(f"projection.{block}")
            centres = means if projection is None else means @ projection.T
            weights[block] = 2 * sharpness * (centres if projection is None else centres @ projection)
            bias = bias - sharpness * centres.square().sum(-1)
        # A label without examples has no prototype: it can never be the nearest.
        return model.linear_head(weights, torch.where(present, bias, bias.new_tensor(-1e4)))
