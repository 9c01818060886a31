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

from metaglot.learners.base import shots_of
from metaglot.learners.closed_form import RidgeFit, best_sharpness, gram, mean_log_likelihood, one_hot, ridge
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
    """

    fit: Callable[[Model, Batch], Params]
    zero_shots: bool = False


def majority(sources: Sources) -> Baseline:
    """The most frequent label of the sources, whatever the text."""
    count = Counter(e.label for table in sources.tables for e in table.examples)

    def fit(model: Model, support: Batch) -> Params:
        names = [model.labels[row] if row >= 0 else "" for row in support.classes.tolist()]
        bias = torch.tensor([float(count.get(name, 0)) for name in names]).add(1).log()
        return model.task_model.head(_nothing(model, len(names)), bias)

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
    return Baseline(lambda model, support: _probe(model, support, names))


def target_only_lexical(sources: Sources) -> Baseline:
    """A tuned ridge probe on the language's own examples, character n-grams alone."""
    names = [b for b in sources.model.encoder.blocks if b in sources.model.encoder.lexical]
    return Baseline(lambda model, support: _probe(model, support, names))


def joint(sources: Sources) -> Baseline:
    """One ridge head on the sources and the language's examples together, their weight tuned.

    With the sources' moments A = Σ XᵀX and B = Σ XᵀY, S = (A + λI)⁻¹ and W₀ = S B, the head of the
    sources and the support set X of weight v is W₀ + S Xᵀ (X S Xᵀ + I/v)⁻¹ (Y − X W₀): a ridge head
    in the features X S^½ towards W₀, so it is solved and tuned as every other is.
    """
    model = sources.model
    blocks = dict(model.encoder.blocks)
    place = {label: row for row, label in enumerate(model.labels)}
    gram_sum = torch.zeros(sum(blocks.values()), sum(blocks.values()))
    cross = torch.zeros(len(gram_sum), len(model.labels))
    for table in sources.tables:
        features = torch.cat([table.inputs[name] for name in blocks], dim=1)
        targets = one_hot(torch.tensor([place[e.label] for e in table.examples]), len(model.labels))
        gram_sum.addmm_(features.T, features)
        cross.addmm_(features.T, targets)
    gram_sum.diagonal().add_(_SOURCE_PENALTY)
    shrink = torch.cholesky_inverse(torch.linalg.cholesky(gram_sum))
    start = shrink @ cross

    def fit(model: Model, support: Batch) -> Params:
        features = torch.cat([support.inputs[name] for name in blocks], dim=1)
        known = support.classes >= 0
        weights = start[:, support.classes.clamp(min=0)] * known
        targets, mean = one_hot(support.targets, len(support.classes)), features @ weights
        mapped = features @ shrink
        kernel = mapped @ features.T

        def solve(weight: float) -> Callable[[], RidgeFit]:
            inputs, scales = {"mapped": mapped}, {"mapped": 1.0}
            return lambda: ridge(inputs, targets, scales, 1.0 / weight, mean, kernel)

        best = _best(support, {w: solve(w) for w in _TARGET_WEIGHTS}, _DEFAULT_WEIGHT)
        total = best.sharpness * (weights.T + best.fit.weights["mapped"])
        parts = torch.split(total, list(blocks.values()), dim=1)
        return model.task_model.head(dict(zip(blocks, parts, strict=True)))

    return Baseline(fit)


def default_baselines(model: Model) -> tuple[str, ...]:
    """Return every baseline that differs from the others with this encoder."""
    several = len(model.encoder.blocks) > 1 and bool(model.encoder.lexical)
    return tuple(name for name in BASELINES if several or name.count("-") < 2)


def zero_shot_head(model: Model, n_labels: int) -> Params:
    """Return a head that predicts what the prior does, calibrated on the sources."""
    return model.task_model.head(_nothing(model, n_labels), prior_scale=model.prior.sharpness)


@dataclass(frozen=True)
class _Candidate:
    fit: RidgeFit
    sharpness: float
    likelihood: float


def _best(support: Batch, fits: Mapping[float, Callable[[], RidgeFit]], default: float) -> _Candidate:
    """Solve every candidate and return the one of the highest leave-one-out likelihood."""
    if shots_of(support) < 2:
        return _Candidate(fits[default](), _DEFAULT_SHARPNESS, 0.0)
    found = []
    for solve in fits.values():
        fit = solve()
        sharpness = best_sharpness(fit.left_out, support.targets)
        likelihood = float(mean_log_likelihood(fit.left_out, support.targets, sharpness))
        found.append(_Candidate(fit, sharpness, likelihood))
    return max(found, key=lambda candidate: candidate.likelihood)


def _probe(model: Model, support: Batch, blocks: Sequence[str]) -> Params:
    scales: dict[str, Tensor | float] = dict.fromkeys(blocks, 1.0)
    targets = one_hot(support.targets, len(support.classes))
    kernel = gram(support.inputs, support.inputs, scales)

    def solve(penalty: float) -> Callable[[], RidgeFit]:
        return lambda: ridge(support.inputs, targets, scales, penalty, kernel=kernel)

    best = _best(support, {p: solve(p) for p in _PENALTIES}, _DEFAULT_PENALTY)
    return model.task_model.head({b: best.sharpness * w for b, w in best.fit.weights.items()})


def _nothing(model: Model, n_labels: int) -> dict[str, Tensor]:
    return {block: torch.zeros(n_labels, width) for block, width in model.encoder.blocks.items()}
