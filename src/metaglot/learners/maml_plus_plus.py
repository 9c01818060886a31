"""MAML++: MAML with a loss after every step and a rate for every parameter and step.

    min over ω  Σ_i v_i(t) L(θ_i, Q),    θ_{i+1} = θ_i − α_{p,i} ∇_θ L(θ_i, S),    i = 0 … K − 1
    v_i(t) = (1 − s)/K for i < K,    v_K(t) = (1 − s)/K + s,    s = min(1, t / T)

Antoniou, Edwards & Storkey (2019), "How to train your MAML", section 4: the multi-step loss (MSL),
whose weights go from equal ones at outer step t = 0 to the last step alone at t = T; learned rates per
layer and step (LSLR), here per named parameter and step; first-order gradients for the first outer
steps (derivative-order annealing, DA). The cosine annealing of the outer rate (CA) is the outer
loop's, which has it for all learners. Batch statistics need no part of their own: BatchNorm normalises
each batch by its own, in every step.

The number of outer steps t is state, which `write` counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import as_it_is
from metaglot.learners.gradient import (
    Descended,
    by_descent,
    by_parameters,
    descended,
    from_start,
    mean_over,
    start_and_rates,
    takes,
)
from metaglot.learners.inner_loop import InnerLoop
from metaglot.learners.stacking import Stack, losses
from metaglot.types import Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor

COUNT = "outer_steps"
"""The name of the count of outer steps, a scalar, among the meta-parameters."""


class MAMLPlusPlus:
    """Gradient steps with a loss after each and rates per parameter and step (MAML++).

    Args:
        steps: inner gradient steps, at least 1.
        rate: the inner rate to start from, as in MAML.
        adapt: what adapts, as in `metaglot.learners.selection`; the rest is shared.
        anneal: T, outer steps until the loss after the last inner step is all that counts.
        first_order_steps: outer steps at first that take inner gradients for constants.
        learn_rates: learn inner rates, one per `"step"`, `"parameter"` or `"element"`, or `"none"`.
        outer_rate: the outer loop's step size.
        options: the others of `metaglot.learners.inner_loop.InnerLoop`.
    """

    needs = frozenset({"label-scores", "any"})

    begin = from_start
    adapt = by_descent
    predict = by_parameters
    prepare = as_it_is

    @takes(InnerLoop)
    def __init__(
        self,
        steps: int = 5,
        rate: float = 8.0,
        adapt: str = "all",
        *,
        anneal: int = 100,
        first_order_steps: int = 0,
        learn_rates: str = "step",
        outer_rate: float = 0.03,
        **options: Any,
    ) -> None:
        if anneal < 0 or first_order_steps < 0:
            raise SettingsError(
                f"expected anneal ≥ 0 and first_order_steps ≥ 0, found {anneal} and {first_order_steps}."
            )
        self.inner = InnerLoop(steps, rate, adapt, learn_rates=learn_rates, **options)
        self.anneal = anneal
        self.first_order_steps = first_order_steps
        self.start_rate = outer_rate

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the model's own start, the learned rates in logarithms, and a count of zero."""
        return self.inner.init(model) | {COUNT: torch.zeros(())}

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter; zero for the count, which is state."""
        return 0.0 if name == COUNT else start_and_rates(self, name)

    def solve(
        self, model: TaskModel, meta: Params, begin: Params, common: Params, support: Stack, *, learning: bool
    ) -> list[Params]:
        """Return the tasks' own parameters before and after every inner step."""
        inner = self.inner
        if float(meta[COUNT].detach()) < self.first_order_steps:
            inner = replace(inner, first_order=True)
        return inner.run(model, meta, begin, common, support, learning=learning)

    def meta_loss(self, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
        """Return the weighted mean over episodes of the multi-step loss, a scalar."""
        weights = self.step_weights(float(meta[COUNT].detach()))
        groups = descended(self, model, meta, episodes, cut=True)
        return mean_over(episodes, ((d.places, _multi_step(model, d, weights)) for d in groups))

    def step_weights(self, count: float) -> list[float]:
        """Return v_1 … v_K, which sum to one, after `count` outer steps."""
        share = min(1.0, max(0.0, count / self.anneal)) if self.anneal else 1.0
        even = (1 - share) / self.inner.steps
        return [even] * (self.inner.steps - 1) + [even + share]

    def write(self, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Params:
        """Return the count, one higher."""
        return {COUNT: meta[COUNT] + 1}


def _multi_step(model: TaskModel, tasks: Descended, weights: Sequence[float]) -> Tensor:
    """The tasks' multi-step losses `[m]`; steps without weight are not judged."""
    found = [
        weight * losses(model, theta, tasks.common, tasks.query)
        for weight, theta in zip(weights, tasks.trajectory[1:], strict=True)
        if weight > 0
    ]
    return torch.stack(found).sum(0)
