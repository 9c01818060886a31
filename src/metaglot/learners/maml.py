"""MAML and first-order MAML on the head.

    θ₀ = start,    θ_{i+1} = θ_i − α ⊙ ∇_θ L(θ_i, S),    ω = (start, α)

Finn, Abbeel & Levine (2017), "Model-agnostic meta-learning for fast adaptation of deep networks",
eqs. 1 and 3. The meta-gradient goes through every inner step (products with I − α∇²L);
`first_order=True` takes the inner gradients for constants (ibid., section 5.2), which leaves out the
curvature and saves about half of the time.

The start of lexical blocks is zero and stays so: a character n-gram means nothing across languages,
and a start that could learn them would learn the sources' sentences by heart. Where there is a
prior, the head starts as a correction to it, and the prior's scale is adapted like any other
parameter. The rates α are positive, one for every named parameter, and learned with the start (Li
et al. 2017, "Meta-SGD", has one per element).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import as_it_is, by_head, check_support, mean_query_loss, nothing_written
from metaglot.types import Batch, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator

_START, _RATE = "start.", "log_rate."


class MAML:
    """Gradient steps from a meta-learned start, differentiated exactly (MAML).

    Args:
        steps: inner gradient steps, at least 1.
        rate: the inner rate to start from, in units of the loss's gradient.
        first_order: take inner gradients for constants (FOMAML).
        learn_rates: learn one inner rate per named parameter; else all stay at `rate`.
    """

    needs = frozenset({"label-scores"})

    predict = by_head
    prepare = as_it_is
    meta_loss = mean_query_loss
    write = nothing_written

    def __init__(
        self, steps: int = 5, rate: float = 8.0, *, first_order: bool = False, learn_rates: bool = True
    ) -> None:
        if steps < 1 or not rate > 0:
            raise SettingsError(f"expected steps ≥ 1 and rate > 0, found steps={steps} and rate={rate}.")
        self.steps = steps
        self.rate = rate
        self.first_order = first_order
        self.learn_rates = learn_rates

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the model's own start and the rates in logarithms."""
        start = model.init(model.n_labels)
        learned = set(start) - model.fixed_start
        meta = {_START + name: value for name, value in start.items() if name in learned}
        if self.learn_rates:
            meta |= {_RATE + name: torch.tensor(math.log(self.rate)) for name in start}
        return meta

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return 0.03

    def adapt(self, model: TaskModel, meta: Params, support: Batch) -> Params:
        """Return the start's rows for the support set's labels after `steps` gradient steps."""
        check_support(support)
        start = model.init(model.n_labels)
        start |= {name.removeprefix(_START): v for name, v in meta.items() if name.startswith(_START)}
        learning = torch.is_grad_enabled() and any(value.requires_grad for value in meta.values())
        with torch.enable_grad():
            params = model.rows(start, support.classes)
            if not learning:
                params = {name: value.detach() for name, value in params.items()}
            params = {n: v if v.requires_grad else v.requires_grad_() for n, v in params.items()}
            for _ in range(self.steps):
                params = self._step(model, meta, params, support, learning)
        return params if learning else {name: value.detach() for name, value in params.items()}

    def _step(self, model: TaskModel, meta: Params, params: Params, support: Batch, learning: bool) -> Params:
        loss = model.loss(model.forward(params, support), support.targets)
        exact = learning and not self.first_order
        names = list(params)
        # `allow_unused`: the prior's scale has no part in the loss where there is no prior.
        found = torch.autograd.grad(
            loss, [params[n] for n in names], create_graph=exact, allow_unused=True, materialize_grads=True
        )
        moved = {}
        for name, gradient in zip(names, found, strict=True):
            rate = meta[_RATE + name].exp() if self.learn_rates else self.rate
            moved[name] = params[name] - rate * gradient
        return moved if learning else {n: v.detach().requires_grad_() for n, v in moved.items()}


def fomaml(steps: int = 5, rate: float = 8.0, *, learn_rates: bool = True) -> MAML:
    """Gradient steps from a meta-learned start, curvature left out (first-order MAML)."""
    return MAML(steps, rate, first_order=True, learn_rates=learn_rates)
