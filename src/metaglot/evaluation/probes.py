"""Closed-form heads of the support set alone: ridge probes and prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.evaluation.baselines import Baseline, check_blocks, dense_blocks, lexical_blocks
from metaglot.learners.base import shots_of
from metaglot.learners.closed_form import (
    best_sharpness,
    dual,
    duals,
    inverse_of,
    kernel_of,
    mean_log_likelihood,
    one_hot,
    primal,
)
from metaglot.model import Model, Sources
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

_DEFAULT_SHARPNESS = 8.0
_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
_DEFAULT_PENALTY = 1.0


def target_only(sources: Sources) -> Baseline:
    """A tuned ridge probe on the language's own examples, all feature blocks side by side."""
    return Baseline(lambda model, support: _probe(model, support, tuple(model.blocks)))


def target_only_dense(sources: Sources) -> Baseline:
    """A tuned ridge probe on the language's own examples, the pretrained encoder's features alone."""
    names = dense_blocks(sources.model)
    check_blocks(names, sources.model, "target-only-dense", "dense")
    return Baseline(lambda model, support: _probe(model, support, names))


def target_only_lexical(sources: Sources) -> Baseline:
    """A tuned ridge probe on the language's own examples, character n-grams alone."""
    names = lexical_blocks(sources.model)
    check_blocks(names, sources.model, "target-only-lexical", "lexical")
    return Baseline(lambda model, support: _probe(model, support, names))


def prototypes(sources: Sources) -> Baseline:
    """The nearest class mean by cosine, the pretrained encoder's features alone, scaled on the sources.

    With class means p_c the head is s · x p_c / ‖p_c‖: the example's own norm, near one and the same
    for all labels, changes no decision.
    """
    names = dense_blocks(sources.model)
    check_blocks(names, sources.model, "prototypes", "dense")

    def fit(model: Model, support: Batch) -> Params:
        features = torch.cat([support.inputs[name] for name in names], dim=1)
        member = F.one_hot(support.targets, len(support.classes)).to(features.dtype)
        sums = member.T @ features
        sharpness = _DEFAULT_SHARPNESS
        if shots_of(support) >= 2:
            sharpness = best_sharpness(_left_out(features, member, sums), support.targets)
        weights = torch.split(sharpness * F.normalize(sums, dim=1), [model.blocks[n] for n in names], 1)
        return model.task_model.linear_head(dict(zip(names, weights, strict=True)))

    return Baseline(fit)


def best_left_out(
    support: Batch,
    kernel: Tensor,
    targets: Tensor,
    mean: Tensor | None = None,
    penalties: Sequence[float] = _PENALTIES,
    default: float = _DEFAULT_PENALTY,
) -> tuple[float, Tensor]:
    """Return the sharpness and the dual solution `[n, C]` of the highest leave-one-out likelihood.

    Args:
        support: the support set; with one example per label the default is taken.
        kernel: `[n, n]`.
        targets: centred targets `[n, C]`.
        mean: the scores `[n, C]` that the head is drawn to; zero where None.
        penalties: the ridge penalties to choose from.
        default: the penalty where nothing can be left out.
    """
    if shots_of(support) < 2:
        return _DEFAULT_SHARPNESS, dual(inverse_of(kernel, default), targets, mean)[0]
    found = []
    for alpha, left_out in duals(kernel, penalties, targets, mean):
        sharpness = best_sharpness(left_out, support.targets)
        likelihood = float(mean_log_likelihood(left_out, support.targets, sharpness))
        found.append((likelihood, sharpness, alpha))
    _, sharpness, alpha = max(found, key=lambda choice: choice[0])
    return sharpness, alpha


def _probe(model: Model, support: Batch, blocks: Sequence[str]) -> Params:
    scales: dict[str, Tensor | float] = dict.fromkeys(blocks, 1.0)
    targets = one_hot(support.targets, len(support.classes))
    sharpness, alpha = best_left_out(support, kernel_of(support, scales), targets)
    return model.task_model.linear_head(primal(support.inputs, scales, sharpness * alpha))


def _left_out(features: Tensor, member: Tensor, sums: Tensor) -> Tensor:
    """The scores `[n, C]` of every example by class means in which it has no part."""
    scores = features @ F.normalize(sums, dim=1).T
    own = member.argmax(1)
    others = F.normalize(sums[own] - features, dim=1)  # zero where a label has one example
    return scores.scatter(1, own.unsqueeze(1), (features * others).sum(1, keepdim=True))
