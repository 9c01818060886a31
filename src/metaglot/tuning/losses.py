"""What tuning makes small: distances between texts of one label, or errors of a head.

    contrastive     Σ_i −1/|P(i)| Σ_{p∈P(i)} log exp(z_i·z_p / τ) / Σ_{a≠i} exp(z_i·z_a / τ)

over the texts i of a batch, P(i) the others of the label of i: Khosla et al. (2020), "Supervised
contrastive learning", eq. 2, here the mean over those i that have a P(i). A batch has its labels in
several languages (`batches`), so that most of P(i) are of other languages than i.

    classification  −log softmax(W x_i + b)_{y_i}

with a head that starts as ridge regression on the pretrained features and is thrown away: a random
one would first bend the features to itself (Kumar et al. 2022, "Fine-tuning can distort pretrained
features and underperform out-of-distribution").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.learners.closed_form import best_sharpness, dual, inverse_of, one_hot
from metaglot.model import Scaler

if TYPE_CHECKING:
    from torch import Tensor

# Of the ridge head, on rows of norm about one.
PENALTY = 1.0


def supervised_contrastive(vectors: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return the loss, a scalar, of vectors `[n, d]` of length 1 and labels `[n]`.

    Texts whose label no other text has count as what others are told from, and no more; without any
    pair the loss is 0.
    """
    scores = vectors @ vectors.T / temperature
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    scores = scores.masked_fill(itself, float("-inf"))
    logs = scores - scores.logsumexp(1, keepdim=True)
    positive = (targets[:, None] == targets) & ~itself
    counts = positive.sum(1)
    paired = counts > 0
    if not bool(paired.any()):
        return 0.0 * vectors.sum()
    sums = logs.masked_fill(~positive, 0.0).sum(1)
    return -(sums[paired] / counts[paired]).mean()


class Head(nn.Module):
    """A linear head over scaled features, started by ridge regression.

    Args:
        vectors: pretrained features `[n, d]` of a sample of the texts.
        targets: their labels `[n]`.
        n_labels: rows of the label list.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, vectors: Tensor, targets: Tensor, n_labels: int) -> None:
        super().__init__()
        scaler = Scaler.of(vectors)
        self.register_buffer("mean", scaler.mean)
        self.register_buffer("scale", scaler.scale)
        rows = scaler(vectors)
        alpha, left_out = dual(inverse_of(rows @ rows.T, PENALTY), one_hot(targets, n_labels))
        sharpness = best_sharpness(left_out, targets)
        self.weight = nn.Parameter(sharpness * (alpha.T @ rows))
        self.bias = nn.Parameter(torch.zeros(n_labels))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits `[n, C]`."""
        return F.linear((vectors - self.mean) * self.scale, self.weight, self.bias)


class Objective(nn.Module):
    """The loss of a run: one of them, or their sum.

    Args:
        loss: `contrastive`, `classification` or `both`.
        temperature: τ of the contrastive loss.
        head: of `classification`; None where there is none.
    """

    def __init__(self, loss: str, temperature: float, head: Head | None) -> None:
        super().__init__()
        self.contrastive, self.temperature = loss != "classification", temperature
        self.head = head

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a scalar, of features `[n, d]` and labels `[n]`."""
        loss = torch.zeros((), device=features.device)
        if self.contrastive:
            loss = loss + supervised_contrastive(features, targets, self.temperature)
        if self.head is not None:
            loss = loss + F.cross_entropy(self.head(features), targets)
        return loss
