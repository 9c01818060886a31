"""Logistic regression on the support set: as the MTEB benchmark has it, and scaled and tuned.

min over W, b   C Σ_i −log softmax(W x_i + b)_{y_i} + ½ ‖W‖²
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.evaluation.baselines import Baseline, check_blocks, dense_blocks
from metaglot.evaluation.source_tuning import best_setting, power_of_shots, tuning_episode, tuning_languages
from metaglot.learners.closed_form import factor_of, kernel_of, primal
from metaglot.model import Model, Sources
from metaglot.progress import progress
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

_STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
_DEFAULT_STRENGTH = 10.0
_ITERATIONS = 60
# Of the kernel's mean diagonal: enough for a Cholesky factor in single precision, too little to matter.
_JITTER = 1e-4
# The logit of a label that the support set has no example of.
_NEVER = -100.0


def logistic_mteb(sources: Sources) -> Baseline:
    """Logistic regression in the MTEB benchmark's setting: the encoder's own features, C = 1.

    Muennighoff et al. (2023), "MTEB: Massive Text Embedding Benchmark": scikit-learn's, at most 100
    iterations, on what the encoder returns, unscaled. Cosines that are squeezed into a small range are
    starved by it; it is here as what published numbers are made with.
    """
    names = dense_blocks(sources.model)
    check_blocks(names, sources.model, "logistic-mteb", "dense")

    def fit(model: Model, support: Batch) -> Params:
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

        scalers = [model.scalers[name] for name in names]
        scale, mean = torch.cat([s.scale for s in scalers]), torch.cat([s.mean for s in scalers])
        features = torch.cat([support.inputs[name] for name in names], dim=1) / scale + mean
        solver = LogisticRegression(C=1.0, max_iter=100)
        with warnings.catch_warnings():
            # A hundred iterations are its setting, and one example of each label is no mistake.
            warnings.simplefilter("ignore")
            solver.fit(features.numpy(), support.targets.numpy())
        found = torch.from_numpy(solver.coef_).float()
        intercept = torch.from_numpy(solver.intercept_).float()
        if len(found) == 1:  # two labels: it has the second one's score alone
            found, intercept = torch.cat([0 * found, found]), torch.cat([0 * intercept, intercept])
        weights = found.new_zeros(len(support.classes), found.shape[1])
        bias = found.new_full((len(support.classes),), _NEVER)
        present = torch.from_numpy(solver.classes_)
        weights[present], bias[present] = found / scale, intercept + found @ mean
        parts = torch.split(weights, [model.blocks[name] for name in names], dim=1)
        return model.task_model.linear_head(dict(zip(names, parts, strict=True)), bias)

    return Baseline(fit)


def logistic_tuned(sources: Sources) -> Baseline:
    """Logistic regression on all feature blocks, scaled; C tuned on source languages for each k."""
    model = sources.model

    @cache
    def strength(shots: int) -> float:
        judged = []
        places = tuning_languages(sources)
        with progress(f"tuning logistic regression for k = {shots}", len(places)) as advance:
            for place in places:
                episode = tuning_episode(model, sources.tables[place], shots)
                if episode is not None:
                    heads = logistic_heads(model, episode.support, _STRENGTHS)
                    logits = [model.task_model.forward(head, episode.query) for head in heads]
                    judged.append((logits, episode.query.targets))
                advance()
        return best_setting(_STRENGTHS, judged, _DEFAULT_STRENGTH)

    def fit(model: Model, support: Batch) -> Params:
        return logistic_heads(model, support, [strength(power_of_shots(support))])[0]

    return Baseline(fit)


def logistic_heads(model: Model, support: Batch, strengths: Sequence[float]) -> list[Params]:
    """Return the logistic heads of a support set on all blocks, one for each C, rising.

    With fewer examples than columns the problem is solved in the n coordinates L of the kernel
    X Xᵀ = L Lᵀ, where W = Xᵀ L⁻ᵀ V has the norm of V.

    Args:
        model: the model.
        support: the support set.
        strengths: C, rising: each solution starts from the one before.
    """
    blocks, n_labels = dict(model.blocks), len(support.classes)
    scales: dict[str, Tensor | float] = dict.fromkeys(blocks, 1.0)
    small = len(support) < sum(blocks.values())
    if small:
        kernel = kernel_of(support, scales)
        coordinates = factor_of(kernel, _JITTER * float(kernel.diagonal().mean().clamp(min=1e-6)))
    else:
        coordinates = torch.cat([support.inputs[name] for name in blocks], dim=1)
    start = coordinates.new_zeros(coordinates.shape[1] + 1, n_labels)
    heads = []
    for strength in strengths:
        start = _solve(coordinates, support.targets, 1.0 / strength, start)
        if small:
            alpha = torch.linalg.solve_triangular(coordinates.T, start[:-1], upper=True)
            weights = primal(support.inputs, scales, alpha)
        else:
            parts = torch.split(start[:-1].T, list(blocks.values()), dim=1)
            weights = dict(zip(blocks, parts, strict=True))
        heads.append(model.task_model.linear_head(weights, start[-1]))
    return heads


def _solve(features: Tensor, targets: Tensor, penalty: float, start: Tensor) -> Tensor:
    """The weights `[d + 1, C]`, the bias last and not penalised, by L-BFGS from a start."""
    params = start.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [params],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-7,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(torch.addmm(params[-1], features, params[:-1]), targets)
        loss = loss + penalty / 2 / len(targets) * params[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return params.detach()
