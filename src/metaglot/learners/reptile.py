"""Reptile: the start moves towards where the tasks' own parameters end.

    θ = start,    φₑ = θ after K inner steps on task e,    θ ← θ − ε Σₑ wₑ (θ − φₑ) / Σₑ wₑ

Nichol, Achiam & Schulman (2018), "On first-order meta-learning algorithms", algorithm 2. θ − φ takes
the place of the gradient, so that any outer optimizer will do, and no inner step is differentiated.

The meta-loss is a surrogate. Its value is the query loss after the inner loop, as other learners have
it; its gradient by the start is θ − φ. Its gradient by parameters that do not adapt, for which θ − φ
would be zero, is that of the query loss at φ.

Steps on one batch alone make Reptile nothing but joint training (ibid., section 5.1: the gradient's
second-order term is the product of the gradients of *different* batches). So in meta-training the
inner steps take turns between the support and the query set (`alternate`). The value of the meta-loss
is then still that after steps on the support set alone, worked out beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metaglot.learners.base import as_it_is, nothing_written
from metaglot.learners.gradient import (
    Descended,
    by_descent,
    by_parameters,
    by_steps,
    descended,
    from_start,
    inner_init,
    mean_over,
    start_and_rates,
    takes,
)
from metaglot.learners.inner_loop import InnerLoop
from metaglot.learners.stacking import losses
from metaglot.types import Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Tensor


class Reptile:
    """A start that moves towards where the tasks' parameters end, without derivatives of steps (Reptile).

    Args:
        steps: inner gradient steps, at least 1; two or more to be more than joint training.
        rate: the inner rate.
        adapt: what adapts, as in `metaglot.learners.selection`; the rest is shared.
        alternate: let the inner steps of meta-training take turns between support and query set.
        outer_rate: the outer loop's step size.
        options: the others of `metaglot.learners.inner_loop.InnerLoop`.
    """

    needs = frozenset({"label-scores", "any"})

    init = inner_init
    begin = from_start
    solve = by_steps
    adapt = by_descent
    predict = by_parameters
    prepare = as_it_is
    outer_rate = start_and_rates
    write = nothing_written

    @takes(InnerLoop, but=("first_order", "learn_rates"))
    def __init__(
        self,
        steps: int = 5,
        rate: float = 8.0,
        adapt: str = "all",
        *,
        alternate: bool = True,
        outer_rate: float = 0.03,
        **options: Any,
    ) -> None:
        self.inner = InnerLoop(steps, rate, adapt, first_order=True, **options)
        self.alternate = alternate
        self.start_rate = outer_rate

    def meta_loss(self, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
        """Return the weighted mean query loss, a scalar, whose gradient by the start is θ − φ."""
        groups = descended(self, model, meta, episodes, learning=False)
        return mean_over(episodes, ((d.places, self._losses(model, meta, d)) for d in groups))

    def _losses(self, model: TaskModel, meta: Params, tasks: Descended) -> Tensor:
        """The tasks' surrogates `[m]`."""
        names = self.inner.adapted_names(model)
        found = losses(model, tasks.trajectory[-1], tasks.common, tasks.query)
        ends = tasks.trajectory[-1]
        if self.alternate:
            ends = self.inner.run(
                model,
                meta,
                tasks.begin,
                tasks.common,
                tasks.support,
                learning=False,
                turns=(tasks.query,),
            )[-1]
        for name in names:
            start = tasks.begin[name]
            # θ · (θ − φ), with θ − φ a constant: its derivative is θ − φ.
            surrogate = (start * (start - ends[name]).detach()).reshape(len(start), -1).sum(1)
            found = found + (surrogate - surrogate.detach())
        return found
