"""Parts of a meta-batch on several threads, each with one core to itself.

The operations of one small task are too short for several cores to share: a thread per core, each with
tasks of its own, keeps all busy and every task's tensors in its core's cache. PyTorch's operations
release the interpreter while they run, so that threads are enough where tasks are not tiny; tiny ones
are better stacked (`metaglot.learners.stacking`).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

_Part = TypeVar("_Part")
_Found = TypeVar("_Found")


def over_threads(work: Callable[[_Part], _Found], parts: Sequence[_Part], threads: int) -> Iterator[_Found]:
    """Yield what `work` makes of each part, in the order of the parts, `threads` of them at once.

    Args:
        work: a function that is safe to run on several threads; it sees the caller's context.
        parts: its arguments.
        threads: how many; each runs its operations on one core.
    """
    if threads == 1 or len(parts) < 2:
        yield from map(work, parts)
        return
    before = torch.get_num_threads()
    futures: list[Future[_Found]] = []
    try:
        for part in parts:
            futures.append(_pool(threads).submit(contextvars.copy_context().run, work, part))
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()  # wait: nothing is left running behind a caller that has gone on
        torch.set_num_threads(before)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # Kept from call to call: models keep one copy of their structure for every thread.
    return ThreadPoolExecutor(threads, "metaglot-tasks", initializer=torch.set_num_threads, initargs=(1,))
