"""An inner loop's settings, and where tasks start.

    ω = (start, log rates),    θ_{i+1} = θ_i − α ⊙ ∇_θ L(θ_i; shared),    θ_0 = the chosen part of start

The start of parameters whose meaning differs from task to task (`fixed_start`) is not learned. Where
parameters belong to labels (a head's rows), a task has the rows of its own labels, and a label that
the sources do not have starts at zero.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from metaglot.errors import SettingsError, TrainingError
from metaglot.learners import embeddings
from metaglot.learners.base import start_of, started
from metaglot.learners.compiled import compiled_gradients, is_compiled
from metaglot.learners.inner import InnerOptimizer, descend, gradients_of, inner_optimizer
from metaglot.learners.selection import select
from metaglot.learners.stacking import Stack, losses, spread, stack_params
from metaglot.types import Params, TaskModel

if TYPE_CHECKING:
    from torch import Tensor

RATE = "log_rate."
"""What the names of learned inner rates, in logarithms, begin with."""
LEARNED_RATES = ("none", "parameter", "element", "step")


@dataclass(frozen=True)
class InnerLoop:
    """How a task's parameters descend.

    Args:
        steps: inner gradient steps K, at least 1.
        rate: the inner rate α to start from, in units of the loss's gradient.
        adapt: what adapts (`metaglot.learners.selection`); the rest is shared by all tasks.
        first_order: take inner gradients for constants.
        learn_rates: `"none"`: α stays; `"parameter"`: one rate for every named parameter is learned;
            `"element"`: one for each of its elements; `"step"`: one per parameter and step.
        optimizer: `"sgd"` or `"adam"`.
        optimizer_options: its options, such as `{"momentum": 0.9}` or `{"weight_decay": 0.01}`.
        clip: the largest norm of a task's gradient; None does not clip.
        rates: pattern of names → the fixed multiple of α that these parameters have.
        batch: examples of the support set that a step is on; the next step is on those after them, in turn.
            0 takes all at every step.

    Raises:
        SettingsError: a setting is out of its range.
    """

    steps: int = 5
    rate: float = 0.1
    adapt: str = "all"
    first_order: bool = False
    learn_rates: str = "none"
    optimizer: str = "sgd"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    clip: float | None = None
    rates: dict[str, float] = field(default_factory=dict)
    batch: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.rate > 0 or self.batch < 0:
            raise SettingsError(
                f"expected steps ≥ 1, rate > 0 and batch ≥ 0, found steps={self.steps}, rate={self.rate} "
                f"and batch={self.batch}."
            )
        if self.learn_rates not in LEARNED_RATES:
            raise SettingsError(
                f"expected learn_rates to be one of {', '.join(LEARNED_RATES)}, found {self.learn_rates!r}."
            )
        if self.clip is not None and not self.clip > 0:
            raise SettingsError(f"expected clip > 0, found {self.clip}.")
        if any(not multiple >= 0 for multiple in self.rates.values()):
            raise SettingsError(f"expected multiples ≥ 0 of the inner rate, found {self.rates}.")
        self.make_optimizer()

    def make_optimizer(self) -> InnerOptimizer:
        """Return the update rule."""
        return inner_optimizer(self.optimizer, **self.optimizer_options)

    def init(self, model: TaskModel) -> Params:
        """Return the model's start, and the learned rates in logarithms, as meta-parameters.

        Raises:
            SettingsError: a pattern matches nothing, or what is chosen can learn nothing.
        """
        rates, start = self.initial_rates(model), model.init(model.n_labels)
        adapted = self.adapted_names(model)
        nobodys = [n for n, v in start.items() if v.numel() == 0 and n not in adapted]
        if nobodys:
            raise SettingsError(
                f"expected {nobodys[0]!r} to adapt, since it belongs to labels that no two tasks have in "
                f"common; found adapt={self.adapt!r}, so that it would stay zero and nothing be learned.",
                hint=f"Write adapt='{self.adapt}+head', or give the model its n_labels.",
            )
        return started({n: v for n, v in start.items() if n not in model.fixed_start}) | rates

    def initial_rates(self, model: TaskModel) -> Params:
        """Return the learned rates in logarithms, as meta-parameters; none where they are fixed."""
        start = model.init(model.n_labels)
        adapted = select(model, self.adapt, list(start))
        for pattern in self.rates:
            select(model, pattern, adapted)
        size = math.log(self.rate)
        if self.learn_rates == "parameter":
            return {RATE + n: torch.tensor(size) for n in adapted}
        if self.learn_rates == "step":
            return {RATE + n: torch.full((self.steps,), size) for n in adapted}
        if self.learn_rates == "element":
            # Of labels that no two tasks have in common, all have the same rates.
            shapes = {n: start[n].shape if start[n].numel() else (1, *start[n].shape[1:]) for n in adapted}
            return {RATE + n: torch.full(shape, size) for n, shape in shapes.items()}
        return {}

    def begin(self, model: TaskModel, meta: Params, classes: Sequence[Tensor]) -> tuple[Params, Params]:
        """Return what the tasks of these classes `[C]` each start from.

        Returns:
            Parameters of every task's own `[m, …]`, those that adapt among them, and parameters that
            are the same in all tasks.
        """
        start = whole_start(model, meta)
        own = self.adapted_names(model)
        if all(torch.equal(c, classes[0]) for c in classes):
            rows = model.rows(start, classes[0])
            return spread({n: rows[n] for n in own}, len(classes)), {
                n: v for n, v in rows.items() if n not in own
            }
        tasks = [model.rows(start, c) for c in classes]
        common = {n: v for n, v in start.items() if n not in own and tasks[0][n] is v}
        return stack_params([{n: v for n, v in t.items() if n not in common} for t in tasks]), common

    def adapted_names(self, model: TaskModel) -> tuple[str, ...]:
        """Return the names of the parameters that adapt.

        Raises:
            SettingsError: the model has no parameter that the choice stands for.
        """
        return select(model, self.adapt, names_of(model))

    def cut_tables(
        self, model: TaskModel, meta: Params, begin: Params, support: Stack, query: Stack
    ) -> tuple[Params, Params]:
        """Return θ_0 with embedding tables cut to the rows that support sets look up.

        Returns:
            What `begin` is to be, and what a query set's loss needs beside it.
        """
        decays = self.optimizer_options.get("weight_decay", 0.0) != 0.0
        names = self.adapted_names(model)
        tables = [n for n in names if n.endswith("." + embeddings.WEIGHT) and begin[n].ndim == 3]
        if (
            decays
            or not tables
            or self.learn_rates == "element"
            or all(block.is_floating_point() for block in support.inputs.values())
        ):
            return begin, {}
        start = start_of(meta)
        rest: Params = {}
        for table, source in embeddings.links(model, start, [support.task(0), query.task(0)]).items():
            name = f"{table}.{embeddings.WEIGHT}"
            found = (
                embeddings.cut(table, start[name], support.inputs[source], even=is_compiled(model))
                if name in tables
                else None
            )
            if found is not None:
                own, slots, base = found
                begin, rest = begin | own | slots, rest | base
        return begin, rest

    def run(
        self,
        model: TaskModel,
        meta: Params,
        begin: Params,
        common: Params,
        support: Stack,
        *,
        learning: bool,
        turns: Sequence[Stack] = (),
        kept: Collection[int] | None = None,
    ) -> list[Params]:
        """Return θ_0 … θ_K, each with every parameter `[m, …]` of the tasks' own.

        Args:
            model: the model.
            meta: where the learned rates are.
            begin: θ_0 and others of the tasks' own, each `[m, …]`.
            common: the parameters that are the same in all tasks.
            support: the tasks' support sets.
            learning: whether the result is to be differentiated.
            turns: other batches of the same tasks, which the steps take turns between with `support`.
            kept: the i of the θ_i that are wanted beside θ_K, all if None; see `descend`.
        """
        cut = zip_longest(*(stack.parts(self.batch) for stack in (support, *turns)))
        batches = [part for parts in cut for part in parts if part is not None]
        names = self.adapted_names(model)
        own = {n: begin[n] for n in names}
        rest = {n: v for n, v in begin.items() if n not in own}
        rates = self._rates(model, meta, names, support.classes)
        fixed = self.fixed_rates(model, names)

        def objective(theta: Params, outer: Params, i: int) -> Tensor:
            stacked = theta | {n: outer[n] for n in rest}
            return losses(model, stacked, {n: outer[n] for n in common}, batches[i % len(batches)]).sum()

        def rate(outer: Params, name: str, i: int) -> Tensor | float:
            if self.learn_rates == "none":
                return fixed[name]
            learned = outer[RATE + name]
            return learned[min(i, len(learned) - 1)] if self.learn_rates == "step" else learned

        eager = partial(gradients_of, objective)
        trajectory = descend(
            objective,
            own,
            rest | common | rates,
            steps=self.steps,
            rate=rate,
            optimizer=self.make_optimizer(),
            clip=self.clip,
            exact=not self.first_order,
            learning=learning,
            kept=kept,
            gradients=compiled_gradients(model, eager, batches, rest, common) if is_compiled(model) else None,
        )
        return [rest | theta for theta in trajectory]

    def fixed_rates(self, model: TaskModel, names: Sequence[str]) -> dict[str, float]:
        """Return the inner rates by name as they are before any is learned."""
        return {n: self.rate * multiple for n, multiple in self._multiples(model, names).items()}

    def _multiples(self, model: TaskModel, names: Sequence[str]) -> dict[str, float]:
        multiples = dict.fromkeys(names, 1.0)
        for pattern, multiple in self.rates.items():
            multiples |= dict.fromkeys(select(model, pattern, names), multiple)
        return multiples

    def _rates(self, model: TaskModel, meta: Params, names: Sequence[str], classes: Tensor) -> Params:
        """The learned rates α by name; nothing where they are fixed."""
        if self.learn_rates == "none":
            return {}
        multiples = self._multiples(model, names)
        rates = {n: meta[RATE + n].exp() * multiples[n] for n in names}
        if self.learn_rates == "element":
            rates |= _rates_of_labels(model, rates, classes)
        return {RATE + n: value for n, value in rates.items()}


def _rates_of_labels(model: TaskModel, rates: Params, classes: Tensor) -> Params:
    """Rates per element `[m, …]`; a label that is new has the mean of the others'."""
    start = model.init(model.n_labels)
    rates = {n: value for n, value in rates.items() if start[n].numel()}
    every = start | rates

    def of(rows: Tensor) -> Params:
        taken = model.rows(every, rows)
        if not bool((rows < 0).any()):
            return {n: taken[n] for n in rates}
        # Rows of a new label come as zeros: put the mean rate of the parameter there.
        ones = model.rows({n: torch.ones_like(v) for n, v in every.items()}, rows)
        return {n: taken[n] + (1 - ones[n]) * rates[n].mean() for n in rates}

    return stack_params([of(rows) for rows in classes])


_NAMES: WeakKeyDictionary[Any, tuple[str, ...]] = WeakKeyDictionary()


def names_of(model: TaskModel) -> tuple[str, ...]:
    """Return the names of a model's parameters, from input to output."""
    if model not in _NAMES:
        _NAMES[model] = tuple(model.init(model.n_labels))
    return _NAMES[model]


def whole_start(model: TaskModel, meta: Params) -> Params:
    """Return the model's parameters that every task starts from, those that are not learned too."""
    start = start_of(meta)
    return model.init(model.n_labels) | start if model.fixed_start else start


def check_finite(params: Params, inner: InnerLoop) -> None:
    """Raise a `TrainingError` where inner steps have diverged."""
    broken = [name for name, value in params.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise TrainingError(
            f"expected finite parameters after {inner.steps} inner steps at a rate of {inner.rate:g}, "
            f"found {broken[0]!r} infinite or not a number.",
            hint="Lower the inner rate (rate), or clip the inner gradients (clip=1.0).",
        )
