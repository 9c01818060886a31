"""Auto: a few preconditioned steps from the prior, whose hyperparameters are learned across languages.

In the space of scores, with X the support set's features, K = Σ_b a_b² X_b X_bᵀ `[n, n]` their kernel
over blocks b, Y its one-hot labels and `prior` the scores of a head that was learned from the other
languages:

    F₀(x) = s (prior(x) − b)                                       what is believed before any example
    A₀ = 0,   A_{t+1} = A_t + τ (K + λ I)⁻¹ (Y − softmax(F₀(X) + K A_t))             t < T
    logits(x) = γ (F₀(x) + Σ_b a_b² x_b X_bᵀ A_T)

Each step fits, by kernel ridge regression, what the probabilities still get wrong: boosting in the space
of functions (Friedman 2001, "Greedy function approximation", algorithm 1) whose weak learner is in closed
form, or gradient descent on a linear head from a learned start, as MAML's inner loop is (Finn et al.
2017), preconditioned by (K + λ I)⁻¹ (a fixed stand-in for the Hessian, as in Böhning 1992, "Multinomial
logistic regression algorithm", and meta-learned as in Park & Oliva 2019, "Meta-Curvature"). Where the prior
is sure and right there is nothing to fit; the fewer the steps, the nearer to the prior. The result is one
linear head.

How far to trust the prior, s, how far to step, τ, and how sure to be at last, γ, depend on the support set:

    log s = g_s · φ,   log τ = g_τ · φ,   log γ = g_γ · φ,   φ = (1, log₂ k, log₂ C, evidence …)

(the parts of φ that each takes are in `_SEES`), with evidence the mean log-likelihood of the support labels,
between about 0 (chance) and 1 (certain): under the prior, which never saw them, and under ridge regression
on a block alone, left one out in closed form. g, λ, the a_b and the doubt δ in b are learned by the outer
loop on episodes of the source languages. There the prior is cross-fitted, else it would look better than it
is on a new language, and be trusted too far. Without γ apart, likelihood and accuracy want different s and
τ, for a sum of scores that are each right about the order of the labels is too sure of it.

b is the mean over labels of each label's mean prior score on the support set, believed as after δ more
examples at zero: it takes out what the prior says of the language and not of the label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import check_support, nothing_written, shots_of, weighted_mean
from metaglot.learners.closed_form import dual, factor_of, inverse_of, one_hot, primal
from metaglot.learners.evidence import evidence, prior_bias, prior_scores
from metaglot.types import Batch, Episode, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

# Where the outer loop starts from: the middle of what several corpora end with.
_START = {"trust": math.log(10.0), "step": math.log(4.0), "sharpness": 0.0}
_DENSE_SCALE = 0.7
# Which parts of φ each takes: 1, shots, labels, evidence.
_SEES = {"trust": (1, 1, 0, 1), "step": (1, 1, 0, 0), "sharpness": (1, 1, 1, 1)}
_PENALTY = "log_penalty"
_DOUBT = "log_doubt"
_SCALE = "log_scale."
# The penalty of the ridge heads whose evidence is judged.
_EVIDENCE_PENALTY = 1.0
# As many examples are doubted where evidence is judged: the start of what is learned. Where the prior knows
# how frequent labels are, b would take that out of it, and the start is near to nothing of b.
_START_DOUBT = 10.0
_DOUBT_OF_BIAS = 300.0


@dataclass(frozen=True)
class _Known:
    """What of a support set no meta-parameter enters.

    Attributes:
        kernels: block name → X_b X_bᵀ `[n, n]`.
        prior: the prior's scores `[n, C]`.
        targets: centred one-hot labels `[n, C]`.
        phi: φ.
    """

    kernels: Mapping[str, Tensor]
    prior: Tensor
    targets: Tensor
    phi: Tensor


@dataclass(frozen=True)
class PreparedEpisode:
    """What of an episode no meta-parameter enters.

    Attributes:
        support: of the support set.
        kernels: block name → query features times support features `[queries, n]`.
        prior: the prior's scores of the query set `[queries, C]`.
        targets: query labels `[queries]`.
        weight: how much the task counts.
    """

    support: _Known
    kernels: Mapping[str, Tensor]
    prior: Tensor
    targets: Tensor
    weight: float


class Auto:
    """A few preconditioned steps from the cross-lingual prior; how far to go is learned across languages.

    Args:
        steps: T.
    """

    needs = frozenset({"label-scores"})

    write = nothing_written

    def __init__(self, steps: int = 4) -> None:
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise SettingsError(f"expected a whole number of steps from 1 on, found {steps!r}.")
        self.steps = steps

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return λ = 1, scales, and coefficients g of constants only."""
        size = 3 + 1 + len(model.blocks)
        meta = {name: torch.zeros(size) for name in _SEES}
        for name, start in _START.items():
            meta[name][0] = start
        # Sixteen of a step's units in all, however many the steps.
        meta["step"][0] += math.log(4.0 / self.steps)
        doubt = _DOUBT_OF_BIAS if getattr(model, "prior_has_bias", False) else _START_DOUBT
        meta |= {_PENALTY: torch.zeros(()), _DOUBT: torch.tensor(math.log(doubt))}
        return meta | {_SCALE + b: torch.tensor(math.log(_DENSE_SCALE)) for b in _scaled(model)}

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return 0.05

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the head after T steps.

        Raises:
            DataError: the support set has fewer than two labels, or does not fit the model.
        """
        known = _known(model, support)
        trust, sharpness = _setting(meta, "trust", known.phi), _setting(meta, "sharpness", known.phi)
        bias, dual_weights = self._solve(model, meta, known, trust)
        weights = primal(support.inputs, _scales(model, meta), sharpness * dual_weights)
        trust = sharpness * trust
        return model.linear_head(weights, trust * bias, trust)

    def predict(self, model: FeatureModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`."""
        return model.forward(adapted, batch)

    def prepare(self, model: FeatureModel, episode: Episode) -> PreparedEpisode:
        """Return kernels, scores of the prior and φ: all but what the outer loop learns."""
        with torch.no_grad():
            support, query = episode.support, episode.query
            kernels = {b: query.inputs[b] @ support.inputs[b].T for b in model.blocks}
            return PreparedEpisode(
                _known(model, support),
                kernels,
                prior_scores(query),
                query.targets,
                episode.weight,
            )

    def meta_loss(self, model: FeatureModel, meta: Params, episodes: Sequence[PreparedEpisode]) -> Tensor:
        """Return the mean query loss after adapting, over prepared episodes, a scalar."""
        losses = []
        for episode in episodes:
            known = episode.support
            trust, sharpness = _setting(meta, "trust", known.phi), _setting(meta, "sharpness", known.phi)
            bias, dual_weights = self._solve(model, meta, known, trust)
            scales = _scales(model, meta)
            believed = trust * (episode.prior + bias)
            logits = sharpness * (believed + _weighted(episode.kernels, scales) @ dual_weights)
            losses.append(model.loss(logits, episode.targets))
        return weighted_mean(torch.stack(losses), [e.weight for e in episodes])

    def _solve(
        self, model: FeatureModel, meta: Params, known: _Known, trust: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return −b `[C]` and A_T `[n, C]`."""
        scales = _scales(model, meta)
        kernel = _weighted(known.kernels, scales)
        factor = factor_of(kernel, meta[_PENALTY].exp())
        bias = prior_bias(known.prior, known.targets, meta[_DOUBT].exp())
        believed = trust * (known.prior + bias)
        labels = known.targets + 1.0 / known.targets.shape[1]
        step = _setting(meta, "step", known.phi)
        found = torch.zeros_like(believed)
        for _ in range(self.steps):
            wrong = labels - (believed + kernel @ found).softmax(-1)
            found = found + step * torch.cholesky_solve(wrong, factor)
        return bias, found


def _scaled(model: FeatureModel) -> list[str]:
    """The blocks whose scale is learned: dense ones beside lexical ones, or all but the first."""
    dense = [b for b in model.blocks if b not in model.lexical]
    return dense if len(dense) < len(model.blocks) else dense[1:]


def _scales(model: FeatureModel, meta: Params) -> dict[str, Tensor]:
    one = torch.ones_like(meta[_PENALTY])
    return {b: meta[_SCALE + b].exp() if _SCALE + b in meta else one for b in model.blocks}


def _weighted(kernels: Mapping[str, Tensor], scales: Mapping[str, Tensor]) -> Tensor:
    """Σ_b a_b² K_b."""
    return torch.stack([scale**2 * kernels[b] for b, scale in scales.items()]).sum(0)


def _setting(meta: Params, name: str, phi: Tensor) -> Tensor:
    """exp(g · φ), a scalar, of the parts of φ that the setting takes."""
    first, shots, labels, evidence = _SEES[name]
    seen = phi.new_tensor([first, shots, labels, *[evidence] * (len(phi) - 3)])
    return (meta[name] * phi * seen).sum().exp()


def _known(model: FeatureModel, support: Batch) -> _Known:
    check_support(support)
    n_labels = len(support.classes)
    kernels = {block: support.gram(block) for block in model.blocks}
    targets, prior = one_hot(support.targets, n_labels), prior_scores(support)
    left_out = [dual(inverse_of(kernel, _EVIDENCE_PENALTY), targets)[1] for kernel in kernels.values()]
    judged = [prior + prior_bias(prior, targets, _START_DOUBT), *left_out]
    # In the middle of what is met, 4 examples of 16 labels, shots and labels count for nothing.
    sizes = [1.0, math.log2(max(1.0, shots_of(support))) - 2, (math.log2(n_labels) - 4) / 2]
    found = torch.stack([evidence(scores, support.targets) for scores in judged])
    return _Known(kernels, prior, targets, torch.cat([prior.new_tensor(sizes), found]))
