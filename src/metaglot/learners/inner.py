"""The inner loop: gradient descent on a task's loss that can itself be differentiated.

    θ_{i+1}, s_{i+1} = step(θ_i, g_i, s_i),    g_i = ∇_θ L(θ_i; ω),    i = 0 … K − 1

(Finn, Abbeel & Levine 2017, "Model-agnostic meta-learning for fast adaptation of deep networks",
eq. 1). Three ways to run it, which give the same θ_K:

- *exact*: every g_i keeps its graph, so that dθ_K/dω has the curvature, products of (I − α∇²L);
- *first order*: g_i is a constant (ibid., section 5.2), which leaves the curvature out;
- exact with *recomputation*: nothing but the θ_i is kept, and the backward pass makes the graph of
  one step at a time anew. Memory no longer grows with K, for one more pass over every step.

Parameters and losses have a leading dimension of tasks m (see `stacking`): tasks are independent, so
that the gradient of the sum of their losses is each one's own gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import torch

from metaglot.errors import SettingsError, suggestion
from metaglot.types import Params

if TYPE_CHECKING:
    from torch import Tensor

Objective = Callable[[Params, Params, int], "Tensor"]
"""(θ, outer parameters, step) → the sum of the tasks' losses, a scalar."""
Rates = Callable[[Params, str, int], "Tensor | float"]
"""(outer parameters, name, step) → the inner rate, which broadcasts against the named parameter."""
Gradients = Callable[[Params, Params, int, bool], Params]
"""(θ, outer parameters, step, whether they are to be differentiated) → the objective's gradients by θ."""


_Stepped = tuple[Params, Params]


class InnerOptimizer(Protocol):
    """A differentiable update rule of the inner loop; the state is named tensors like parameters."""

    def init(self, params: Params) -> Params:
        """Return the state to start from."""
        ...

    def step(
        self, params: Params, gradients: Params, state: Params, rate: Rates, outer: Params, i: int
    ) -> Any:
        """Return the parameters and the state after step i."""
        ...


class SGD:
    """Gradient descent, with momentum and weight decay if wished.

        v ← μ v + g + β θ,    θ ← θ − α v

    Args:
        momentum: μ, from 0 up to but not 1.
        weight_decay: β ≥ 0.
    """

    def __init__(self, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        if not 0 <= momentum < 1 or weight_decay < 0:
            raise SettingsError(
                f"expected 0 ≤ momentum < 1 and weight_decay ≥ 0, found {momentum} and {weight_decay}."
            )
        self.momentum = momentum
        self.weight_decay = weight_decay

    def init(self, params: Params) -> Params:
        """Return velocities of zero; nothing without momentum."""
        return {n: torch.zeros_like(v) for n, v in params.items()} if self.momentum else {}

    def step(
        self, params: Params, gradients: Params, state: Params, rate: Rates, outer: Params, i: int
    ) -> _Stepped:
        """Return the parameters and the velocities after step i."""
        moved, velocities = {}, {}
        for name, value in params.items():
            gradient = gradients[name]
            if self.weight_decay:
                gradient = gradient + self.weight_decay * value
            if self.momentum:
                gradient = velocities[name] = self.momentum * state[name] + gradient
            moved[name] = _descend(value, gradient, rate(outer, name, i))
        return moved, velocities


class Adam:
    """Adam whose every step is differentiable, with decoupled weight decay (AdamW).

        m ← β₁ m + (1 − β₁) g,    v ← β₂ v + (1 − β₂) g²
        θ ← θ − α (m̂ / (√(v̂ + ε²) + ε) + β θ)

    Kingma & Ba (2015), algorithm 1; Loshchilov & Hutter (2019). The ε² under the root is ours: without
    it the derivative of √v̂ at a gradient of zero is infinite.
    """

    def __init__(
        self, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas) or eps <= 0 or weight_decay < 0:
            raise SettingsError(
                f"expected betas in [0, 1), eps > 0 and weight_decay ≥ 0, "
                f"found {betas}, {eps} and {weight_decay}."
            )
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay

    def init(self, params: Params) -> Params:
        """Return both moments at zero."""
        return {f"{slot}/{n}": torch.zeros_like(v) for n, v in params.items() for slot in ("first", "second")}

    def step(
        self, params: Params, gradients: Params, state: Params, rate: Rates, outer: Params, i: int
    ) -> _Stepped:
        """Return the parameters and the moments after step i."""
        one, two = self.betas
        moved, moments = {}, {}
        for name, value in params.items():
            gradient = gradients[name]
            first = one * state[f"first/{name}"] + (1 - one) * gradient
            second = two * state[f"second/{name}"] + (1 - two) * gradient.square()
            moments[f"first/{name}"], moments[f"second/{name}"] = first, second
            size = (second / (1 - two ** (i + 1)) + self.eps**2).sqrt() + self.eps
            update = first / (1 - one ** (i + 1)) / size
            if self.weight_decay:
                update = update + self.weight_decay * value
            moved[name] = _descend(value, update, rate(outer, name, i))
        return moved, moments


INNER_OPTIMIZERS: dict[str, Callable[..., InnerOptimizer]] = {"sgd": SGD, "adam": Adam}


def inner_optimizer(name: str, **options: Any) -> InnerOptimizer:
    """Return an inner optimizer by name.

    Raises:
        SettingsError: there is none of that name, or it has no such option.
    """
    if name not in INNER_OPTIMIZERS:
        known = ", ".join(INNER_OPTIMIZERS)
        raise SettingsError(
            f"expected an inner optimizer ({known}), found {name!r}.", hint=suggestion(name, INNER_OPTIMIZERS)
        )
    try:
        return INNER_OPTIMIZERS[name](**options)
    except TypeError as error:
        raise SettingsError(f"the options of the inner optimizer {name!r} are wrong: {error}.") from error


def clipped(gradients: Params, most: float) -> Params:
    """Return each task's gradients scaled to a norm of at most `most`; the first dimension is tasks."""
    squares = [g.reshape(len(g), -1).square().sum(1) for g in gradients.values()]
    # The norm's derivative at zero is infinite: the floor is far below any norm that is clipped.
    norm = torch.stack(squares).sum(0).clamp(min=(1e-6 * most) ** 2).sqrt()
    factor = (most / norm).clamp(max=1.0)
    return {n: g * factor.reshape(-1, *[1] * (g.ndim - 1)) for n, g in gradients.items()}


def gradients_of(objective: Objective, theta: Params, outer: Params, i: int, graph: bool) -> Params:
    """Return the gradient of an objective by every parameter at step i.

    Args:
        objective: the sum of the tasks' losses.
        theta: θ, which want gradients.
        outer: the outer parameters.
        i: the step.
        graph: whether the gradients are to be differentiated.

    Raises:
        SettingsError: the loss depends on none of the parameters.
    """
    names = list(theta)
    loss = objective(theta, outer, i)
    if not loss.requires_grad:
        raise SettingsError(
            f"expected a loss that depends on what adapts ({', '.join(names[:3])}"
            f"{', …' if len(names) > 3 else ''}), found one that does not.",
            hint="Is something on the way detached, rounded or converted to numbers?",
        )
    # `allow_unused`: a parameter may have no part in the loss, such as a prior's scale without a prior.
    found = torch.autograd.grad(
        loss,
        [theta[n] for n in names],
        create_graph=graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(names, found, strict=True))


def descend(
    objective: Objective,
    params: Params,
    outer: Params,
    *,
    steps: int,
    rate: Rates,
    optimizer: InnerOptimizer,
    clip: float | None = None,
    exact: bool = True,
    learning: bool = True,
    kept: Collection[int] | None = None,
    gradients: Gradients | None = None,
) -> list[Params]:
    """Return θ_0 … θ_K of gradient descent on an objective, or some of them.

    Args:
        objective: the sum of the tasks' losses as a function of θ and the outer parameters.
        params: θ_0, each parameter `[m, …]`.
        outer: everything else that is differentiated: shared parameters, learned rates.
        steps: K.
        rate: the inner rates.
        optimizer: the update rule.
        clip: the largest norm of a task's gradient.
        exact: differentiate through the gradients; else they are constants.
        learning: whether the result is to be differentiated at all.
        kept: the i of the θ_i that are wanted where nothing is to be differentiated, all if None: a long way
            need not be remembered.
        gradients: the objective's, where there is a faster way to them than `gradients_of`.
    """
    find = gradients or functools.partial(gradients_of, objective)

    def step(i: int, theta: Params, state: Params, outer: Params, graph: bool) -> _Stepped:
        gradients = find(theta, outer, i, graph)
        if clip is not None:
            gradients = clipped(gradients, clip)
        stepped: _Stepped = optimizer.step(theta, gradients, state, rate, outer, i)
        return stepped

    with torch.enable_grad():
        if learning and exact and _RECOMPUTE.get():
            return _recomputed(step, params, optimizer.init(params), outer, steps)
        theta = params if learning else _fresh(params)
        theta = {n: v if v.requires_grad else v.detach().requires_grad_() for n, v in theta.items()}
        state = optimizer.init(theta)
        trajectory = [theta]
        for i in range(steps):
            theta, state = step(i, theta, state, outer, learning and exact)
            if not learning:
                theta, state = _fresh(theta), {n: v.detach() for n, v in state.items()}
            if not learning and kept is not None and i not in kept:
                trajectory.pop()
            trajectory.append(theta)
    return trajectory if learning else [{n: v.detach() for n, v in theta.items()} for theta in trajectory]


_RECOMPUTE: ContextVar[bool] = ContextVar("recompute", default=False)


@contextmanager
def recomputation(on: bool = True) -> Iterator[None]:
    """Within it, exact inner loops keep no graph and make it anew in the backward pass."""
    token = _RECOMPUTE.set(on)
    try:
        yield
    finally:
        _RECOMPUTE.reset(token)


_Step = Callable[[int, Params, Params, Params, bool], _Stepped]


def _recomputed(step: _Step, params: Params, state: Params, outer: Params, steps: int) -> list[Params]:
    """The trajectory, with a backward pass of its own."""
    layout = (list(params), list(state), list(outer))
    flat = _Unrolled.apply(step, layout, steps, *params.values(), *state.values(), *outer.values())  # type: ignore[no-untyped-call]
    width = len(params)
    places = range(0, steps * width, width)
    return [params, *(dict(zip(params, flat[p : p + width], strict=True)) for p in places)]


class _Unrolled(torch.autograd.Function):
    """θ_1 … θ_K of θ_0; the backward pass goes through one step's graph after the other."""

    @staticmethod
    def forward(ctx: Any, step: _Step, layout: Any, steps: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        theta, state, outer = _split(layout, [t.detach() for t in tensors])
        kept: list[Tensor] = [*theta.values(), *state.values()]
        flat: list[Tensor] = []
        for i in range(steps):
            with torch.enable_grad():
                theta, state = step(i, _fresh(theta), state, outer, False)
            theta = {n: v.detach() for n, v in theta.items()}
            state = {n: v.detach() for n, v in state.items()}
            flat += theta.values()
            if i < steps - 1:
                kept += [*theta.values(), *state.values()]
        ctx.step, ctx.layout, ctx.steps = step, layout, steps
        ctx.save_for_backward(*kept, *outer.values())
        ctx.set_materialize_grads(False)
        return tuple(flat)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        names, slots, others = ctx.layout
        saved = list(ctx.saved_tensors)
        span = len(names) + len(slots)
        outer = _fresh(dict(zip(others, saved[ctx.steps * span :], strict=True)))
        towards: list[Tensor | None] = [None] * span
        total: list[Tensor | None] = [None] * len(others)
        for i in reversed(range(ctx.steps)):
            theta, state, _ = _split((names, slots, []), saved[i * span : (i + 1) * span])
            theta, state = _fresh(theta), _fresh(state)
            ends = upstream[i * len(names) : (i + 1) * len(names)]
            towards[: len(names)] = [_sum(a, b) for a, b in zip(towards[: len(names)], ends, strict=True)]
            with torch.enable_grad():
                moved, after = ctx.step(i, theta, state, outer, True)
            pairs = [
                (out, grad)
                for out, grad in zip([*moved.values(), *after.values()], towards, strict=True)
                if grad is not None and out.requires_grad
            ]
            sources = [*theta.values(), *state.values(), *outer.values()]
            found: list[Tensor | None] = [None] * len(sources)
            if pairs:
                places = [place for place, source in enumerate(sources) if source.requires_grad]
                grads = torch.autograd.grad(
                    [out for out, _ in pairs],
                    [sources[place] for place in places],
                    [grad for _, grad in pairs],
                    allow_unused=True,
                )
                for place, grad in zip(places, grads, strict=True):
                    found[place] = grad
            towards = found[:span]
            total = [_sum(a, b) for a, b in zip(total, found[span:], strict=True)]
        return (None, None, None, *towards, *total)


def _split(layout: Any, tensors: Sequence[Tensor]) -> tuple[Params, Params, Params]:
    found, start = [], 0
    for names in layout:
        found.append(dict(zip(names, tensors[start : start + len(names)], strict=True)))
        start += len(names)
    return found[0], found[1], found[2]


def _fresh(params: Params) -> Params:
    fresh = {n: v.detach() for n, v in params.items()}
    return {n: v.requires_grad_() if v.is_floating_point() else v for n, v in fresh.items()}


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _descend(value: Tensor, update: Tensor, rate: Tensor | float) -> Tensor:
    if isinstance(rate, torch.Tensor):
        return torch.addcmul(value, update, rate.to(value.dtype), value=-1)
    # An addition of −α times: the derivative of a subtraction would be negated in a pass of its own.
    return torch.add(value, update, alpha=-rate)
