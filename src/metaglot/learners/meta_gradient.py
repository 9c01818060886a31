"""The gradient of a meta-batch, in as many parts as memory wants.

The meta-loss is a weighted mean over tasks, so that its gradient is the sum over parts of the batch,
and what the graph of one part holds is free before the next. All at once is the fastest and takes
most; one task at a time with recomputed steps (`metaglot.learners.inner`) takes least.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import Learner
from metaglot.learners.inner import recomputation
from metaglot.learners.stacking import alike, signature
from metaglot.types import Episode, Params

if TYPE_CHECKING:
    from torch import Tensor

# What a part may take where nothing else is said: this share of the memory that is free.
_SHARE = 0.5
# A graph's tensors are not all that a part takes: there are temporaries and gradients beside them.
_OVERHEAD = 1.5


def meta_gradient(
    learner: Learner,
    model: Any,
    meta: Params,
    episodes: Sequence[Any],
    *,
    memory: int | None = None,
    chunk: int | None = None,
    recompute: bool = False,
) -> tuple[Tensor, Params]:
    """Return a meta-batch's loss, a scalar, and its gradient by the meta-parameters.

    Args:
        learner: whose meta-loss it is.
        model: the model.
        meta: the meta-parameters.
        episodes: what `learner.prepare` returned; episodes of one shape run fastest.
        memory: bytes that a part's graph may take; half of the free memory if None. One task that
            would take more is run with recomputation.
        chunk: tasks at a time, instead of what `memory` allows.
        recompute: make the inner steps' graphs anew in the backward pass.

    Returns:
        The loss, and name → gradient for every meta-parameter with an outer rate above zero.

    Raises:
        SettingsError: `chunk` or `memory` is not positive, or there is no episode.
    """
    if not episodes or (chunk is not None and chunk < 1) or (memory is not None and memory < 1):
        raise SettingsError(
            f"expected episodes, chunk ≥ 1 and memory ≥ 1, found {len(episodes)} episodes, chunk={chunk} "
            f"and memory={memory}."
        )
    leaves = {
        n: v.detach().clone().requires_grad_() if learner.outer_rate(n) > 0 else v for n, v in meta.items()
    }
    total = sum(_weight(e) for e in episodes)
    learned = [n for n, v in leaves.items() if v.requires_grad]
    sums: list[Tensor] = [torch.zeros_like(leaves[n]) for n in learned]
    loss = torch.zeros(())
    with torch.enable_grad():
        for part, again in _parts(learner, model, leaves, episodes, memory, chunk, recompute):
            share = sum(_weight(e) for e in part) / total if total > 0 else 1.0
            with recomputation(again):
                found = learner.meta_loss(model, leaves, part) * share
            grads = torch.autograd.grad(found, [leaves[n] for n in learned], allow_unused=True)
            for total_of, gradient in zip(sums, grads, strict=True):
                if gradient is not None:
                    total_of.add_(gradient)
            loss = loss + found.detach()
    return loss, dict(zip(learned, sums, strict=True))


def _weight(episode: Any) -> float:
    return float(getattr(episode, "weight", 1.0))


_Part = tuple[list[Any], bool]


def _parts(
    learner: Learner,
    model: Any,
    meta: Params,
    episodes: Sequence[Any],
    memory: int | None,
    chunk: int | None,
    recompute: bool,
) -> list[_Part]:
    """The parts of a meta-batch, and whether each is run with recomputation."""
    if not all(isinstance(e, Episode) for e in episodes):
        groups = [list(episodes)]
    else:
        groups = [[episodes[i] for i in places] for places in alike(episodes)]
    if chunk is None and memory is None and sum(len(g) for g in groups) == len(groups):
        # One task of every shape: there is nothing to divide.
        return [(group, recompute) for group in groups]
    found: list[_Part] = []
    allowed = memory or int(_free_memory() * _SHARE)
    for group in groups:
        size, again = chunk, recompute
        if size is None:
            needed = _bytes_of_a_task(learner, model, meta, group[0], recompute)
            again = recompute or needed > allowed
            if again and not recompute:
                needed = _bytes_of_a_task(learner, model, meta, group[0], True)
            size = max(1, min(len(group), allowed // max(1, needed)))
            # Parts of even size: 5 and 5 rather than 9 and 1.
            count = -(-len(group) // size)
            size = -(-len(group) // count)
        found += [(group[i : i + size], again) for i in range(0, len(group), size)]
    return [(part, again) for part, again in found if sum(_weight(e) for e in part) > 0]


_MEASURED: WeakKeyDictionary[Any, dict[Any, int]] = WeakKeyDictionary()


def _bytes_of_a_task(learner: Learner, model: Any, meta: Params, episode: Any, recompute: bool) -> int:
    """What the graph of one task's meta-loss holds, measured once for a learner and a shape."""
    known = _MEASURED.setdefault(learner, {})
    shape = (signature(episode.support), signature(episode.query)) if isinstance(episode, Episode) else None
    key = (id(model), shape, recompute)
    if key not in known:
        sizes: dict[int, int] = {}
        own = {v.untyped_storage().data_ptr() for v in meta.values()}

        def seen(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(seen, lambda t: t), recomputation(recompute):
            kept = learner.meta_loss(model, meta, [episode])  # alive until all has been counted
        known[key] = int(sum(sizes.values()) * _OVERHEAD)
        del kept
    return known[key]


def _free_memory() -> int:
    """Bytes of memory that are free; 4 GiB where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 4 << 30
