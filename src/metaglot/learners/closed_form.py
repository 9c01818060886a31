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
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.errors import DataError
from metaglot.types import Batch

if TYPE_CHECKING:
    from torch import Tensor


def one_hot(targets: Tensor, n_labels: int) -> Tensor:
    """Return centred targets `[n, C]`: 1 − 1/C for the label, −1/C for the others."""
    return F.one_hot(targets, n_labels).to(torch.get_default_dtype()) - 1.0 / n_labels


def label_mean(values: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over labels of each label's mean `[…]`: labels count alike, however frequent.

    Args:
        values: `[n, …]`.
        targets: centred one-hot labels `[n, C]`; a label without examples does not count.
    """
    member = (targets > 0).to(values.dtype)
    count = member.sum(0)
    means = (member.T @ values) / count.clamp(min=1).unsqueeze(-1)
    return means[count > 0].mean(0)


def kernel_of(batch: Batch, scales: Mapping[str, Tensor | float]) -> Tensor:
    """Return Σ_b a_b² X_b X_bᵀ `[n, n]` over the blocks that `scales` names."""
    return torch.stack([scale * scale * batch.gram(name) for name, scale in scales.items()]).sum(0)


def ridge(
    batch: Batch, targets: Tensor, scales: Mapping[str, Tensor | float], penalty: Tensor | float
) -> dict[str, Tensor]:
    """Return the ridge head of a support set, block name → weights `[C, d]`.

    Args:
        batch: the support set.
        targets: centred targets `[n, C]`.
        scales: block name → a_b, of the blocks to be used.
        penalty: λ > 0.
    """
    alpha = torch.cholesky_solve(targets, factor_of(kernel_of(batch, scales), penalty))
    return primal(batch.inputs, scales, alpha)


def inverse_of(kernel: Tensor, penalty: Tensor | float) -> Tensor:
    """Return (K + λ I)⁻¹ `[n, n]`."""
    # cholesky_inverse would say the same, several times as slowly.
    return torch.cholesky_solve(torch.eye(len(kernel), dtype=kernel.dtype), factor_of(kernel, penalty))


def duals(
    kernel: Tensor, penalties: Sequence[float], targets: Tensor, mean: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Return what `dual` does for each of several λ, by one eigendecomposition of the kernel."""
    values, vectors = torch.linalg.eigh(kernel)
    turned = vectors.T @ (targets if mean is None else targets - mean)
    found = []
    for penalty in penalties:
        shrunk = 1.0 / (values.clamp(min=0) + penalty)
        alpha = vectors @ (shrunk.unsqueeze(-1) * turned)
        diagonal = vectors.square() @ shrunk
        found.append((alpha, targets - alpha / diagonal.unsqueeze(-1)))
    return found


def dual(inverse: Tensor, targets: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return α `[n, C]` and the leave-one-out scores `[n, C]`, the mean included.

    Args:
        inverse: (K + λ I)⁻¹ `[n, n]`.
        targets: centred targets `[n, C]`.
        mean: M `[n, C]`; zero where None.
    """
    alpha = inverse @ (targets if mean is None else targets - mean)
    return alpha, targets - alpha / inverse.diagonal().unsqueeze(-1)


def primal(
    inputs: Mapping[str, Tensor], scales: Mapping[str, Tensor | float], alpha: Tensor
) -> dict[str, Tensor]:
    """Return block name → weights `[C, d]` of the dual solution α `[n, C]`."""
    return {name: scale * scale * (alpha.T @ inputs[name]) for name, scale in scales.items()}


def factor_of(kernel: Tensor, penalty: Tensor | float) -> Tensor:
    """Return the Cholesky factor L `[n, n]`, lower triangular, of K + λ I.

    Raises:
        DataError: it has none, since the features are not finite or λ is lost in rounding.
    """
    eye = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    factor: Tensor
    factor, fault = torch.linalg.cholesky_ex(kernel + penalty * eye)
    if bool(fault):
        raise DataError(
            "expected a kernel that is positive definite with its penalty, found one that is not.",
            hint="Look for features that are not numbers, or far too large; or raise the penalty.",
        )
    return factor


def mean_log_likelihood(scores: Tensor, targets: Tensor, sharpness: Tensor | float) -> Tensor:
    """Return the mean log-probability, a scalar, of labels `[n]` under softmax(sharpness · scores)."""
    return -F.cross_entropy(sharpness * scores, targets)


def best_sharpness(scores: Tensor, targets: Tensor, choices: Sequence[float] = ()) -> float:
    """Return the sharpness (inverse temperature) of the highest likelihood, from a geometric grid."""
    grid = list(choices) or [2.0 ** (i / 2) for i in range(0, 15)]
    return max(grid, key=lambda s: float(mean_log_likelihood(scores, targets, s)))
