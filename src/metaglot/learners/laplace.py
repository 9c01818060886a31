"""A Bayesian last layer: a Gaussian posterior around the logistic head, and confidence that it bounds.

    p(W | S)^(1/T) ≈ N(Ŵ, T Σ ⊗ I_C),    Σ⁻¹ = λ I + Σ_i w_i φ_i φ_iᵀ,    w_i = (1 − Σ_y p_iy²) / (C − 1)
    logits(q) = κ(q) (Ŵ φ(q) + s · prior),    κ(q) = (1 + π/4 · σ²(q))^−½,    σ²(q) = T φ(q)ᵀ Σ φ(q)

Ŵ is the penalised maximum (see `metaglot.learners.logistic`, whose letters these are). The precision λ of
the prior on the weights is meta-learned with the features, through Ŵ and Σ, by the likelihood of the
query sets; so is the posterior's temperature T (Wenzel et al. 2020, "How good is the Bayes posterior in
deep neural networks really?"), for at T = 1 the posterior is far too wide in hundreds of dimensions, most
of which tell no labels apart: it starts at 0.02. Where an example is like none of the support set, σ²
grows to T ‖φ(q)‖²/λ and the prediction falls back towards chance; the most probable label stays what it
is under Ŵ.

MacKay (1992), "The evidence framework applied to classification networks", for the approximation and the
probit factor κ; Lu, Ie & Sha (2020), "Mean-field approximation to Gaussian-softmax integral", section 3,
for the same between every two of C labels, whose scores differ with variance 2 σ² (hence π/4, not π/8);
Daxberger et al. (2021), "Laplace redux", for the last layer alone. The curvature diag p_i − p_i p_iᵀ is
replaced by w_i times the identity, of the same trace on the differences between labels: exact for two
labels, and one matrix for all labels beyond.

By Woodbury, with K = Φ Φᵀ and D = diag √w `[n, n]`,

    σ²(q) = T (‖φ(q)‖² − ‖R φ(q)‖²) / λ,    R = L⁻¹ D Φ,    L Lᵀ = λ I + D K D

so that an adaptation is the head and R, `[n, d]` in every block.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from metaglot.learners.base import START, as_it_is, mean_query_loss, nothing_written
from metaglot.learners.closed_form import factor_of, kernel_of, primal
from metaglot.learners.features import features_of, support_features
from metaglot.learners.logistic import TRUST, first_logistic, fit_logistic
from metaglot.learners.ridge import PENALTY, scales_of
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

REACH = "reach."
"""What the names of R's blocks `[n, d]`, which belong to an adaptation, begin with."""
TEMPERATURE = "log_temperature"


class Laplace:
    """Bayesian last layer: logistic head, Gaussian posterior, confidence that falls away from examples.

    Args:
        outer_rate: the outer loop's step size for a body.
    """

    needs = frozenset({"label-scores"})

    prepare = as_it_is
    meta_loss = mean_query_loss
    write = nothing_written

    def __init__(self, *, outer_rate: float = 0.003) -> None:
        self.start_rate = outer_rate

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return what logistic regression starts from, and T = 0.02, in logarithms."""
        return first_logistic(model) | {TEMPERATURE: torch.tensor(math.log(0.02))}

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter."""
        return self.start_rate if name.startswith(START) else 0.1

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the logistic head of the support set, and R.

        Raises:
            DataError: the support set has fewer than two labels, or does not fit the model.
        """
        features = support_features(model, meta, support)
        scales = scales_of(model, meta)
        kernel = kernel_of(features, scales)
        residuals, chances = fit_logistic(kernel, features, meta)
        head = model.linear_head(primal(features.inputs, scales, residuals), prior_scale=meta[TRUST].exp())
        curvature = (1 - chances.square().sum(-1)) / (chances.shape[1] - 1)
        # A certain example has none: its root would have no derivative.
        root = curvature.clamp(min=torch.finfo(kernel.dtype).eps).sqrt().unsqueeze(-1)
        factor = factor_of(root * kernel * root.T, meta[PENALTY].exp())
        return head | {
            REACH + block: torch.linalg.solve_triangular(
                factor, root * scale * features.inputs[block], upper=False
            )
            for block, scale in scales.items()
        }

    def predict(self, model: FeatureModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`, whose softmax is the approximate posterior predictive."""
        features = features_of(model, meta, batch)
        variance = posterior_variance(model, meta, adapted, features)
        shrink = (1 + math.pi / 4 * variance).rsqrt()
        return shrink.unsqueeze(-1) * model.apply_head(adapted, features)


def posterior_variance(model: FeatureModel, meta: Params, adapted: Params, features: Batch) -> Tensor:
    """Return σ² `[n]` of every label's score, for features."""
    scaled = {block: scale * features.inputs[block] for block, scale in scales_of(model, meta).items()}
    size = torch.stack([block.square().sum(-1) for block in scaled.values()]).sum(0)
    known = torch.stack([block @ adapted[REACH + name].T for name, block in scaled.items()]).sum(0)
    # The difference of two that are nearly equal, near an example that says all there is to know.
    left = (size - known.square().sum(-1)).clamp(min=0)
    return left * (meta[TEMPERATURE] - meta[PENALTY]).exp()
