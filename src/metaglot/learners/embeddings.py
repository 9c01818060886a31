"""Embedding tables in the inner loop: only the rows that a task's support set looks up.

A row that no support example looks up has an inner gradient of zero, so that gradient descent leaves
it where it started, and a task's own copy of the table need not have it. With U rows of V looked up,
every inner step handles `[U, d]` in place of `[V, d]`: for a multilingual vocabulary of 250,002 pieces
and a few sentences a thousandth of it. The result is exact. It takes an optimizer that leaves
parameters with a gradient of zero alone, which is any without weight decay.

A lookup of x in a task with rows `ids` `[U]` is

    own[slot(x)]  where x is one of `ids`,  else  base[x]

with `own` `[U, d]` the task's rows, and `base` `[V, d]` the shared table, which both get gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.types import Batch, Params, TaskModel

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT, SLOTS, BASE = "weight", "slots", "base"
# A table is cut to its rows where this many times as many would be left out.
_WORTH = 2

_SEEN: ContextVar[dict[str, list[Tensor]] | None] = ContextVar("seen", default=None)


class RowEmbedding(nn.Module):
    """An `nn.Embedding` whose table may be given by rows.

    Args:
        table: the embedding that it stands for, whose weight it shares.
        name: of the embedding in its module.
    """

    slots: Tensor
    base: Tensor

    def __init__(self, table: nn.Embedding, name: str) -> None:
        super().__init__()
        self.weight = table.weight
        self.name = name
        self.padding_idx = table.padding_idx
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.register_buffer(SLOTS, torch.empty(0, dtype=torch.int64), persistent=False)
        self.register_buffer(BASE, torch.empty(0), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings `[…, d]` of ids `[…]`."""
        seen = _SEEN.get()
        if seen is not None:
            seen.setdefault(self.name, []).append(ids)
        if self.slots.numel() == 0:
            return F.embedding(ids, self.weight, self.padding_idx)
        slot = self.slots[ids]
        own = F.embedding(slot.clamp(min=0), self.weight)
        padded = None if self.padding_idx is None else (ids == self.padding_idx).unsqueeze(-1)
        if self.base.numel():
            own = torch.where((slot >= 0).unsqueeze(-1), own, F.embedding(ids, self.base, self.padding_idx))
        if padded is not None:
            # As in nn.Embedding, the row of padding has no gradient.
            own = torch.where(padded, own.detach(), own)
        return own


def with_rows(module: nn.Module) -> nn.Module:
    """Put a `RowEmbedding` in the place of every plain embedding of a module that may have one.

    Tables that are tied to another layer, or that renormalise or scale their gradients, stay.
    """
    uses: dict[int, int] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    for name, part in list(module.named_modules()):
        if type(part) is not nn.Embedding or not name or uses[id(part.weight)] > 1:
            continue
        if part.max_norm is not None or part.scale_grad_by_freq or part.sparse:
            continue
        owner, _, own_name = name.rpartition(".")
        setattr(module.get_submodule(owner), own_name, RowEmbedding(part, name))
    return module


_LINKS: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()


def links(model: TaskModel, params: Params, batches: Sequence[Batch]) -> dict[str, str]:
    """Return embedding → the input whose values are the ids that it looks up, found out once."""
    if model not in _LINKS:
        found: list[dict[str, str]] = []
        for batch in batches:
            seen: dict[str, list[Tensor]] = {}
            token = _SEEN.set(seen)
            try:
                with torch.no_grad():
                    model.forward(params, batch)
            finally:
                _SEEN.reset(token)
            found.append({table: _source(asked, batch.inputs) for table, asked in seen.items()})
        same = {table: name for table, name in found[0].items() if all(f.get(table) == name for f in found)}
        _LINKS[model] = {table: name for table, name in same.items() if name}
    return _LINKS[model]


def _source(asked: Sequence[Tensor], inputs: Mapping[str, Tensor]) -> str:
    for name, value in inputs.items():
        if not value.is_floating_point() and all(torch.equal(ids, value) for ids in asked):
            return name
    return ""


def cut(
    table: str, weight: Tensor, ids: Tensor, *, even: bool = False
) -> tuple[Params, Params, Params] | None:
    """Return a table's rows that tasks look up in place of the table, or None where it is not worth it.

    Args:
        table: the embedding's name.
        weight: the table `[V, d]` that all tasks start from.
        ids: what the tasks' support sets look up `[m, …]`.
        even: whether U is to depend on shapes alone, not on how many rows are the same.

    Returns:
        The tasks' own rows `[m, U, d]` and their slots `[m, V]`, which support sets need; and the
        shared table `[V, d]` for what else query sets look up.
    """
    unique = [torch.unique(one) for one in ids]
    most = ids[0].numel() if even else max(len(one) for one in unique)
    if most * _WORTH > len(weight):
        return None
    slots = torch.full((len(unique), len(weight)), -1, dtype=torch.int64, device=weight.device)
    rows = torch.zeros(len(unique), most, dtype=torch.int64, device=weight.device)
    for task, one in enumerate(unique):
        rows[task, : len(one)] = one
        slots[task, one] = torch.arange(len(one), device=weight.device)
    own = {f"{table}.{WEIGHT}": F.embedding(rows, weight)}
    return own, {f"{table}.{SLOTS}": slots}, {f"{table}.{BASE}": weight}
