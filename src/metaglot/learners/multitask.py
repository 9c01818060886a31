"""Multi-task learning and fine-tuning: the transfer-learning reference that has no meta-learning in it.

    min over ω  Σₑ wₑ L(start, Sₑ ∪ Qₑ) / Σₑ wₑ,        θ_{i+1} = θ_i − α ∇_θ L(θ_i, S),    θ_0 = start

Caruana (1997), "Multitask learning": one set of parameters is trained on all examples of all tasks, and
adapting is plain fine-tuning with the same inner loop as the other learners have. What a learner is
worth is what it has over this one, on the same model, data and budget. The meta-loss is the joint
training loss, before any adapting; the inner rates are not learned, since it says nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metaglot.errors import SettingsError
from metaglot.learners.base import START, as_it_is, check_support, nothing_written
from metaglot.learners.gradient import (
    by_descent,
    by_parameters,
    by_steps,
    from_start,
    mean_over,
    start_and_rates,
    takes,
)
from metaglot.learners.inner_loop import InnerLoop
from metaglot.learners.stacking import Stack, alike, losses
from metaglot.types import Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Multitask:
    """Joint training on all tasks, then fine-tuning: the reference without meta-learning (multi-task).

    Args:
        steps: gradient steps of fine-tuning, at least 1.
        rate: their rate.
        adapt: what is fine-tuned, as in `metaglot.learners.selection`; the rest stays as trained.
        outer_rate: the outer loop's step size.
        options: the others of `metaglot.learners.inner_loop.InnerLoop`.
    """

    needs = frozenset({"label-scores", "any"})

    begin = from_start
    solve = by_steps
    adapt = by_descent
    predict = by_parameters
    prepare = as_it_is
    outer_rate = start_and_rates
    write = nothing_written

    @takes(InnerLoop, but=("learn_rates",))
    def __init__(
        self,
        steps: int = 5,
        rate: float = 8.0,
        adapt: str = "all",
        *,
        outer_rate: float = 0.03,
        **options: Any,
    ) -> None:
        self.inner = InnerLoop(steps, rate, adapt, **options)
        self.start_rate = outer_rate

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the model's own start.

        Raises:
            SettingsError: no two tasks have labels in common, so that there is nothing to train jointly.
        """
        meta = self.inner.init(model)
        nobodys = [n for n, v in meta.items() if v.numel() == 0]
        if nobodys:
            raise SettingsError(
                f"the learner 'multitask' trains one head on all tasks, and {type(model).__name__} has none: "
                f"{nobodys[0].removeprefix(START)!r} belongs to labels that no two tasks have in common.",
                hint="Give the model its n_labels, or choose a learner that adapts the head as it trains.",
            )
        return meta

    def meta_loss(self, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
        """Return the weighted mean loss, a scalar, of the start on all examples of the episodes."""
        return mean_over(
            episodes, ((places, self._losses(model, meta, episodes, places)) for places in alike(episodes))
        )

    def _losses(
        self, model: TaskModel, meta: Params, episodes: Sequence[Episode], places: Sequence[int]
    ) -> Tensor:
        """The joint losses `[m]` of tasks of one shape."""
        supports, queries = [episodes[p].support for p in places], [episodes[p].query for p in places]
        for support in supports:
            check_support(support)
        begin, common = self.begin(model, meta, supports)
        some, more = len(supports[0]), len(queries[0])
        on_support = losses(model, begin, common, Stack.of(supports))
        on_query = losses(model, begin, common, Stack.of(queries))
        return (some * on_support + more * on_query) / (some + more)
