"""BOIL: a head that all tasks share and a body that adapts ("body only update in inner loop").

    θ = (body, head),    body_{i+1} = body_i − α ∇_body L(body_i, head; S),    head the same in every step

Oh, Yoo, Kim & Yun (2021), "BOIL: towards representation change for few-shot learning", section 3: the
features move to where the head wants them, instead of the head to where the features are, which helps
where a new task needs other features. The head is meta-learned (ω has it) and so are its labels: tasks
must have their labels, or the outputs of a module, in common. It is MAML with adapt="body"; a head alone
on frozen features has no body, and is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metaglot.errors import SettingsError
from metaglot.learners.base import as_it_is, nothing_written
from metaglot.learners.gradient import (
    by_descent,
    by_parameters,
    by_steps,
    from_start,
    query_losses,
    start_and_rates,
    takes,
)
from metaglot.learners.inner_loop import InnerLoop, names_of
from metaglot.types import Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator


class BOIL:
    """Gradient steps of the body alone, towards a head that stays (BOIL).

    Args:
        steps: inner gradient steps, at least 1.
        rate: the inner rate.
        outer_rate: the outer loop's step size.
        options: the others of `metaglot.learners.inner_loop.InnerLoop`.
    """

    needs = frozenset({"any"})

    begin = from_start
    solve = by_steps
    adapt = by_descent
    predict = by_parameters
    prepare = as_it_is
    meta_loss = query_losses
    outer_rate = start_and_rates
    write = nothing_written

    @takes(InnerLoop, but=("adapt",))
    def __init__(
        self, steps: int = 5, rate: float = 0.1, *, outer_rate: float = 0.003, **options: Any
    ) -> None:
        self.inner = InnerLoop(steps, rate, "body", **options)
        self.start_rate = outer_rate

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the model's own start, and the learned rates in logarithms.

        Raises:
            SettingsError: the model has no body, or its head is not the same in two tasks.
        """
        if set(names_of(model)) <= model.head:
            raise SettingsError(
                f"the learner 'boil' adapts a model's body, and {type(model).__name__} has none: "
                "it is a head alone, on features that are frozen.",
                hint="Choose 'anil' or 'maml', which adapt the head.",
            )
        return self.inner.init(model)
