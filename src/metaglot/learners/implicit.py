"""Derivatives of a solution by its equation, whatever way it was found: the implicit function theorem.

    F(θ*, ω) = 0    ⇒    dθ*/dω = −A⁻¹ ∂F/∂ω,    A = ∂F/∂θ at θ*, symmetric

so that a vector v = ∂L/∂θ* becomes −(∂F/∂ω)ᵀ w, where A w = v is solved by conjugate gradients
(Hestenes & Stiefel 1952): products A p alone, by a second backward pass through F. Memory does not
depend on how many steps the solution took.

All tasks of a stack are solved at once: A is block-diagonal in them, and every task has its own
coefficients and stops by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from metaglot.types import Params

if TYPE_CHECKING:
    from torch import Tensor

Equation = Callable[[Params, Params], Params]
"""(θ, outer parameters) → F by the names of θ, each `[m, …]`, differentiable."""


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, *, steps: int, tolerance: float
) -> Tensor:
    """Return x `[m, N]` with A x = right, for a symmetric A of every task.

    A task stops where its residual is below `tolerance` times its right side, or where A turns out not
    to be positive definite; a task that stops so in the first step has x = right.

    Args:
        product: p `[m, N]` → A p `[m, N]`.
        right: the right sides `[m, N]`.
        steps: the most steps.
        tolerance: of the relative residual.
    """
    found = torch.zeros_like(right)
    residual, direction = right, right
    size = right.square().sum(1)
    enough = tolerance**2 * size
    live = size > 0
    for step in range(steps):
        live = live & (size > enough)
        if not bool(live.any()):
            break
        turned = product(direction)
        curvature = (direction * turned).sum(1)
        if step == 0:
            found = torch.where((live & (curvature <= 0)).unsqueeze(1), right, found)
        live = live & (curvature > 0)
        length = torch.where(live, size / curvature, 0.0).unsqueeze(1)
        found = found + length * direction
        residual = residual - length * turned
        before, size = size, residual.square().sum(1)
        direction = residual + torch.where(live, size / before, 0.0).unsqueeze(1) * direction
    return found


def linearised(equation: Equation, theta: Params, outer: Params) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return F `[m, N]` at a point, and the product p `[m, N]` → A p with its derivative there."""
    with torch.enable_grad():
        leaves = {n: v.detach().requires_grad_() for n, v in theta.items()}
        values = equation(leaves, outer)
    sources, ends = list(leaves.values()), [values[n] for n in leaves]

    def product(direction: Tensor) -> Tensor:
        return flat(
            torch.autograd.grad(
                ends,
                sources,
                parts(direction, sources),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        )

    return flat([value.detach() for value in ends]), product


def implicit(equation: Equation, theta: Params, outer: Params, *, steps: int, tolerance: float) -> Params:
    """Return a solution θ* of an equation, differentiable in the outer parameters.

    Args:
        equation: F.
        theta: θ*, each `[m, …]`.
        outer: ω.
        steps: the most conjugate gradient steps in the backward pass.
        tolerance: of their relative residual.
    """
    layout = (list(theta), list(outer))
    settings = (equation, layout, steps, tolerance)
    found = _Implicit.apply(settings, *theta.values(), *outer.values())  # type: ignore[no-untyped-call]
    return dict(zip(theta, found, strict=True))


class _Implicit(torch.autograd.Function):
    """θ* of ω, with the implicit function theorem as its backward pass."""

    @staticmethod
    def forward(ctx: Any, settings: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.settings = settings
        ctx.save_for_backward(*tensors)
        return tuple(t.detach().clone() for t in tensors[: len(settings[1][0])])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        equation, (names, others), steps, tolerance = ctx.settings
        saved = list(ctx.saved_tensors)
        theta = dict(zip(names, saved, strict=False))
        wanted = ctx.needs_input_grad[1 + len(names) :]
        with torch.enable_grad():
            leaves = {n: v.detach().requires_grad_() for n, v in theta.items()}
            outer = {
                n: v.detach().requires_grad_(asked)
                for n, v, asked in zip(others, saved[len(names) :], wanted, strict=True)
            }
            values = equation(leaves, outer)
        sources, ends = list(leaves.values()), [values[n] for n in names]

        def back(vector: Tensor, of: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return torch.autograd.grad(
                ends, of, parts(vector, sources), retain_graph=True, allow_unused=True, materialize_grads=True
            )

        solved = conjugate_gradients(
            lambda p: flat(back(p, sources)), flat(upstream), steps=steps, tolerance=tolerance
        )
        asked = [v for v in outer.values() if v.requires_grad]
        found = iter(back(-solved, asked) if asked else ())
        return (None, *[None] * len(names), *(next(found) if w else None for w in wanted))


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors `[m, …]` side by side, `[m, N]`."""
    return torch.cat([t.reshape(len(t), -1) for t in tensors], 1)


def parts(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return a vector `[m, N]` as tensors of the shapes of others."""
    sizes = [t[0].numel() for t in like]
    return [part.reshape(t.shape) for part, t in zip(torch.split(vector, sizes, 1), like, strict=True)]
