"""How well scores explain a support set, and the prior as it starts from there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from metaglot.learners.closed_form import label_mean, mean_log_likelihood
from metaglot.types import Batch

if TYPE_CHECKING:
    from torch import Tensor

# The sharpness at which evidence is judged: about that of a fitted head.
_SHARPNESS = 8.0


def evidence(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean log-likelihood of labels, a scalar between about 0 (chance) and 1 (certain), ≥ −1.

    Args:
        scores: `[n, C]`.
        targets: labels `[n]`.
    """
    found = mean_log_likelihood(scores, targets, _SHARPNESS)
    return (1 + found / math.log(scores.shape[1])).clamp(min=-1.0)


def prior_scores(batch: Batch) -> Tensor:
    """Return the prior's scores `[n, C]`, zeros where there are none."""
    if batch.prior is not None:
        return batch.prior
    return next(iter(batch.inputs.values())).new_zeros(len(batch), len(batch.classes))


def prior_bias(prior: Tensor, targets: Tensor, doubt: Tensor | float) -> Tensor:
    """Return what to add to the prior's scores `[C]`: it takes out what they say of the language alone.

    It is minus the mean over labels of each label's mean score, believed as after so many examples more
    at zero.

    Args:
        prior: the support set's scores `[n, C]`.
        targets: centred one-hot labels `[n, C]`.
        doubt: how many examples more.
    """
    return -label_mean(prior, targets) * len(prior) / (len(prior) + doubt)
