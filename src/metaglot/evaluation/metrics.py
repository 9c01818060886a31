"""How good predictions are: accuracy, macro-F1, log-loss, calibration, and telling two sorts apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def classification_metrics(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Return accuracy, macro-F1, log-loss (nats) and expected calibration error.

    Args:
        logits: `[n, C]`.
        targets: `[n]`.
    """
    predicted = logits.argmax(-1)
    return {
        "accuracy": float((predicted == targets).double().mean()),
        "macro_f1": macro_f1(predicted, targets),
        **unit_metrics(logits, targets),
    }


def unit_metrics(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Return log-loss (nats) and expected calibration error over units, whatever the kind.

    Args:
        logits: `[n, C]`.
        targets: `[n]`; a unit whose label is not in the inventory (a negative target) does not count.
    """
    known = targets >= 0
    logits, targets = logits[known], targets[known]
    return {
        "log_loss": float(F.cross_entropy(logits, targets)),
        "calibration_error": calibration_error(logits.softmax(-1), targets),
    }


def macro_f1(predicted: Tensor, targets: Tensor) -> float:
    """Return the mean over labels, of those that occur or are predicted, of 2 TP / (2 TP + FP + FN).

    Args:
        predicted: label numbers `[n]`.
        targets: label numbers `[n]`.
    """
    size = int(torch.cat([predicted, targets]).max()) + 1
    both = torch.bincount(predicted, minlength=size) + torch.bincount(targets, minlength=size)
    right = torch.bincount(targets[predicted == targets], minlength=size)
    there = both > 0
    return float((2 * right[there].double() / both[there]).mean())


def calibration_error(probabilities: Tensor, targets: Tensor, bins: int = 10) -> float:
    """Return the expected calibration error over equally wide bins (Guo et al. 2017, eq. 3).

    Args:
        probabilities: `[n, C]`, rows that sum to one.
        targets: `[n]`.
        bins: into how many parts the confidences from 0 to 1 are divided.
    """
    confidence, predicted = probabilities.max(-1)
    right = (predicted == targets).double()
    place = (confidence * bins).long().clamp(max=bins - 1)
    error = 0.0
    for number in range(bins):
        here = place == number
        if bool(here.any()):
            gap = right[here].mean() - confidence[here].double().mean()
            error += float(here.double().mean() * gap.abs())
    return error


def auroc(positives: Tensor, negatives: Tensor) -> float:
    """Return the chance that a positive scores higher than a negative, ties counted half.

    That is the area under the receiver operating characteristic (Fawcett 2006, sec. 7).

    Args:
        positives: scores `[n]` of those that are to be high, such as texts in scope.
        negatives: scores `[n]` of the others.
    """
    ordered = negatives.double().sort().values
    scores = positives.double().contiguous()
    below = torch.searchsorted(ordered, scores)
    up_to = torch.searchsorted(ordered, scores, right=True)
    return float((below + up_to).double().mean()) / (2 * len(negatives))


def false_positive_rate(positives: Tensor, negatives: Tensor, recall: float = 0.95) -> float:
    """Return the share of negatives at or above the highest threshold that keeps `recall` of the positives.

    At 0.95 it is known as FPR@95.

    Args:
        positives: scores `[n]`.
        negatives: scores `[n]`.
        recall: share of the positives to be kept, above 0.
    """
    kept = math.ceil(recall * len(positives) - 1e-9)
    threshold = positives.sort(descending=True).values[kept - 1]
    return float((negatives >= threshold).double().mean())


def bootstrap_interval(
    values: Tensor, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean over languages and draws.

    Draws are resampled within each language, the languages stay: the interval says how far the
    choice of the few examples moves the mean over these languages.

    Args:
        values: `[languages, draws]`; differences of two systems on the same draws give a paired
            interval.
        level: the interval's coverage.
        resamples: bootstrap samples.
        seed: of the resampling.
    """
    generator = torch.Generator().manual_seed(seed)
    languages, draws = values.shape
    picks = torch.randint(draws, (resamples, languages, draws), generator=generator)
    sampled = values.double().unsqueeze(0).expand(resamples, -1, -1).gather(2, picks)
    means = sampled.mean((1, 2))
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
