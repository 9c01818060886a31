"""Losses of sequences, with padding left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from metaglot.errors import DataError, SettingsError
from metaglot.sequences.vocabulary import PADDING

if TYPE_CHECKING:
    from torch import Tensor


def token_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean loss of a token, a scalar in nats; 0 where there is no token.

        (1 − ε) · −log p(target) + ε · mean over the vocabulary of −log p

    Label smoothing ε is that of Szegedy et al. (2016), "Rethinking the Inception architecture", section 7.

    Args:
        logits: `[n, T, V]`.
        targets: the tokens to be predicted, `[n, T]`; padding (0) and negative numbers do not count.
        smoothing: ε, from 0 to below 1.

    Raises:
        DataError: the shapes do not fit.
        SettingsError: ε is out of its range.
    """
    if not 0 <= smoothing < 1:
        raise SettingsError(f"expected 0 ≤ smoothing < 1, found {smoothing}.")
    log_p = _log_p(logits, targets)
    loss = -log_p.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * log_p.mean(-1)
    counts = (targets > PADDING).to(loss.dtype)
    return (loss * counts).sum() / counts.sum().clamp(min=1)


def total_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Return −log p of all tokens that count, a scalar in nats; arguments as in `token_cross_entropy`."""
    log_p = _log_p(logits, targets).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -(log_p * (targets > PADDING).to(log_p.dtype)).sum()


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Return −log₂ p of a text, divided by its bytes of UTF-8: comparable between vocabularies.

    Args:
        nats: −log p of all its tokens, and of its end where that was predicted.
        n_bytes: as `Vocabulary.bytes_of` counts them.

    Raises:
        DataError: there are no bytes.
    """
    if n_bytes < 1:
        raise DataError(f"expected a text of at least one byte, found {n_bytes}.")
    return float(nats) / math.log(2) / n_bytes


def _log_p(logits: Tensor, targets: Tensor) -> Tensor:
    if logits.shape[:-1] != targets.shape:
        raise DataError(
            f"expected a target for each place of logits {list(logits.shape)}, "
            f"found targets {list(targets.shape)}."
        )
    return torch.log_softmax(logits, dim=-1)
