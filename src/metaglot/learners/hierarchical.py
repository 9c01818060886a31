"""Hierarchical MAML: every group of tasks has a start of its own, drawn towards the one that all share.

    θ₀ = start + δ_g,    θ_{i+1} = θ_i − α ⊙ ∇_θ L(θ_i, S),    ω = (start, δ_1 … δ_G, α)

minimising, over ω, the mean query loss after the inner steps and a Gaussian prior on the offsets:

    Σₑ wₑ L(θ_K(Sₑ), Qₑ) / Σₑ wₑ + λ / (2G) Σ_g ‖δ_g‖²

Three levels: all tasks (start), a group (δ_g, of a language family), a task (the inner steps). The prior
is partial pooling (Gelman & Hill 2007, "Data analysis using regression and multilevel models", section
12.2): a group's own tasks weigh against it with their share of the meta-batch, so that a group of many
tasks gets the start that suits it and one of few stays near the shared one. A task of no known group
starts from the shared start (δ = 0), as the prior's mean has it. The start as the mean of a prior that
inner steps approximate the posterior of is Grant et al. (2018), "Recasting gradient-based meta-learning
as hierarchical Bayes"; groups between it and the tasks are Yao et al. (2019), "Hierarchically structured
meta-learning", where they are found by clustering. Here they are known.

One group alone has nothing to differ from: with fewer than two this is MAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import START, as_it_is, nothing_written
from metaglot.learners.gradient import (
    by_descent,
    by_parameters,
    by_steps,
    query_losses,
    start_and_rates,
    takes,
)
from metaglot.learners.inner_loop import InnerLoop
from metaglot.learners.stacking import stack_params
from metaglot.types import Batch, Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor

OFFSET = "offset."
"""What the names of the groups' offsets `[G, …]` begin with."""


class Hierarchical:
    """Gradient steps from a start that languages of one family share (hierarchical MAML).

    Args:
        steps: inner gradient steps, at least 1.
        rate: the inner rate to start from, as in MAML.
        adapt: what adapts, as in `metaglot.learners.selection`; the rest is shared by all groups.
        penalty: λ ≥ 0, the precision of the prior on the offsets.
        first_order: take inner gradients for constants.
        learn_rates: learn inner rates, one per `"parameter"`, `"element"` or `"step"`, or `"none"`.
        optimizer: the inner optimizer, `"sgd"` or `"adam"`.
        optimizer_options: its options, such as `{"momentum": 0.9}`.
        clip: the largest norm of an inner gradient.
        rates: pattern of names → the multiple of the rate that these parameters have.
        batch: examples of the support set that an inner step is on, in turn; 0 takes all of them.
        outer_rate: the outer loop's step size.
    """

    needs = frozenset({"label-scores", "any"})

    solve = by_steps
    adapt = by_descent
    predict = by_parameters
    prepare = as_it_is
    outer_rate = start_and_rates
    write = nothing_written

    @takes(InnerLoop)
    def __init__(
        self,
        steps: int = 5,
        rate: float = 8.0,
        adapt: str = "all",
        *,
        penalty: float = 0.01,
        learn_rates: str = "parameter",
        outer_rate: float = 0.03,
        **options: Any,
    ) -> None:
        if not penalty >= 0:
            raise SettingsError(f"expected penalty ≥ 0, found {penalty}.")
        self.penalty = penalty
        self.inner = InnerLoop(steps, rate, adapt, learn_rates=learn_rates, **options)
        self.start_rate = outer_rate

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the model's own start, the learned rates in logarithms, and offsets of zero."""
        meta = self.inner.init(model)
        if len(model.groups) < 2:
            return meta
        learned = {n: meta[START + n] for n in self.inner.adapted_names(model) if START + n in meta}
        return meta | {OFFSET + n: v.new_zeros(len(model.groups), *v.shape) for n, v in learned.items()}

    def begin(self, model: TaskModel, meta: Params, supports: Sequence[Batch]) -> tuple[Params, Params]:
        """Return the start of every task's group, and what is the same in all tasks.

        Raises:
            SettingsError: the model has no group of a support set's number.
        """
        begin, common = self.inner.begin(model, meta, [s.classes for s in supports])
        offsets = stack_params([model.rows(_offsets(meta, s.group), s.classes) for s in supports])
        return begin | {name: begin[name] + value for name, value in offsets.items()}, common

    def meta_loss(self, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
        """Return the weighted mean query loss and the prior's penalty, a scalar.

        Episodes of one shape are run at once, of whatever groups they are.
        """
        return query_losses(self, model, meta, episodes) + self.prior_loss(meta)

    def prior_loss(self, meta: Params) -> Tensor | float:
        """Return λ / (2G) Σ_g ‖δ_g‖², a scalar; zero where there are no offsets."""
        squares = [v.square().sum() / len(v) for name, v in meta.items() if name.startswith(OFFSET)]
        return self.penalty / 2 * torch.stack(squares).sum() if squares else 0.0


def _offsets(meta: Params, group: int) -> Params:
    """A group's offsets by parameter; zeros for no group (−1)."""
    found = {}
    for name, value in meta.items():
        if name.startswith(OFFSET):
            if group >= len(value):
                raise SettingsError(
                    f"expected a group from 0 to {len(value) - 1}, or −1 for none of them, found {group}.",
                    hint="The batch's groups have to be those of the model that the learner was started on.",
                )
            found[name.removeprefix(OFFSET)] = value[group] if group >= 0 else torch.zeros_like(value[0])
    return found
