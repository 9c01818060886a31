"""Many tasks at once: one forward pass over stacked parameters and batches of m tasks.

Tasks of one shape are stacked along a leading dimension m, and `torch.func.vmap` runs the model's
*forward* over it. All derivatives are then taken by `torch.autograd.grad` outside of vmap, where every
task's parameters are its own slice of one tensor, so that one call gives every task its own gradient.
The other way around, vmap over `torch.func.grad`, is slower and gives wrong second derivatives through
LayerNorm and BatchNorm with affine parameters (pytorch/functorch issue 534).

A model whose forward cannot be vmapped is run one task after the other, which gives the same numbers;
a warning says why. So is a model whose vmapped forward disagrees with the plain one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch.func import vmap

from metaglot.errors import SettingsError
from metaglot.types import Batch, Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")
_PRIOR = "prior"


@dataclass(frozen=True)
class Stack:
    """Batches of m tasks of one shape.

    Attributes:
        inputs: name → `[m, n, …]`.
        targets: `[m, n, …]`.
        classes: `[m, C]`.
        prior: `[m, n, C]`, or None.
        groups: every task's group.
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    classes: Tensor
    prior: Tensor | None
    groups: tuple[int, ...]

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> Stack:
        """Stack batches of one shape; one alone is not copied."""
        first = batches[0]
        several = len(batches) > 1

        def stacked(tensors: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(tensors)) if several else tensors[0].unsqueeze(0)

        return cls(
            inputs={name: stacked([b.inputs[name] for b in batches]) for name in first.inputs},
            targets=stacked([b.targets for b in batches]),
            classes=stacked([b.classes for b in batches]),
            prior=None if first.prior is None else stacked([b.prior for b in batches if b.prior is not None]),
            groups=tuple(b.group for b in batches),
        )

    def __len__(self) -> int:
        return len(self.targets)

    def task(self, place: int) -> Batch:
        """Return one task's batch."""
        return Batch(
            inputs={name: block[place] for name, block in self.inputs.items()},
            targets=self.targets[place],
            classes=self.classes[place],
            prior=None if self.prior is None else self.prior[place],
            group=self.groups[place],
        )


def signature(batch: Batch) -> tuple[Any, ...]:
    """Return what batches must have in common to be stacked: shapes and types."""
    shapes = tuple((name, tuple(block.shape), block.dtype) for name, block in sorted(batch.inputs.items()))
    prior = None if batch.prior is None else tuple(batch.prior.shape)
    return shapes, tuple(batch.targets.shape), batch.targets.dtype, len(batch.classes), prior


def alike(episodes: Sequence[Episode]) -> list[list[int]]:
    """Return the places of the episodes, those of one shape together, in the order of their first."""
    found: dict[Any, list[int]] = {}
    for place, episode in enumerate(episodes):
        found.setdefault((signature(episode.support), signature(episode.query)), []).append(place)
    return list(found.values())


def spread(params: Params, m: int) -> Params:
    """Return parameters `[m, …]` that are the same in all m tasks."""
    return {name: value.expand(m, *value.shape) for name, value in params.items()}


def stack_params(params: Sequence[Params]) -> Params:
    """Return the parameters `[m, …]` of m tasks; one task's alone are not copied."""
    if len(params) == 1:
        return {name: value.unsqueeze(0) for name, value in params[0].items()}
    return {name: torch.stack([p[name] for p in params]) for name in params[0]}


def losses(model: TaskModel, params: Params, shared: Params, stack: Stack) -> Tensor:
    """Return every task's loss `[m]`.

    Args:
        model: the model.
        params: the tasks' own parameters, each `[m, …]`.
        shared: parameters that all tasks share.
        stack: the tasks' batches.
    """
    if len(stack) > 1 and _can_be_stacked(model, params, shared, stack):
        return _vmapped(model, params, shared, stack)
    return _one_by_one(model, params, shared, stack)


def _loss(model: TaskModel, params: Params, batch: Batch) -> Tensor:
    loss = model.loss(model.forward(params, batch), batch.targets)
    if loss.ndim:
        raise SettingsError(
            f"expected a scalar loss, found one of shape {tuple(loss.shape)}.",
            hint="Give the loss reduction='mean', or take the mean of it.",
        )
    return loss


def _one_by_one(model: TaskModel, params: Params, shared: Params, stack: Stack) -> Tensor:
    found = []
    for place in range(len(stack)):
        # Where there is one task, a view without an index: its backward pass need not fill zeros.
        own = {n: v.squeeze(0) if len(stack) == 1 else v[place] for n, v in params.items()}
        found.append(_loss(model, shared | own, stack.task(place)))
    return torch.stack(found)


def _vmapped(model: TaskModel, params: Params, shared: Params, stack: Stack) -> Tensor:
    def one(own: Params, inputs: dict[str, Tensor], targets: Tensor, classes: Tensor) -> Tensor:
        blocks = dict(inputs)
        prior = blocks.pop(_PRIOR, None)
        if stack.prior is None:
            prior = None
        return _loss(model, shared | own, Batch(blocks, targets, classes, prior))

    inputs = dict(stack.inputs)
    if stack.prior is not None:
        inputs[_PRIOR] = stack.prior
    found: Tensor = vmap(one, randomness="different")(params, inputs, stack.targets, stack.classes)
    return found


_STACKABLE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _can_be_stacked(model: TaskModel, params: Params, shared: Params, stack: Stack) -> bool:
    """Whether the model's forward can be vmapped, found out once: it runs, and agrees with the loop."""
    if model not in _STACKABLE:
        reason = ""
        with torch.no_grad():
            expected = _one_by_one(model, params, shared, stack)
            try:
                found = _vmapped(model, params, shared, stack)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                reason = str(error).strip().partition("\n")[0]
            else:
                again = _one_by_one(model, params, shared, stack)
                close = torch.allclose(found, expected, rtol=1e-2, atol=1e-4, equal_nan=True)
                if not close and torch.equal(again, expected):
                    worst = float((found - expected).abs().max())
                    reason = f"its losses differ from those of the plain forward by up to {worst:.2g}"
        if reason:
            warnings.warn(
                f"The model cannot be run over several tasks at once ({reason}); it is run over one after "
                "the other, with the same result in more time.",
                stacklevel=4,
            )
        _STACKABLE[model] = not reason
    return _STACKABLE[model]
