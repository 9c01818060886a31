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
from metaglot.learners.compiled import is_compiled, uncompiled
from metaglot.learners.inner import recomputation
from metaglot.learners.stacking import alike, signature
from metaglot.learners.task_threads import over_threads
from metaglot.types import Episode, Params

if TYPE_CHECKING:
    from torch import Tensor

# What a part may take where nothing else is said: this share of the memory that is free, and no more
# than this; tasks beside one another are faster up to about so much, and slower beyond.
_SHARE = 0.5
_MOST = 1 << 30
# What a thread's tasks may take together: more of them would push one another out of its core's cache.
_CACHE = 24 << 20
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
    threads: int = 1,
) -> tuple[Tensor, Params]:
    """Return a meta-batch's loss, a scalar, and its gradient by the meta-parameters.

    Args:
        learner: whose meta-loss it is.
        model: the model.
        meta: the meta-parameters.
        episodes: what `learner.prepare` returned; episodes of one shape run fastest.
        memory: bytes that graphs may take; 1 GiB or half of the free memory if None. One task that
            would take more is run with recomputation.
        chunk: tasks at a time, instead of what `memory` allows.
        recompute: make the inner steps' graphs anew in the backward pass.
        threads: how many cores work on tasks of their own: large ones one at a time, small ones stacked
            as far as a core's cache has room, unless `chunk` says otherwise. Where dropout is on, its
            masks are then drawn in no fixed order. Not for models with `compile=True`.

    Returns:
        The loss, and name → gradient for every meta-parameter with an outer rate above zero.

    Raises:
        SettingsError: `chunk`, `memory` or `threads` is not positive, there is no episode, a task's
            weight is negative, or all are zero; `threads` are for a model that is compiled.
    """
    if not episodes or min(threads, chunk or 1, memory or 1) < 1 or 0 in (chunk, memory):
        raise SettingsError(
            f"expected episodes, chunk ≥ 1, memory ≥ 1 and threads ≥ 1, found {len(episodes)} episodes, "
            f"chunk={chunk}, memory={memory} and threads={threads}."
        )
    if threads > 1 and is_compiled(model):
        raise SettingsError(
            f"expected threads=1 for a model with compile=True, found threads={threads}.",
            hint="Compiled code may use several cores itself; leave one of them out.",
        )
    leaves = {n: v.detach().requires_grad_() if learner.outer_rate(n) > 0 else v for n, v in meta.items()}
    weights = [_weight(e) for e in episodes]
    total = sum(weights)
    if min(weights) < 0 or total <= 0:
        raise SettingsError(f"expected task weights ≥ 0 and one above, found {weights}.")
    episodes = [e for e, weight in zip(episodes, weights, strict=True) if weight]
    learned = [n for n, v in leaves.items() if v.requires_grad]
    sums: list[Tensor] = [torch.zeros_like(leaves[n]) for n in learned]
    loss = torch.zeros(())

    def part_of(part: _Part) -> tuple[Tensor, Sequence[Tensor | None]]:
        tasks, again = part
        share = sum(_weight(e) for e in tasks) / total
        with torch.enable_grad(), recomputation(again):
            found = learner.meta_loss(model, leaves, tasks) * share
            grads = torch.autograd.grad(found, [leaves[n] for n in learned], allow_unused=True)
        return found.detach(), grads

    parts = _parts(learner, model, leaves, episodes, memory, chunk, recompute, threads)
    for found, grads in over_threads(part_of, parts, threads):
        for whole, gradient in zip(sums, grads, strict=True):
            if gradient is not None:
                whole.add_(gradient)
        loss = loss + found
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
    threads: int = 1,
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
    allowed = (memory or min(_MOST, int(_free_memory() * _SHARE))) // threads
    for group in groups:
        size, again = chunk, recompute
        if size is None:
            needed = _bytes_of_a_task(learner, model, meta, group[0], recompute)
            again = recompute or needed > allowed
            if again and not recompute:
                needed = _bytes_of_a_task(learner, model, meta, group[0], True)
            if threads > 1:
                allowed = min(allowed, max(_CACHE, needed))
            size = max(1, min(-(-len(group) // threads), allowed // max(1, needed)))
            # Parts of even size: 5 and 5 rather than 9 and 1.
            count = -(-len(group) // size)
            size = -(-len(group) // count)
        found += [(group[i : i + size], again) for i in range(0, len(group), size)]
    return found


_MEASURED: WeakKeyDictionary[Any, dict[Any, int]] = WeakKeyDictionary()


def _bytes_of_a_task(learner: Learner, model: Any, meta: Params, episode: Any, recompute: bool) -> int:
    """The most that graphs of one task hold at a time, measured once for a learner and a shape."""
    known = _MEASURED.setdefault(learner, {})
    shape = (signature(episode.support), signature(episode.query)) if isinstance(episode, Episode) else None
    key = (id(model), shape, recompute)
    if key not in known:
        held = _Held({v.untyped_storage().data_ptr() for v in meta.values()})
        learned = [v for v in meta.values() if v.requires_grad]
        device = next(iter(meta.values())).device
        hooks = torch.autograd.graph.saved_tensors_hooks(held.keep, lambda kept: kept.tensor)
        # What is measured draws no random numbers that the caller would have drawn.
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.enable_grad(),
            hooks,
            recomputation(recompute),
            uncompiled(),
        ):
            torch.autograd.grad(learner.meta_loss(model, meta, [episode]), learned, allow_unused=True)
        known[key] = int(held.most * _OVERHEAD)
    return known[key]


class _Held:
    """Counts the bytes that graphs hold.

    Args:
        own: where the storages are that graphs do not hold by themselves.

    Attributes:
        most: the bytes that were held at one time.
    """

    def __init__(self, own: set[int]) -> None:
        self.now = self.most = 0
        self._own = own
        self._users: dict[int, int] = {}

    def keep(self, tensor: Tensor) -> _Kept:
        """Return a tensor that a graph saves, to be counted until the graph is gone."""
        return _Kept(tensor, self)

    def count(self, storage: torch.UntypedStorage, users: int) -> None:
        """Count one user more, or less, of a storage."""
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self._own:
            return
        before = self._users.get(place, 0)
        self._users[place] = before + users
        if before == 0 or before + users == 0:
            self.now += size * users
            self.most = max(self.most, self.now)


class _Kept:
    """A tensor that a graph holds."""

    def __init__(self, tensor: Tensor, held: _Held) -> None:
        # Without its history, which autograd puts back: a graph that holds its own result is never freed.
        self.tensor = tensor.detach()
        self._held = held
        held.count(tensor.untyped_storage(), 1)

    def __del__(self) -> None:
        self._held.count(self.tensor.untyped_storage(), -1)


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
