"""Implicit MAML: the meta-gradient of an inner problem's solution, not of the steps towards it.

    θ*(S) = argmin_θ  L(θ, S) + λ/2 ‖θ − start‖²
    ∇_start L(θ*, Q) = (I + ∇²L(θ*, S)/λ)⁻¹ ∇_θ L(θ*, Q)

Rajeswaran, Finn, Kakade & Levine (2019), "Meta-learning with implicit gradients", eqs. 4 and 6. The
proximal term keeps the solution near the start, so that the start matters however long one descends.
The system is solved by conjugate gradients, on products with ∇²L: memory does not grow with the inner
steps, and the gradient is exact as far as the inner problem and the system are solved. It is
implicit differentiation (`metaglot.learners.implicit`) of the stationarity condition

    F(θ, ω) = θ − start + ∇_θ L(θ, S; shared)/λ = 0

by which the parameters that do not adapt get their gradient too, −wᵀ ∂F/∂shared, and λ, which is learned.

Two ways to solve the inner problem. `"descent"` makes `steps` gradient steps. `"newton"` makes up to
`steps` Newton steps, whose directions are found by conjugate gradients too and whose lengths are halved
until the objective falls: no inner rate to choose, and a convex loss (a linear head) is solved to the end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import as_it_is, nothing_written
from metaglot.learners.gradient import (
    by_descent,
    by_parameters,
    from_start,
    query_losses,
    start_and_rates,
    takes,
)
from metaglot.learners.implicit import conjugate_gradients, implicit, linearised, parts
from metaglot.learners.inner import descend
from metaglot.learners.inner_loop import InnerLoop
from metaglot.learners.stacking import Stack, losses
from metaglot.types import Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor

PENALTY = "log_penalty"
_ANCHOR = "anchor/"
SOLVERS = ("descent", "newton")
# A Newton step's length is halved so often at most; then the task stays where it is.
_HALVINGS = 10


class IMAML:
    """Proximal inner problems from a meta-learned start, differentiated implicitly (iMAML).

    Args:
        steps: gradient or Newton steps of the inner problem, at least 1.
        rate: the inner rate of gradient steps; with λ it must be below 2 / (λ + the loss's curvature).
        adapt: what adapts, as in `metaglot.learners.selection`; the rest is shared.
        penalty: λ > 0 to start from.
        learn_penalty: learn λ with the start.
        solver: `"newton"` or `"descent"`.
        cg_steps: the most conjugate gradient steps of one system.
        cg_tolerance: of the relative residual at which they stop.
        outer_rate: the outer loop's step size.
        options: the others of `metaglot.learners.inner_loop.InnerLoop`, for gradient steps.
    """

    needs = frozenset({"label-scores", "any"})

    begin = from_start
    adapt = by_descent
    predict = by_parameters
    prepare = as_it_is
    meta_loss = query_losses
    write = nothing_written

    @takes(InnerLoop, but=("first_order", "learn_rates", "batch"))
    def __init__(
        self,
        steps: int = 5,
        rate: float = 1.0,
        adapt: str = "all",
        *,
        penalty: float = 0.1,
        learn_penalty: bool = True,
        solver: str = "newton",
        cg_steps: int = 10,
        cg_tolerance: float = 1e-4,
        outer_rate: float = 0.03,
        **options: Any,
    ) -> None:
        if not penalty > 0 or cg_steps < 1 or not cg_tolerance >= 0:
            raise SettingsError(
                f"expected penalty > 0, cg_steps ≥ 1 and cg_tolerance ≥ 0, found {penalty}, {cg_steps} "
                f"and {cg_tolerance}."
            )
        if solver not in SOLVERS:
            raise SettingsError(f"expected solver to be one of {', '.join(SOLVERS)}, found {solver!r}.")
        self.inner = InnerLoop(steps, rate, adapt, **options)
        self.penalty = penalty
        self.learn_penalty = learn_penalty
        self.solver = solver
        self.cg_steps = cg_steps
        self.cg_tolerance = cg_tolerance
        self.start_rate = outer_rate

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the model's own start, and λ in logarithms if it is learned."""
        found = {PENALTY: torch.tensor(math.log(self.penalty))} if self.learn_penalty else {}
        return self.inner.init(model) | found

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return 0.03 if name == PENALTY else start_and_rates(self, name)

    def solve(
        self, model: TaskModel, meta: Params, begin: Params, common: Params, support: Stack, *, learning: bool
    ) -> list[Params]:
        """Return the tasks' start and the solution of their inner problems."""
        names = self.inner.adapted_names(model)
        anchors = {_ANCHOR + n: begin[n] for n in names}
        rest = {n: v for n, v in begin.items() if n not in names}
        log_penalty = meta[PENALTY] if self.learn_penalty else torch.tensor(math.log(self.penalty))
        outer = anchors | rest | common | {PENALTY: log_penalty}

        def loss(theta: Params, outer: Params) -> Tensor:
            stacked = theta | {n: outer[n] for n in rest}
            return losses(model, stacked, {n: outer[n] for n in common}, support)

        def objective(theta: Params, outer: Params, i: int = 0) -> Tensor:
            away = [(theta[n] - outer[_ANCHOR + n]).reshape(len(theta[n]), -1).square().sum(1) for n in names]
            return loss(theta, outer) + outer[PENALTY].exp() / 2 * torch.stack(away).sum(0)

        def equation(theta: Params, outer: Params) -> Params:
            found = torch.autograd.grad(
                loss(theta, outer).sum(),
                [theta[n] for n in names],
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            shrink = (-outer[PENALTY]).exp()
            return {n: theta[n] - outer[_ANCHOR + n] + shrink * g for n, g in zip(names, found, strict=True)}

        fixed = {n: v.detach() for n, v in outer.items()}
        theta = {n: begin[n].detach() for n in names}
        if self.solver == "newton":
            theta = self._newton(objective, equation, theta, fixed)
        else:
            rates = self.inner.fixed_rates(model, names)
            theta = descend(
                lambda theta, outer, i: objective(theta, outer).sum(),
                theta,
                fixed,
                steps=self.inner.steps,
                rate=lambda outer, name, i: rates[name],
                optimizer=self.inner.make_optimizer(),
                clip=self.inner.clip,
                learning=False,
            )[-1]
        if learning:
            theta = implicit(equation, theta, outer, steps=self.cg_steps, tolerance=self.cg_tolerance)
        return [begin, rest | theta]

    def _newton(self, objective: Any, equation: Any, theta: Params, outer: Params) -> Params:
        """θ after Newton steps with halving; a task that is solved, or that no step lowers, stays."""
        with torch.no_grad():
            value = objective(theta, outer)
        live = torch.ones_like(value, dtype=torch.bool)
        enough = torch.zeros_like(value)
        for i in range(self.inner.steps):
            found, product = linearised(equation, theta, outer)
            size = found.square().sum(1)
            if i == 0:
                enough = self.cg_tolerance**2 * size
            live = live & (size > enough)
            if not bool(live.any()):
                break
            right = torch.where(live.unsqueeze(1), found, 0.0)
            with torch.no_grad():
                step = conjugate_gradients(product, right, steps=self.cg_steps, tolerance=self.cg_tolerance)
                theta, value, live = _shortened(objective, theta, outer, step, value, live)
        return theta


def _shortened(
    objective: Any, theta: Params, outer: Params, step: Tensor, value: Tensor, live: Tensor
) -> tuple[Params, Tensor, Tensor]:
    """θ less the longest of the step's halves that lowers each live task's objective `[m]`, and which did."""
    moves = parts(step, list(theta.values()))
    length = torch.ones_like(value)
    best, ends = value, theta
    waiting = live
    for _ in range(_HALVINGS):
        tried = {
            n: v - length.reshape(-1, *[1] * (v.ndim - 1)) * move
            for (n, v), move in zip(theta.items(), moves, strict=True)
        }
        found = objective(tried, outer)
        better = waiting & (found < value)
        ends = {n: torch.where(better.reshape(-1, *[1] * (v.ndim - 1)), tried[n], v) for n, v in ends.items()}
        best = torch.where(better, found, best)
        waiting = waiting & ~better
        if not bool(waiting.any()):
            break
        length = length / 2
    return ends, best, live & ~waiting
