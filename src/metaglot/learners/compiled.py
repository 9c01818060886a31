"""The gradient of an inner step as one compiled function (`ModuleModel(..., compile=True)`).

An inner step is made of hundreds of small operations. Here the step's gradient

    g(θ; ω, batch) = ∇_θ Σ_tasks L,    and, for the exact outer gradient, v ↦ vᵀ ∂g/∂(θ, ω, batch)

are traced together to one flat graph by `make_fx`, which is cut in two where the least is to be kept
between them, as PyTorch's own compiler cuts forward and backward passes; `torch.compile` makes code of
both. Since both derivatives are in the trace, whatever a module detaches stays detached. Every tensor is
an argument, so that one function serves all steps, tasks and meta-steps of its shapes.

A trace has only what was traced: numbers that a module takes out of its tensors would be constants in it.
It is therefore made on other values than the first step's and must then give that step's own derivatives;
if it does not, or cannot be made, a warning says why and the step runs as it would without.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from metaglot.errors import SettingsError
from metaglot.learners.inner import Gradients, gradients_of
from metaglot.learners.stacking import Stack, losses
from metaglot.progress import console
from metaglot.types import Params, TaskModel

if TYPE_CHECKING:
    from torch import Tensor

_BACKEND = "inductor"
# How far a compiled derivative may be from the plain one, relative to its norm.
_CLOSE = {torch.float64: 1e-6, torch.float32: 1e-3}
_ROUGHLY = 3e-2
# Rounding in derivatives that are zero: this share of the largest one's norm counts as norm.
_FLOOR = 1e-2

_ON: ContextVar[bool] = ContextVar("compiled", default=True)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Within it, inner steps run as they are (what is run once is not worth compiling)."""
    token = _ON.set(False)
    try:
        yield
    finally:
        _ON.reset(token)


def check_compile(*, compile: bool, dropout: bool) -> bool:
    """Return whether inner steps are compiled.

    Raises:
        SettingsError: dropout is on too.
    """
    if compile and dropout:
        raise SettingsError(
            "expected compile=True or dropout=True, found both: a compiled inner step draws nothing.",
            hint="Leave one of them out.",
        )
    return compile


def is_compiled(model: object) -> bool:
    """Return whether a model is to have its inner steps compiled."""
    return bool(getattr(model, "compile", False))


@dataclass(frozen=True)
class _Compiled:
    """A step's gradient, and its vector-Jacobian product if it is to be differentiated.

    Attributes:
        forward: tensors → the gradients, then what `back` keeps.
        back: what is kept, cotangents → the gradients by the tensors at `places`; or None.
        count: how many gradients there are.
        places: which of the tensors are differentiated by.
    """

    forward: Callable[..., Sequence[Tensor]]
    back: Callable[..., Sequence[Tensor]] | None
    count: int
    places: Sequence[int]

    def __call__(self, flat: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the gradients."""
        if self.back is not None:
            return _Step.apply(self, *flat)  # type: ignore[no-any-return, no-untyped-call]
        with torch.no_grad():
            return self.forward(*_plain(flat))


class _Step(torch.autograd.Function):
    """The two halves of a compiled step."""

    @staticmethod
    def forward(ctx: Any, compiled: _Compiled, *flat: Tensor) -> tuple[Tensor, ...]:
        found = compiled.forward(*_plain(flat))
        ctx.compiled, ctx.width = compiled, len(flat)
        ctx.save_for_backward(*found[compiled.count :])
        return tuple(found[: compiled.count])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *towards: Tensor) -> tuple[Any, ...]:
        back: list[Tensor | None] = [None] * ctx.width
        found = ctx.compiled.back(*ctx.saved_tensors, *_plain(towards))
        for place, gradient in zip(ctx.compiled.places, found, strict=True):
            back[place] = gradient
        return (None, *back)


_KNOWN: WeakKeyDictionary[Any, dict[Any, _Compiled | None]] = WeakKeyDictionary()


def compiled_gradients(
    model: TaskModel, eager: Gradients, batches: Sequence[Stack], rest: Params, common: Params
) -> Gradients:
    """Return the gradients of the tasks' losses at an inner step, compiled on the first use of a shape.

    Args:
        model: the model, which keeps what is compiled for it.
        eager: the same gradients as they are without.
        batches: what the steps take turns between.
        rest: the tasks' own parameters that do not adapt, whose values are among the outer ones.
        common: parameters that all tasks share, whose values are among the outer ones.
    """

    def gradients(theta: Params, outer: Params, i: int, graph: bool) -> Params:
        stack = batches[i % len(batches)]
        known = _KNOWN.setdefault(model, {})
        step = _Traced(model, theta, {n: outer[n] for n in rest}, {n: outer[n] for n in common}, stack, graph)
        compiled: _Compiled | None = None
        try:
            if _ON.get():
                if step.key not in known:
                    known[step.key] = _compile(step)
                compiled = known[step.key]
            if compiled is not None:
                return dict(zip(theta, compiled(step.flat), strict=True))
        except Exception as error:
            found = eager(theta, outer, i, graph)  # which raises what is wrong with the batch itself
            if all(known.values()):
                said = " ".join(str(error).split("\n")[:2]).strip()
                warnings.warn(
                    f"The inner step cannot be compiled ({type(error).__name__}: {said}); it runs "
                    "uncompiled, with the same result in more time.",
                    stacklevel=5,
                )
            known[step.key] = None
            return found
        return eager(theta, outer, i, graph)

    return gradients


class _Traced:
    """A step's gradient as a function of a flat list of tensors.

    Attributes:
        flat: the tensors of this step.
        key: what one compiled function is for.
        places: which of them the gradient is differentiated by; none if it is not.
        own: how many of them, the first, it is the gradient by.
    """

    def __init__(
        self, model: TaskModel, theta: Params, rest: Params, common: Params, stack: Stack, graph: bool
    ) -> None:
        batch = {"targets": stack.targets, "classes": stack.classes}
        batch |= {} if stack.prior is None else {"prior": stack.prior}
        self._model, self._groups, self.graph, self.own = model, stack.groups, graph, len(theta)
        parts = {"own": theta, "rest": rest, "common": common, "inputs": stack.inputs, "batch": batch}
        self._names = [(part, name) for part, tensors in parts.items() for name in tensors]
        self.flat = [tensor for tensors in parts.values() for tensor in tensors.values()]
        self.places = [k for k, t in enumerate(self.flat) if graph and t.requires_grad]
        described = tuple((tuple(t.shape), t.dtype, t.device) for t in self.flat)
        self.key = (graph, tuple(self.places), tuple(self._names), described)

    def gradients(self, flat: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients at other values."""
        parts: dict[str, Params] = {part: {} for part in ("own", "rest", "common", "inputs", "batch")}
        for (part, name), tensor in zip(self._names, flat, strict=True):
            parts[part][name] = tensor
        batch, own = parts["batch"], parts["own"]
        stack = Stack(parts["inputs"], batch["targets"], batch["classes"], batch.get("prior"), self._groups)

        def objective(theta: Params, _: Params, __: int) -> Tensor:
            return losses(self._model, theta | parts["rest"], parts["common"], stack).sum()

        return list(gradients_of(objective, own, {}, 0, self.graph).values())

    def derivatives(
        self, flat: Sequence[Tensor], towards: Sequence[Tensor] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gradients, and their products with `towards` (themselves if None) differentiated."""
        wanted = {*range(self.own), *self.places}
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(k in wanted) for k, t in enumerate(flat)]
            found = self.gradients(leaves)
            sources = [leaves[k] for k in self.places]
            towards = [g.detach() for g in found] if towards is None else towards
            pairs = [(g, v) for g, v in zip(found, towards, strict=False) if g.requires_grad]
            if not sources or not pairs:
                return [g.detach() for g in found], [torch.zeros_like(s) for s in sources]
            outputs, cotangents = zip(*pairs, strict=True)
            back = torch.autograd.grad(
                outputs, sources, cotangents, allow_unused=True, materialize_grads=True
            )
        return [g.detach() for g in found], list(back)

    def moved(self) -> list[Tensor]:
        """Return other values than this step's: parameters nearby, and inputs of other targets."""
        return [
            t.roll(1, 1)
            if part == "inputs"
            else t * 1.01 + 1e-3
            if part != "batch" and t.is_floating_point()
            else t
            for (part, _), t in zip(self._names, (t.detach() for t in self.flat), strict=True)
        ]


def _compile(step: _Traced) -> _Compiled:
    """Return a step compiled and checked; any exception says why there is none."""
    from functorch.compile import (  # type: ignore[import-untyped] # noqa: PLC0415 - takes a second
        min_cut_rematerialization_partition,
    )

    # Before anything is traced: it raises what is wrong with the batch, and finds out what can be stacked.
    expected = step.derivatives(step.flat)
    tasks = len(step.flat[0])
    console.print(f"compiling the inner step of {tasks} {'task' if tasks == 1 else 'tasks'} at a time …")
    start = time.perf_counter()
    traced = _trace(step, [t.contiguous() for t in expected[0]] if step.places else [])
    build = partial(torch.compile, fullgraph=True, dynamic=False, backend=_BACKEND)
    if step.places:
        forward, back = min_cut_rematerialization_partition(traced, None, num_fwd_outputs=step.own)
        compiled = _Compiled(build(forward), build(back), step.own, step.places)
    else:
        compiled = _Compiled(build(traced), None, step.own, ())
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_(k in step.places) for k, t in enumerate(step.flat)]
        found = compiled(leaves)
    back_found: Sequence[Tensor] = ()
    if step.places:
        back_found = torch.autograd.grad(found, [leaves[k] for k in step.places], list(expected[0]))
    _check_close([found, back_found], expected)
    console.print(f"compiled it in {time.perf_counter() - start:.0f} s")
    return compiled


def _trace(step: _Traced, towards: list[Tensor]) -> torch.fx.GraphModule:
    """Return a flat graph without writes in place: of both derivatives, or of the gradients alone."""
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415 - takes a second

    count = len(step.flat)

    def derivatives(*flat: Tensor) -> list[Tensor]:
        found, back = step.derivatives(flat[:count], flat[count:])
        return [*found, *back]

    values = [*step.moved(), *towards]
    with torch.no_grad():
        graph = make_fx(derivatives)(*values)
        # Autograd's formulas write in place: that is taken out in a second pass, where all is flat.
        graph = make_fx(torch.func.functionalize(graph, remove="mutations"))(*values)
    for place, node in enumerate(n for n in graph.graph.nodes if n.op == "placeholder"):
        # What the partition knows arguments by.
        node.name = node.target = f"primals_{place}" if place < count else f"tangents_{place}"
    graph.recompile()
    _check_graph(graph)
    return graph


def _check_graph(traced: torch.fx.GraphModule) -> None:
    """Raise a `RuntimeError` where a trace does what two halves of it cannot."""
    for node in traced.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            if torch.Tag.nondeterministic_seeded in node.target.tags:
                raise RuntimeError(f"it draws random numbers by {node.target}")
            if node.target._schema.is_mutable:
                raise RuntimeError(f"it writes in place by {node.target}")


def _check_close(found: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]]) -> None:
    """Raise a `RuntimeError` where compiled derivatives are not the plain ones."""
    for made, right in zip(found, expected, strict=True):
        floor = _FLOOR * max((float(t.norm()) for t in right), default=0.0)
        for one, other in zip(made, right, strict=True):
            far, size = float((one.detach() - other).norm()), float(other.norm())
            if not far <= _CLOSE.get(other.dtype, _ROUGHLY) * (size + floor):
                raise RuntimeError(f"its derivatives differ from the plain ones by {far:.2g} of {size:.2g}")


def _plain(flat: Sequence[Tensor]) -> list[Tensor]:
    # Of one layout: another would be compiled anew.
    return [t.detach().contiguous() for t in flat]
