"""Joint training: one ridge head on the sources and the language's own examples together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from scipy.sparse import csr_matrix

from metaglot.evaluation.baselines import Baseline
from metaglot.evaluation.probes import best_left_out
from metaglot.learners.closed_form import one_hot
from metaglot.model import Model, Sources, Table
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

_MAPPED = "joint"
_TARGET_WEIGHTS = (1.0, 3.0, 10.0, 30.0)
_DEFAULT_WEIGHT = 10.0
# Of the sources' part of the joint head: the best of 0.3 to 100 for held-out languages.
_SOURCE_PENALTY = 30.0
# A short text has few of the n-grams: up to this share products of sparse matrices are faster.
_SPARSE = 0.05


def joint(sources: Sources) -> Baseline:
    """One ridge head on the sources and the language's examples together, their weight tuned.

    With the sources' moments A = Σ XᵀX and B = Σ XᵀY, S = (A + λI)⁻¹ and W₀ = S B, the head of the
    sources and the support set X of weight v is W₀ + S Xᵀ (X S Xᵀ + I/v)⁻¹ (Y − X W₀): a ridge head
    in the features X S^½ towards W₀, so it is solved and tuned as every other is.
    """
    blocks = dict(sources.model.blocks)
    start, factor = source_head(*moments(sources.model, [(table, None) for table in sources.tables]))

    def extra(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {_MAPPED: torch.cholesky_solve(side_by_side(inputs, blocks).T, factor).T.contiguous()}

    def fit(model: Model, support: Batch) -> Params:
        features, mapped = side_by_side(support.inputs, blocks), support.inputs[_MAPPED]
        weights = rows_of(start, support.classes)
        targets, mean = one_hot(support.targets, len(support.classes)), features @ weights
        penalties = [1.0 / weight for weight in _TARGET_WEIGHTS]
        sharpness, alpha = best_left_out(
            support, mapped @ features.T, targets, mean, penalties, 1.0 / _DEFAULT_WEIGHT
        )
        total = sharpness * (weights.T + alpha.T @ mapped)
        parts = torch.split(total, list(blocks.values()), dim=1)
        return model.task_model.linear_head(dict(zip(blocks, parts, strict=True)))

    return Baseline(fit, extra=extra)


def source_head(gram: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sources' ridge head W₀ `[D, labels]` and the Cholesky factor of A + λI `[D, D]`.

    Args:
        gram: A = Σ XᵀX `[D, D]`.
        cross: B = Σ XᵀY `[D, labels]`.
    """
    shifted = gram.clone()
    shifted.diagonal().add_(_SOURCE_PENALTY)
    factor = torch.linalg.cholesky(shifted)
    return torch.cholesky_solve(cross, factor), factor


def moments(model: Model, parts: Sequence[tuple[Table, Sequence[int] | None]]) -> tuple[Tensor, Tensor]:
    """Return Σ XᵀX `[D, D]` and Σ XᵀY `[D, labels]`, all blocks side by side, of some sources.

    Args:
        model: the model.
        parts: tables, each with the rows that count, or None for all.
    """
    chosen = [
        table.batch(model, range(len(table.examples)) if rows is None else rows, model.labels)
        for table, rows in parts
    ]
    targets = one_hot(torch.cat([batch.targets for batch in chosen]), len(model.labels))
    blocks = {name: torch.cat([batch.inputs[name] for batch in chosen]) for name in model.blocks}
    sparse = {
        name: csr_matrix(block.numpy())
        for name, block in blocks.items()
        if name in model.lexical and float((block != 0).float().mean()) < _SPARSE
    }

    def product(left: str, right: str) -> Tensor:
        if left in sparse and right in sparse:
            return torch.from_numpy((sparse[left].T @ sparse[right]).toarray())
        if left in sparse:
            return torch.from_numpy(sparse[left].T @ blocks[right].numpy())
        return blocks[left].T @ blocks[right] if right not in sparse else product(right, left).T

    rows = [torch.cat([product(left, right) for right in blocks], dim=1) for left in blocks]
    return torch.cat(rows), torch.cat([block.T @ targets for block in blocks.values()])


def side_by_side(inputs: Mapping[str, Tensor], blocks: Mapping[str, int]) -> Tensor:
    """Return the features `[n, D]`, float32, of the blocks, in their order."""
    return torch.cat([inputs[name].float() for name in blocks], dim=1)


def rows_of(weights: Tensor, classes: Tensor) -> Tensor:
    """Return the columns `[D, C]` of the labels `classes` of a head `[D, labels]`, zero for a new label."""
    return weights[:, classes.clamp(min=0)] * (classes >= 0)
