"""What the learners that adapt by gradient descent share: functions to be named in their class bodies.

A learner has an inner loop (`metaglot.learners.inner_loop`), says where its tasks begin (`begin`) and how
they are solved (`solve`), and takes the rest from here:

    adapt      solve(begin(meta, S), S)                       on one task
    meta_loss  Σₑ wₑ L(solve(begin(meta, Sₑ), Sₑ), Qₑ) / Σₑ wₑ    on all episodes of one shape at once
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch

from metaglot.learners.base import check_batch, check_support, weighted_mean
from metaglot.learners.inner_loop import RATE, InnerLoop, check_finite, names_of, whole_start
from metaglot.learners.stacking import Stack, alike, losses
from metaglot.types import Batch, Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


class GradientLearner(Protocol):
    """A learner that has an inner loop; `begin` and `solve` are most often `from_start` and `by_steps`."""

    @property
    def inner(self) -> InnerLoop: ...  # noqa: D102 - above

    def begin(self, model: Any, meta: Params, supports: Sequence[Batch]) -> tuple[Params, Params]:
        """Return what each task starts from `[m, …]`, and what is the same in all, as `InnerLoop.begin`."""
        ...

    def solve(
        self, model: Any, meta: Params, begin: Params, common: Params, support: Stack, *, learning: bool
    ) -> list[Params]:
        """Return the tasks' own parameters from beginning to end, as `InnerLoop.run`."""
        ...


@dataclass(frozen=True)
class Descended:
    """Tasks of one shape before and after their inner loops.

    Attributes:
        places: which of the episodes they are.
        support: their support sets.
        query: their query sets.
        begin: what they started from, each `[m, …]`, differentiable in the meta-parameters.
        trajectory: θ_0 … θ_K, every parameter `[m, …]` of the tasks' own.
        common: parameters that are the same in all tasks.
    """

    places: Sequence[int]
    support: Stack
    query: Stack
    begin: Params
    trajectory: list[Params]
    common: Params


def descended(
    learner: GradientLearner,
    model: TaskModel,
    meta: Params,
    episodes: Sequence[Episode],
    *,
    learning: bool | None = None,
    cut: bool = False,
) -> Iterator[Descended]:
    """Run the inner loops of episodes, those of one shape at once.

    Args:
        learner: whose `begin` and `solve` it is.
        model: the model.
        meta: the meta-parameters.
        episodes: the episodes.
        learning: whether to differentiate the inner loops; where a meta-parameter is, if None.
        cut: whether tasks may have the rows of embedding tables that they look up in place of the
            tables, which takes tasks that begin at the meta-learned start.

    Raises:
        DataError: a support set teaches nothing.
    """
    learning = is_learning(meta) if learning is None else learning
    for places in alike(episodes):
        supports = [episodes[p].support for p in places]
        for place in places:
            check_support(episodes[place].support)
            check_batch(episodes[place].query)
        begin, common = learner.begin(model, meta, supports)
        support_stack, query = Stack.of(supports), Stack.of([episodes[p].query for p in places])
        beside: Params = {}
        if cut:
            begin, beside = learner.inner.cut_tables(model, meta, begin, support_stack, query)
        trajectory = learner.solve(model, meta, begin, common, support_stack, learning=learning)
        yield Descended(places, support_stack, query, begin, trajectory, common | beside)


def mean_over(episodes: Sequence[Episode], found: Iterable[tuple[Sequence[int], Tensor]]) -> Tensor:
    """Return the weighted mean, a scalar, of (places, their losses) that are of all episodes."""
    losses: list[Tensor] = [torch.empty(0)] * len(episodes)
    for places, values in found:
        for place, value in zip(places, values, strict=True):
            losses[place] = value
    return weighted_mean(torch.stack(losses), [e.weight for e in episodes])


def is_learning(meta: Params) -> bool:
    """Return whether gradients are enabled and some meta-parameter wants one."""
    return torch.is_grad_enabled() and any(value.requires_grad for value in meta.values())


def is_head_alone(model: TaskModel) -> bool:
    """Return whether a model is a linear head on frozen features: then an adaptation is the whole head."""
    return model.outputs == "label-scores" and not getattr(model, "body", ())


# What gradient learners share, to be named in their class bodies.


def inner_init(learner: GradientLearner, model: TaskModel, generator: Generator) -> Params:
    """Return the model's own start, and the learned rates in logarithms."""
    return learner.inner.init(model)


def from_start(
    learner: GradientLearner, model: TaskModel, meta: Params, supports: Sequence[Batch]
) -> tuple[Params, Params]:
    """Return the tasks' rows of the meta-learned start, and what is the same in all tasks."""
    return learner.inner.begin(model, meta, [s.classes for s in supports])


def by_steps(
    learner: GradientLearner,
    model: TaskModel,
    meta: Params,
    begin: Params,
    common: Params,
    support: Stack,
    *,
    learning: bool,
) -> list[Params]:
    """Return the tasks' own parameters before and after every inner step."""
    return learner.inner.run(model, meta, begin, common, support, learning=learning)


def by_descent(learner: GradientLearner, model: TaskModel, meta: Params, support: Batch) -> Params:
    """Return the task's own parameters after the inner loop, differentiable in `meta`.

    Raises:
        DataError: the support set teaches nothing.
        TrainingError: the inner steps have diverged.
    """
    check_support(support)
    learning = is_learning(meta)
    begin, common = learner.begin(model, meta, [support])
    ends = learner.solve(model, meta, begin, common, Stack.of([support]), learning=learning)[-1]
    adapted = {n: v.squeeze(0) for n, v in ends.items()}
    if is_head_alone(model):
        adapted = {n: adapted[n] if n in adapted else common[n] for n in names_of(model)}
    if not learning:
        check_finite(adapted, learner.inner)
    return adapted


def by_parameters(
    learner: GradientLearner, model: TaskModel, meta: Params, adapted: Params, batch: Batch
) -> Any:
    """Return the model's outputs with the task's own parameters beside the shared ones."""
    return model.forward(model.rows(whole_start(model, meta), batch.classes) | adapted, batch)


def query_losses(
    learner: GradientLearner, model: TaskModel, meta: Params, episodes: Sequence[Episode]
) -> Tensor:
    """Return the weighted mean query loss at the end of the inner loop, a scalar.

    Episodes of one shape are run at once.
    """
    groups = descended(learner, model, meta, episodes, cut=type(learner).begin is from_start)
    return mean_over(
        episodes, ((d.places, losses(model, d.trajectory[-1], d.common, d.query)) for d in groups)
    )


def start_and_rates(learner: Any, name: str) -> float:
    """Return the outer loop's rate: the learner's own for the start, 0.03 for learned rates."""
    return 0.03 if name.startswith(RATE) else float(learner.start_rate)


_Made = TypeVar("_Made", bound=Callable[..., Any])


def takes(options_of: Callable[..., Any], *, but: Sequence[str] = ()) -> Callable[[_Made], _Made]:
    """Return a decorator: the function's `**options` are another's arguments, and are listed as such.

    Args:
        options_of: what the function passes its `**options` on to.
        but: arguments that the function gives itself, and refuses to be given.
    """

    def listed(function: _Made) -> _Made:
        own = inspect.signature(function)
        kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            p.replace(kind=p.KEYWORD_ONLY)
            for p in inspect.signature(options_of).parameters.values()
            if p.name not in own.parameters and p.name not in but
        ]

        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            for name in but:
                if name in options:
                    raise TypeError(f"{function.__qualname__}() got an unexpected keyword argument {name!r}")
            return function(*args, **options)

        checked.__signature__ = own.replace(parameters=[*kept, *more])  # type: ignore[attr-defined]
        return cast("_Made", checked)

    return listed
