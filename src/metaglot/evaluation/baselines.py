"""What a learner must beat: the same encoder, the same data, the same support sets.

Every baseline makes a linear head, as a learner does. What it can tune, it tunes on the support set
by its closed-form leave-one-out likelihood; with one example per label there is nothing to leave
out, and it takes its default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.sparse import csr_matrix

from metaglot.errors import SettingsError
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
from metaglot.registry import Registry
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

BASELINES = Registry(
    "baseline",
    {
        "majority": "metaglot.evaluation.baselines:majority",
        "zero-shot": "metaglot.evaluation.baselines:zero_shot",
        "target-only": "metaglot.evaluation.baselines:target_only",
        "target-only-dense": "metaglot.evaluation.baselines:target_only_dense",
        "target-only-lexical": "metaglot.evaluation.baselines:target_only_lexical",
        "joint": "metaglot.evaluation.baselines:joint",
    },
)

_MAPPED = "joint"
_DEFAULT_SHARPNESS = 8.0
_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
_DEFAULT_PENALTY = 1.0
_TARGET_WEIGHTS = (1.0, 3.0, 10.0, 30.0)
_DEFAULT_WEIGHT = 10.0
# Of the sources' part of the joint head: the best of 0.3 to 100 for held-out languages.
_SOURCE_PENALTY = 30.0


@dataclass(frozen=True)
class Baseline:
    """A way to make a head without meta-learning.

    Attributes:
        fit: (model, support set) → a head for the support set's labels.
        zero_shots: whether it looks at the inventory of labels alone and needs no examples.
        extra: blocks to be added to a language's inputs, worked out once for all its support sets.
    """

    fit: Callable[[Model, Batch], Params]
    zero_shots: bool = False
    extra: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None


def majority(sources: Sources) -> Baseline:
    """The most frequent label of the sources, whatever the text."""
    count = Counter(e.label for table in sources.tables for e in table.examples)

    def fit(model: Model, support: Batch) -> Params:
        names = [model.labels[row] if row >= 0 else "" for row in support.classes.tolist()]
        bias = torch.tensor([float(count.get(name, 0)) for name in names]).add(1).log()
        return model.task_model.linear_head(_nothing(model, len(names)), bias)

    return Baseline(fit, zero_shots=True)


def zero_shot(sources: Sources) -> Baseline:
    """The head learned from the sources, without any example of the language."""
    return Baseline(lambda model, support: zero_shot_head(model, len(support.classes)), zero_shots=True)


def target_only(sources: Sources) -> Baseline:
    """A tuned ridge probe on the language's own examples, all feature blocks side by side."""
    return Baseline(lambda model, support: _probe(model, support, tuple(model.encoder.blocks)))


def target_only_dense(sources: Sources) -> Baseline:
    """A tuned ridge probe on the language's own examples, the pretrained encoder's features alone."""
    names = [b for b in sources.model.encoder.blocks if b not in sources.model.encoder.lexical]
    _check_any(names, sources.model, "dense", "e5-small")
    return Baseline(lambda model, support: _probe(model, support, names))


def target_only_lexical(sources: Sources) -> Baseline:
    """A tuned ridge probe on the language's own examples, character n-grams alone."""
    names = [b for b in sources.model.encoder.blocks if b in sources.model.encoder.lexical]
    _check_any(names, sources.model, "lexical", "ngrams")
    return Baseline(lambda model, support: _probe(model, support, names))


def joint(sources: Sources) -> Baseline:
    """One ridge head on the sources and the language's examples together, their weight tuned.

    With the sources' moments A = Σ XᵀX and B = Σ XᵀY, S = (A + λI)⁻¹ and W₀ = S B, the head of the
    sources and the support set X of weight v is W₀ + S Xᵀ (X S Xᵀ + I/v)⁻¹ (Y − X W₀): a ridge head
    in the features X S^½ towards W₀, so it is solved and tuned as every other is.
    """
    model = sources.model
    blocks = dict(model.encoder.blocks)
    gram_sum, cross = _moments(sources)
    gram_sum.diagonal().add_(_SOURCE_PENALTY)
    factor = torch.linalg.cholesky(gram_sum)
    start = torch.cholesky_solve(cross, factor)

    def side_by_side(inputs: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([inputs[name] for name in blocks], dim=1)

    def extra(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {_MAPPED: torch.cholesky_solve(side_by_side(inputs).T, factor).T.contiguous()}

    def fit(model: Model, support: Batch) -> Params:
        features, mapped = side_by_side(support.inputs), support.inputs[_MAPPED]
        weights = start[:, support.classes.clamp(min=0)] * (support.classes >= 0)
        targets, mean = one_hot(support.targets, len(support.classes)), features @ weights
        kernel = mapped @ features.T

        penalties = [1.0 / weight for weight in _TARGET_WEIGHTS]
        sharpness, alpha = _best(support, kernel, targets, mean, penalties, 1.0 / _DEFAULT_WEIGHT)
        total = sharpness * (weights.T + alpha.T @ mapped)
        parts = torch.split(total, list(blocks.values()), dim=1)
        return model.task_model.linear_head(dict(zip(blocks, parts, strict=True)))

    return Baseline(fit, extra=extra)


def _moments(sources: Sources) -> tuple[Tensor, Tensor]:
    """Return Σ XᵀX `[D, D]` and Σ XᵀY `[D, labels]` over the sources, all blocks side by side."""
    model = sources.model
    place = {label: row for row, label in enumerate(model.labels)}
    targets = one_hot(
        torch.tensor([place[e.label] for t in sources.tables for e in t.examples]), len(model.labels)
    )
    blocks = {n: torch.cat([t.inputs[n] for t in sources.tables]) for n in model.encoder.blocks}
    # A text has few of the n-grams: products of sparse matrices are several times as fast.
    sparse = {n: csr_matrix(block.numpy()) for n, block in blocks.items() if n in model.encoder.lexical}

    def product(left: str, right: str) -> Tensor:
        if left in sparse and right in sparse:
            return torch.from_numpy((sparse[left].T @ sparse[right]).toarray())
        if left in sparse:
            return torch.from_numpy(sparse[left].T @ blocks[right].numpy())
        return blocks[left].T @ blocks[right] if right not in sparse else product(right, left).T

    rows = [torch.cat([product(left, right) for right in blocks], dim=1) for left in blocks]
    return torch.cat(rows), torch.cat([block.T @ targets for block in blocks.values()])


def default_baselines(model: Model) -> tuple[str, ...]:
    """Return every baseline that differs from the others with this encoder."""
    several = len(model.encoder.blocks) > 1 and bool(model.encoder.lexical)
    return tuple(name for name in BASELINES if several or name.count("-") < 2)


def zero_shot_head(model: Model, n_labels: int) -> Params:
    """Return a head that predicts what the prior does, calibrated on the sources."""
    return model.task_model.linear_head(_nothing(model, n_labels), prior_scale=model.prior.sharpness)


def _best(
    support: Batch,
    kernel: Tensor,
    targets: Tensor,
    mean: Tensor | None,
    penalties: Sequence[float],
    default: float,
) -> tuple[float, Tensor]:
    """Return the sharpness and the dual solution `[n, C]` of the highest leave-one-out likelihood."""
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
    kernel = kernel_of(support, scales)
    sharpness, alpha = _best(support, kernel, targets, None, _PENALTIES, _DEFAULT_PENALTY)
    return model.task_model.linear_head(primal(support.inputs, scales, sharpness * alpha))


def _check_any(names: Sequence[str], model: Model, sort: str, example: str) -> None:
    if not names:
        raise SettingsError(
            f"the baseline target-only-{sort} needs {sort} features, and {model.encoder.name!r} has none.",
            hint=f"Add an encoder that has some, such as {example}, or leave the baseline out.",
        )


def _nothing(model: Model, n_labels: int) -> dict[str, Tensor]:
    return {block: torch.zeros(n_labels, width) for block, width in model.encoder.blocks.items()}
