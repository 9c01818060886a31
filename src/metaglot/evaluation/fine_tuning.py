"""Joint training, then fine-tuning: what meta-learning is most often compared with.

    θ_{i+1} = ϑ_i − η ∇ L(ϑ_i, S),   ϑ_i = θ_i + (i − 1)/(i + 2) (θ_i − θ_{i−1}),   θ_0 = s W₀

with L the mean cross-entropy over the whole support set, W₀ the ridge head of the sources and s the
sharpness that makes its scores logits. The momentum is Nesterov's (1983): where features have a few
directions of large variance, some hundred steps go as far as many thousands without. Rate and number of
steps are tuned for each number of shots on source languages that the head of the episode has not seen;
else they would be tuned for a head that needs no tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.data.parallel import find_parallel
from metaglot.evaluation.baselines import Baseline
from metaglot.evaluation.joint import moments, rows_of, side_by_side, source_head
from metaglot.evaluation.source_tuning import best_setting, power_of_shots, tuning_episode, tuning_languages
from metaglot.learners.closed_form import best_sharpness, kernel_of, primal
from metaglot.model import Model, Sources, Table
from metaglot.prior.cross_fitting import FOLDS
from metaglot.progress import progress
from metaglot.space import generator
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

# Rates are shares of 1 / (the largest curvature of L), the largest that is safe.
_RATES = (0.1, 1.0)
_STEPS = (0, 1, 3, 10, 30, 100, 300)
_SETTINGS = tuple(product(_RATES, _STEPS))
_DEFAULT = (1.0, 10)
_POWER_STEPS = 20


@dataclass(frozen=True)
class _Unseen:
    """A source language, the rows of it to be judged, and a joint head `[D, labels]` that saw neither."""

    table: Table
    rows: tuple[int, ...]
    weights: Tensor


@dataclass(frozen=True)
class _Start:
    """The joint head's logits for a support set, and what descent from there needs.

    Attributes:
        weights: of the labels `[D, C]`, times the sharpness.
        logits: of the support set `[n, C]`.
        kernel: `[n, n]`.
    """

    weights: Tensor
    logits: Tensor
    kernel: Tensor


def joint_fine_tuned(sources: Sources) -> Baseline:
    """The sources' joint head, fine-tuned by gradient descent; rate and steps tuned on sources for each k.

    Without examples it is the joint head itself.
    """
    model = sources.model
    with progress("joint heads without a part of the sources", 1) as advance:
        whole, unseen = _heads(sources)
        advance()
    sharpness = _sharpness(model, unseen)

    @cache
    def setting(shots: int) -> tuple[float, int]:
        judged = []
        with progress(f"tuning fine-tuning for k = {shots}", len(unseen)) as advance:
            for language in unseen:
                episode = tuning_episode(model, language.table, shots, language.rows)
                if episode is not None:
                    start = _start(model, episode.support, sharpness * language.weights)
                    logits = [
                        model.task_model.forward(_head(model, episode.support, start, alpha), episode.query)
                        for rate in _RATES
                        for alpha in descend(
                            start.kernel, start.logits, episode.support.targets, rate, _STEPS
                        )
                    ]
                    judged.append((logits, episode.query.targets))
                advance()
        return best_setting(_SETTINGS, judged, _DEFAULT)

    def fit(model: Model, support: Batch) -> Params:
        start = _start(model, support, sharpness * whole)
        if len(support) == 0:
            return _head(model, support, start, start.logits)
        rate, steps = setting(power_of_shots(support))
        (alpha,) = descend(start.kernel, start.logits, support.targets, rate, [steps])
        return _head(model, support, start, alpha)

    return Baseline(fit, zero_shots=True)


def descend(
    kernel: Tensor, logits: Tensor, targets: Tensor, rate: float, steps: Sequence[int]
) -> list[Tensor]:
    """Return, after each number of steps, α `[n, C]` of the head W₀ + Xᵀ α that full-batch descent finds.

    The gradient in W at logits + K α is Xᵀ (P − Y) / n, with P their softmax, so that every step is one
    in α.

    Args:
        kernel: K = X Xᵀ `[n, n]`.
        logits: X W₀ `[n, C]`.
        targets: labels `[n]`.
        rate: η times the largest curvature, ‖K‖ / 2n.
        steps: numbers of steps, rising.
    """
    wanted = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    step = rate * 2.0 / float(_largest_eigenvalue(kernel).clamp(min=1e-12))
    alpha, found, done = torch.zeros_like(logits), [], 0
    ahead = alpha
    for number in steps:
        for i in range(done + 1, number + 1):
            before = alpha
            alpha = ahead + step * (wanted - (logits + kernel @ ahead).softmax(-1))
            ahead = alpha + i / (i + 3) * (alpha - before)
        done = number
        found.append(alpha)
    return found


def _largest_eigenvalue(kernel: Tensor) -> Tensor:
    """Of a positive semidefinite matrix, by power iteration: at most the true one."""
    vector = kernel[:, int(kernel.diagonal().argmax())]
    for _ in range(_POWER_STEPS):
        vector = F.normalize(kernel @ vector, dim=0)
    largest: Tensor = torch.linalg.vector_norm(kernel @ vector)
    return largest


def _heads(sources: Sources) -> tuple[Tensor, list[_Unseen]]:
    """The joint head of all sources, and for each language to tune on one that has not seen it.

    Folds are over languages, as the prior's. Where contents are shared between languages, and where
    there is one language alone, the head learns from one half of the contents and is judged on the
    other, as the prior's too.
    """
    model, tables = sources.model, sources.tables
    folds = min(FOLDS, len(tables))
    halved = folds == 1 or find_parallel(e for table in tables for e in table.examples) is not None
    learned = [_half(table, 1) if halved else None for table in tables]
    every = moments(model, [(table, None) for table in tables])
    whole, _ = source_head(*every)
    total = moments(model, list(zip(tables, learned, strict=True))) if halved else every
    unseen, places = [], tuning_languages(sources)
    for fold in sorted({place % folds for place in places}):
        gram, cross = total
        if folds > 1:
            mine = range(fold, len(tables), folds)
            part = moments(model, [(tables[place], learned[place]) for place in mine])
            gram, cross = gram - part[0], cross - part[1]
        weights, _ = source_head(gram, cross)
        for place in (p for p in places if p % folds == fold):
            rows = _half(tables[place], 0) if halved else tuple(range(len(tables[place].examples)))
            unseen.append(_Unseen(tables[place], rows, weights))
    return whole, unseen


def _half(table: Table, side: int) -> tuple[int, ...]:
    """The rows of one half of the contents, the same half in every language."""
    return tuple(
        row for row, e in enumerate(table.examples) if int(generator("tuning half", e.id).integers(2)) == side
    )


def _sharpness(model: Model, unseen: Sequence[_Unseen]) -> float:
    """What makes the joint head's scores logits, for languages that it has not seen."""
    scores, targets = [], []
    for language in unseen:
        batch = language.table.batch(model, torch.tensor(language.rows), language.table.task.labels)
        classes = batch.classes
        found = side_by_side(batch.inputs, model.blocks) @ rows_of(language.weights, classes)
        wide = found.new_full((len(found), len(model.labels)), -1e3)  # labels that it lacks are out
        wide[:, classes] = found
        scores.append(wide)
        targets.append(classes[batch.targets])
    return best_sharpness(torch.cat(scores), torch.cat(targets))


def _start(model: Model, support: Batch, weights: Tensor) -> _Start:
    chosen = rows_of(weights, support.classes)
    features = side_by_side(support.inputs, model.blocks)
    return _Start(chosen, features @ chosen, kernel_of(support, dict.fromkeys(model.blocks, 1.0)))


def _head(model: Model, support: Batch, start: _Start, alpha: Tensor) -> Params:
    blocks = dict(model.blocks)
    parts = torch.split(start.weights.T, list(blocks.values()), dim=1)
    change = primal(support.inputs, dict.fromkeys(blocks, 1.0), alpha)
    return model.task_model.linear_head({n: part + change[n] for n, part in zip(blocks, parts, strict=True)})
