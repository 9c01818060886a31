"""What the benchmark of calibration measures on one support set and one test set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from metaglot.calibration import Calibration, fit_temperature, scope_score
from metaglot.cross_validation import fold_numbers, held_out_logits
from metaglot.evaluation.metrics import classification_metrics
from metaglot.model import Model
from metaglot.types import Batch

PRECISIONS = (0.9, 0.95)
COVERAGES = (0.9,)
RECALL = 0.95

Row = dict[str, Any]
Judge = Callable[[Batch, Batch], torch.Tensor]


def cross_validated(judge: Judge, support: Batch, groups: Sequence[str]) -> Calibration:
    """Return the calibration that a support set alone gives a method; nothing where it is too small."""
    fold = fold_numbers(support.targets, groups)
    logits, seen = held_out_logits(
        support.targets, fold, lambda rows, out: judge(support[rows], support[out])
    )
    return Calibration.of(logits, support.targets[seen]) if bool(seen.any()) else Calibration()


def judged(calibration: Calibration, logits: torch.Tensor, targets: torch.Tensor) -> Row:
    """Return what a test set says of logits `[n, C]`, before and after calibrating, and of the promises."""
    before = classification_metrics(logits, targets)
    after = classification_metrics(logits / calibration.temperature, targets)
    confidence, predicted = calibration.probabilities(logits).max(-1)
    found: Row = {
        "accuracy": before["accuracy"],
        "temperature": calibration.temperature,
        **{f"{name} before": before[name] for name in ("calibration_error", "log_loss")},
        **{f"{name} after": after[name] for name in ("calibration_error", "log_loss")},
    }
    for precision in PRECISIONS:
        threshold = calibration.threshold(precision)
        sure = confidence >= threshold.value
        reached = float((predicted == targets)[sure].double().mean()) if bool(sure.any()) else None
        found[f"promised {precision}"] = float(threshold.promised)
        word = "promised" if threshold.promised else "believed"
        found[f"sure {precision} {word}"] = float(sure.double().mean())
        found[f"right {precision} {word}"] = reached
        found[f"broken {precision} {word}"] = None if reached is None else float(reached < precision)
        least = naive_threshold(calibration, precision)
        sure = confidence >= least
        if bool(sure.any()):
            found[f"broken {precision} naive"] = float(
                (predicted == targets)[sure].double().mean() < precision
            )
    for coverage in COVERAGES:
        chosen = calibration.label_sets(logits, coverage)
        held = chosen.gather(1, targets.unsqueeze(-1)).double().mean()
        found |= {
            f"covered {coverage}": float(held),
            f"labels {coverage}": float(chosen.double().sum(-1).mean()),
        }
    return found


def naive_threshold(calibration: Calibration, precision: float) -> float:
    """Return the least threshold above which as many cross-validated examples are right, untested."""
    pairs = sorted(zip(calibration.confidence, calibration.truth, strict=True), reverse=True)
    least, right = 2.0, 0
    for number, (confidence, truth) in enumerate(pairs, 1):
        right += truth >= confidence
        least = confidence if right >= precision * number else least
    return least


def recalled(calibration: Calibration, inside: torch.Tensor, outside: torch.Tensor) -> Row:
    """Return which shares of texts of known and of unknown labels are found in scope."""
    known, unknown = calibration.scope_of(inside), calibration.scope_of(outside)
    if known is None or unknown is None or calibration.doubts(recall=RECALL):
        return {}
    least = 1 - RECALL + 1e-9
    return {
        "in scope": float((known > least).double().mean()),
        "let through": float((unknown > least).double().mean()),
    }


def scores(support: Batch, model: Model) -> dict[str, Callable[[torch.Tensor, Batch], torch.Tensor]]:
    """Return name → (logits, texts) → scores `[n]` that are to be high where the label is known."""

    def nearest(block: str, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        texts, seen = (F.normalize(b.inputs[block], dim=-1) for b in (batch, support))
        return (texts @ seen.T).max(-1).values

    return {
        "largest logit": lambda logits, batch: scope_score(logits),
        "energy": lambda logits, batch: logits.logsumexp(-1),
        "largest probability": lambda logits, batch: logits.softmax(-1).max(-1).values,
        **{f"nearest example, {block}": partial(nearest, block) for block in model.encoder.blocks},
    }


def best_log_temperature(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Return log T of the highest likelihood on a query set, with next to no prior."""
    return math.log(fit_temperature(logits, targets, spread=10.0))
