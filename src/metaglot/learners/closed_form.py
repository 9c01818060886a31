"""Kernel ridge regression over feature blocks: what several learners and baselines solve.

With features X `[n, D]` (blocks side by side, block b times a_b), targets Y `[n, C]`, a mean function
M `[n, C]` and a penalty λ, the ridge head is

    W = Xᵀ α,   α = (X Xᵀ + λ I)⁻¹ (Y − M),   prediction = M + X W

(Rasmussen & Williams 2006, eq. 2.25; Bertinetto et al. 2019, eq. 4). The leave-one-out prediction of
every support example costs nothing more (ibid., eq. 5.12):

    ŷᵢ = yᵢ − αᵢ / [(X Xᵀ + λ I)⁻¹]ᵢᵢ

Everything is differentiable in features, scales, penalty and mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RidgeFit:
    """A ridge head in its dual form.

    Attributes:
        weights: block name → weights `[C, d]`; the scales a_b are multiplied in.
        left_out: leave-one-out scores of the support examples `[n, C]`, the mean included.
    """

    weights: dict[str, Tensor]
    left_out: Tensor


def one_hot(targets: Tensor, n_labels: int) -> Tensor:
    """Return centred targets `[n, C]`: 1 − 1/C for the label, −1/C for the others."""
    return F.one_hot(targets, n_labels).to(torch.get_default_dtype()) - 1.0 / n_labels


def gram(
    left: Mapping[str, Tensor], right: Mapping[str, Tensor], scales: Mapping[str, Tensor | float]
) -> Tensor:
    """Return Σ_b a_b² X_b Z_bᵀ `[n, m]` over the blocks that `scales` names."""
    blocks = [scale * scale * (left[name] @ right[name].T) for name, scale in scales.items()]
    return torch.stack(blocks).sum(0)


def ridge(
    inputs: Mapping[str, Tensor],
    targets: Tensor,
    scales: Mapping[str, Tensor | float],
    penalty: Tensor | float,
    mean: Tensor | None = None,
    kernel: Tensor | None = None,
) -> RidgeFit:
    """Solve kernel ridge regression on a support set.

    Args:
        inputs: block name → features `[n, d]`.
        targets: centred targets `[n, C]`.
        scales: block name → a_b, of the blocks to be used.
        penalty: λ > 0.
        mean: M `[n, C]`; zero where None.
        kernel: `gram(inputs, inputs, scales)`, where the caller has it already.

    Returns:
        The weights and the leave-one-out scores.
    """
    kernel = gram(inputs, inputs, scales) if kernel is None else kernel
    eye = torch.eye(len(targets), dtype=kernel.dtype, device=kernel.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel + penalty * eye))
    alpha = inverse @ (targets if mean is None else targets - mean)
    left_out = targets - alpha / inverse.diagonal().unsqueeze(-1)
    weights = {name: scale * scale * (alpha.T @ inputs[name]) for name, scale in scales.items()}
    return RidgeFit(weights, left_out)


def mean_log_likelihood(scores: Tensor, targets: Tensor, sharpness: Tensor | float) -> Tensor:
    """Return the mean log-probability, a scalar, of labels `[n]` under softmax(sharpness · scores)."""
    return -F.cross_entropy(sharpness * scores, targets)


def best_sharpness(scores: Tensor, targets: Tensor, choices: Sequence[float] = ()) -> float:
    """Return the sharpness (inverse temperature) of the highest likelihood, from a geometric grid."""
    grid = list(choices) or [2.0 ** (i / 2) for i in range(0, 15)]
    return max(grid, key=lambda s: float(mean_log_likelihood(scores, targets, s)))
