"""ProtoMAML: gradient steps of a head that starts as the support set's prototypes.

    c_y = mean of f(x) over the support examples of y,    W_y = 2 τ c_y,    b_y = −τ ‖c_y‖²
    θ_0 = (body, W, b),    θ_{i+1} = θ_i − α ∇_θ L(θ_i, S)

Triantafillou et al. (2020), "Meta-Dataset: a dataset of datasets for learning to learn from few
examples", section 3: softmax(f(q) Wᵀ + b) is ProtoNet's, so that steps go on from where ProtoNet ends, in
tasks of any number of labels. The prototypes are differentiated through. The sharpness τ of every
block is learned here (1 in the paper), and so is the trust in the prior where there is one.

With `zero_head` the head starts at zero in every task instead, and the start of the body is all that is
learned, as Kao, Chiu & Chen (2022, "MAML is a noisy contrastive learner in classification", section
3.4, "zeroing trick") have it: nothing of one task's labels is left over in the next one's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import (
    IGNORED,
    START,
    as_it_is,
    body_of,
    body_start,
    check_pair,
    nothing_written,
)
from metaglot.learners.features import ABSENT, features_of, membership
from metaglot.learners.gradient import (
    by_descent,
    by_parameters,
    by_steps,
    query_losses,
    start_and_rates,
    takes,
)
from metaglot.learners.inner_loop import RATE, InnerLoop
from metaglot.learners.stacking import spread, stack_params
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator

SHARPNESS = "log_sharpness."
TRUST = "prior_trust"


class ProtoMAML:
    """Gradient steps of a head that starts as prototypes, or as zero, on a learned body (ProtoMAML).

    Args:
        steps: inner gradient steps, at least 1.
        rate: the inner rate to start from, as in MAML.
        adapt: what adapts, as in `metaglot.learners.selection`; of the body, the rest is shared.
        zero_head: start the head at zero instead.
        sharpness: τ to start from.
        learn_rates: learn inner rates, one per `"parameter"`, `"element"` or `"step"`, or `"none"`.
        outer_rate: the outer loop's step size for the body.
        options: the others of `metaglot.learners.inner_loop.InnerLoop`.
    """

    needs = frozenset({"label-scores"})

    solve = by_steps
    adapt = by_descent
    predict = by_parameters
    prepare = as_it_is
    meta_loss = query_losses
    write = nothing_written

    @takes(InnerLoop)
    def __init__(
        self,
        steps: int = 5,
        rate: float = 8.0,
        adapt: str = "all",
        *,
        zero_head: bool = False,
        sharpness: float = 1.0,
        learn_rates: str = "parameter",
        outer_rate: float = 0.003,
        **options: Any,
    ) -> None:
        if not sharpness > 0:
            raise SettingsError(f"expected sharpness > 0, found {sharpness}.")
        self.inner = InnerLoop(steps, rate, adapt, learn_rates=learn_rates, **options)
        self.zero_head = zero_head
        self.sharpness = sharpness
        self.start_rate = outer_rate

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return the body's start, learned rates, a trust of one in the prior, and the sharpness.

        Raises:
            SettingsError: the model has no linear head over features.
        """
        check_pair("protomaml", self, type(model).__name__, model.outputs)
        meta = body_start(model) | self.inner.initial_rates(model) | {TRUST: torch.ones(())}
        if not self.zero_head:
            meta |= {SHARPNESS + block: torch.tensor(math.log(self.sharpness)) for block in model.blocks}
        return meta

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return start_and_rates(self, name) if name.startswith((START, RATE)) else 0.03

    def begin(self, model: FeatureModel, meta: Params, supports: Sequence[Batch]) -> tuple[Params, Params]:
        """Return the tasks' heads and what adapts of the body `[m, …]`, and the rest of the body."""
        body, names = body_of(model, meta), self.inner.adapted_names(model)
        heads = stack_params([self._head(model, meta, support) for support in supports])
        own = spread({n: v for n, v in body.items() if n in names}, len(supports))
        return heads | own, {n: v for n, v in body.items() if n not in own}

    def _head(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """The head that a task starts from."""
        n_labels = len(support.classes)
        if self.zero_head:
            zeros = {block: meta[TRUST].new_zeros(n_labels, width) for block, width in model.blocks.items()}
            return model.linear_head(zeros, prior_scale=meta[TRUST])
        features = features_of(model, meta, support)[support.targets != IGNORED]
        member, count = membership(features)
        weights, bias = {}, meta[TRUST].new_zeros(n_labels)
        for block in model.blocks:
            centres = member.T @ features.inputs[block] / count.clamp(min=1).unsqueeze(-1)
            sharpness = meta[SHARPNESS + block].exp()
            weights[block] = 2 * sharpness * centres
            bias = bias - sharpness * centres.square().sum(-1)
        # A label without examples has no prototype: it can never be the nearest.
        return model.linear_head(weights, torch.where(count > 0, bias, ABSENT), meta[TRUST])
