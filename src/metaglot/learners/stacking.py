"""Many tasks at once: one forward pass over stacked parameters and batches of m tasks.

Tasks of one shape are stacked along a leading dimension m, and `torch.func.vmap` runs the model's
*forward* over it. All derivatives are then taken by `torch.autograd.grad` outside of vmap, where every
task's parameters are its own slice of one tensor, so that one call gives every task its own gradient.
The other way around, vmap over `torch.func.grad`, is slower and gives wrong second derivatives through
LayerNorm and BatchNorm with affine parameters (pytorch/functorch issue 534).

A model whose forward cannot be vmapped is run one task after the other, which gives the same numbers;
a warning says why. So is a model whose vmapped forward disagrees with the plain one, and recurrent
networks (nn.GRU, nn.LSTM), for which PyTorch has no vmapped forward.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch.func import vmap

from metaglot.errors import DataError, SettingsError
from metaglot.learners.base import IGNORED
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

    def parts(self, size: int) -> list[Stack]:
        """Return the same tasks' batches of `size` examples each, the last of what is left; whole if 0."""
        n = self.targets.shape[1]
        if not 0 < size < n:
            return [self]
        return [
            Stack(
                inputs={name: block[:, first : first + size] for name, block in self.inputs.items()},
                targets=self.targets[:, first : first + size],
                classes=self.classes,
                prior=None if self.prior is None else self.prior[:, first : first + size],
                groups=self.groups,
            )
            for first in range(0, n, size)
        ]

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

    Raises:
        DataError: a label is out of the range of the model's outputs.
        SettingsError: the loss is not a scalar.
    """
    try:
        if len(stack) > 1 and _can_be_stacked(model, params, shared, stack):
            return _vmapped(model, params, shared, stack)
        return _one_by_one(model, params, shared, stack)
    except (IndexError, RuntimeError, ValueError) as error:
        _explain(model, params, shared, stack, error)
        raise


def _loss(model: TaskModel, params: Params, batch: Batch) -> Tensor:
    loss = model.loss(model.forward(params, batch), batch.targets)
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        found = f"one of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(loss)
        raise SettingsError(
            f"expected a scalar loss, found {found}.",
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


def _explain(model: TaskModel, params: Params, shared: Params, stack: Stack, error: Exception) -> None:
    """Raise a `DataError` if labels that the model's outputs have no scores for made a loss fail."""
    if stack.targets.is_floating_point() or not re.search(r"out of (bounds|range)", str(error)):
        return
    with torch.no_grad():
        outputs = model.forward(shared | {n: v[0] for n, v in params.items()}, stack.task(0))
    if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2:
        return
    targets = stack.targets
    # As cross-entropy has it: scores are in the second dimension, unless a loss of the user's moves them.
    is_second = (outputs.shape[0], *outputs.shape[2:]) == tuple(targets.shape[1:])
    width = outputs.shape[1 if is_second else -1]
    strange = targets[(targets >= width) | ((targets < 0) & (targets != IGNORED))]
    if len(strange):
        raise DataError(
            f"expected label numbers from 0 to {width - 1}, since the model's outputs have {width} scores; "
            f"found {int(strange.min())} to {int(strange.max())}."
        ) from error


_STACKABLE: WeakKeyDictionary[Any, dict[Any, bool]] = WeakKeyDictionary()
# How far a vmapped loss may be from the plain one: rounding, and no mask that is read differently.
_CLOSE = {torch.float64: 1e-6, torch.float32: 1e-4}
_ROUGHLY = 2e-2


def _can_be_stacked(model: TaskModel, params: Params, shared: Params, stack: Stack) -> bool:
    """Whether the model's forward can be vmapped: it runs, and agrees with the loop.

    It is found out once for batches with the same inputs, whatever their sizes.
    """
    known = _STACKABLE.setdefault(model, {})
    key = (
        tuple((name, block.ndim, block.dtype) for name, block in sorted(stack.inputs.items())),
        stack.prior is None,
        tuple(params),
    )
    if key not in known:
        reason = _why_not(model, params, shared, stack)
        if reason and all(known.values()):
            warnings.warn(
                f"The model cannot be run over several tasks at once ({reason}); it is run over one after "
                "the other, with the same result in more time.",
                stacklevel=5,
            )
        known[key] = not reason
    return known[key]


def _why_not(model: TaskModel, params: Params, shared: Params, stack: Stack) -> str:
    """Why a model cannot be vmapped; nothing if it can."""
    device = stack.targets.device
    # What is tried out draws no random numbers that the caller would have drawn.
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        expected = _one_by_one(model, params, shared, stack)
        again = _one_by_one(model, params, shared, stack)
        try:
            found = _vmapped(model, params, shared, stack)
        except (RuntimeError, ValueError, DataError) as error:
            return str(error).strip().partition("\n")[0]
    close = _CLOSE.get(next(iter(params.values())).dtype, _ROUGHLY)
    if getattr(model, "precision", None) == "bfloat16":
        close = _ROUGHLY
    # Where two plain runs differ there is noise in them, such as dropout, and nothing to compare.
    same = torch.allclose(found, expected, rtol=close, atol=close, equal_nan=True)
    if same or not torch.equal(again, expected):
        return ""
    worst = float((found - expected).abs().max())
    return f"its losses differ from those of the plain forward by up to {worst:.2g}"
