"""Mixture: experts in closed form, and how far to trust each at k examples learned across languages.

Every expert e makes of a support set S a linear head with scores s_e(x) `[C]`:

    prior       zero-shot: the scores of a head that was learned from the other languages
    b           ridge on the feature block b alone, for every block
    all         ridge on all blocks side by side
    anchored    ridge on all blocks towards the prior: it fits what the prior gets wrong on S

and the mixture's logits are a weighted sum, a product of experts (Hinton 2002), so that the mixture
is itself one linear head:

    logits(x) = Σ_e w_e(S) s_e(x),    log w_e(S) = g_e · (1, log₂ k, evidence_e(S), evidence_prior(S))

evidence_e is the mean leave-one-out log-likelihood of the support labels under expert e, between
about 0 (chance) and 1 (certain): closed form for a ridge head, and plain likelihood for the prior,
which never saw S. The weights g are learned by the outer loop on episodes of the source languages,
as stacking does (Wolpert 1992). There the prior is cross-fitted (a language's prior comes from the
other languages), else it would look better than it is on a new one, and be trusted too far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import check_support, nothing_written, shots_of, weighted_mean
from metaglot.learners.closed_form import dual, inverse_of, one_hot, primal
from metaglot.learners.evidence import evidence, prior_bias, prior_scores
from metaglot.types import Batch, Episode, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

# Logarithms of the weights to start from: near what most corpora end with, so that the outer loop
# need not go far.
_START = {"prior": 3.0, "anchored": 1.3}
_START_RIDGE = 0.3
# The mean of the support set's prior scores is believed as after so many examples more at zero.
_DOUBT = 10.0


@dataclass(frozen=True)
class _Expert:
    """One expert's head: block weights, bias, its trust in the prior, and its evidence, a scalar."""

    weights: dict[str, Tensor]
    bias: Tensor
    prior_scale: float
    evidence: Tensor


@dataclass(frozen=True)
class PreparedEpisode:
    """What of an episode no meta-parameter enters.

    Attributes:
        scores: each expert's query scores `[E, n, C]`.
        gates: the inputs of each expert's weight `[E, 4]`.
        targets: query labels `[n]`.
        weight: how much the task counts.
    """

    scores: Tensor
    gates: Tensor
    targets: Tensor
    weight: float


class Mixture:
    """Zero-shot, per-feature and anchored closed-form experts, mixed as source languages teach.

    Args:
        penalty: λ of every ridge expert.
        dense_scale: what dense blocks are multiplied by beside lexical ones in the joint kernels.
    """

    needs = frozenset({"label-scores"})

    write = nothing_written

    def __init__(self, penalty: float = 1.0, dense_scale: float = 0.7) -> None:
        if not (penalty > 0 and dense_scale > 0):
            raise SettingsError(
                f"expected penalty > 0 and dense_scale > 0, found {penalty} and {dense_scale}."
            )
        self.penalty = penalty
        self.dense_scale = dense_scale

    def experts(self, model: FeatureModel) -> tuple[str, ...]:
        """Return the experts' names, in the order of the gate's rows."""
        single = tuple(model.blocks) if len(model.blocks) > 1 else ()
        return ("prior", *single, "all", "anchored")

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return a gate `[E, 4]` that trusts the prior, its correction, and the rest in this order."""
        names = self.experts(model)
        gate = torch.zeros(len(names), 4)
        gate[:, 0] = torch.tensor([_START.get(name, _START_RIDGE) for name in names])
        return {"gate": gate}

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return 0.1

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the mixture as one head."""
        experts = self._fit(model, support)
        weight = _weights(meta, _gates(experts, support))
        heads = [_head(model, expert, len(support.classes)) for expert in experts]
        return {
            name: torch.stack([w * head[name] for w, head in zip(weight, heads, strict=True)]).sum(0)
            for name in heads[0]
        }

    def predict(self, model: FeatureModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`."""
        return model.forward(adapted, batch)

    def prepare(self, model: FeatureModel, episode: Episode) -> PreparedEpisode:
        """Return the experts' query scores and the gate's inputs: all but the gate itself."""
        with torch.no_grad():
            experts = self._fit(model, episode.support)
            scores = [
                model.forward(_head(model, e, len(episode.support.classes)), episode.query) for e in experts
            ]
            return PreparedEpisode(
                torch.stack(scores), _gates(experts, episode.support), episode.query.targets, episode.weight
            )

    def meta_loss(self, model: FeatureModel, meta: Params, episodes: Sequence[PreparedEpisode]) -> Tensor:
        """Return the mean query loss of the mixture over prepared episodes, a scalar."""
        losses = [
            model.loss(torch.einsum("e,enc->nc", _weights(meta, e.gates), e.scores), e.targets)
            for e in episodes
        ]
        return weighted_mean(torch.stack(losses), [e.weight for e in episodes])

    def _fit(self, model: FeatureModel, support: Batch) -> list[_Expert]:
        check_support(support)
        n_labels = len(support.classes)
        targets = one_hot(support.targets, n_labels)
        prior = prior_scores(support)
        shift = prior_bias(prior, targets, _DOUBT)

        def expert(scales: dict[str, float], mean: Tensor | None, inverse: Tensor) -> _Expert:
            alpha, left_out = dual(inverse, targets, mean)
            bias = torch.zeros(n_labels) if mean is None else shift
            weights = primal(support.inputs, scales, alpha)
            return _Expert(weights, bias, 0.0 if mean is None else 1.0, evidence(left_out, support.targets))

        kernels = {block: support.gram(block) for block in model.blocks}
        every = {b: 1.0 if b in model.lexical or len(kernels) == 1 else self.dense_scale for b in kernels}
        together = torch.stack([scale**2 * kernels[block] for block, scale in every.items()]).sum(0)
        inverse = inverse_of(together, self.penalty)
        alone = [expert({b: 1.0}, None, inverse_of(k, self.penalty)) for b, k in kernels.items()]
        return [
            _Expert({}, shift, 1.0, evidence(prior + shift, support.targets)),
            *(alone if len(alone) > 1 else []),
            expert(every, None, inverse),
            expert(every, prior + shift, inverse),
        ]


def _head(model: FeatureModel, expert: _Expert, n_labels: int) -> Params:
    weights = expert.weights or {b: torch.zeros(n_labels, width) for b, width in model.blocks.items()}
    return model.linear_head(weights, expert.bias, expert.prior_scale)


def _gates(experts: Sequence[_Expert], support: Batch) -> Tensor:
    """The gate's inputs `[E, 4]`: 1, log₂ k, the expert's own evidence and the prior's."""
    shots = math.log2(max(1.0, shots_of(support)))
    prior = experts[0].evidence
    rows = [torch.stack([torch.ones(()), torch.tensor(shots), e.evidence, prior]) for e in experts]
    return torch.stack(rows)


def _weights(meta: Params, gates: Tensor) -> Tensor:
    """The experts' weights `[E]`, all positive."""
    return (meta["gate"] * gates).sum(-1).exp()
