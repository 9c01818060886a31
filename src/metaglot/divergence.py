"""When a run has diverged, and what to say about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

import torch

from metaglot.config import TrainSettings
from metaglot.errors import TrainingError
from metaglot.history import History
from metaglot.types import Params

# A loss is judged by what it was over so many steps at first, and has to be too high so many times.
_FIRST, _TIMES = 10, 3
# Losses smaller than this are rounding errors, and may grow.
_LEAST = 1e-6
_MOST_NAMES = 4


def not_finite(loss: float, gradients: Params) -> bool:
    """Whether a loss, or a value of its gradient, is infinite or no number."""
    return not math.isfinite(loss) or not all(bool(torch.isfinite(g).all()) for g in gradients.values())


def broken(
    name: str,
    settings: TrainSettings,
    history: History,
    loss: float,
    gradients: Params,
    tasks: Mapping[str, float],
) -> TrainingError:
    """Return the error of a loss or gradient that is not finite.

    Args:
        name: the learner's.
        settings: what to say is to be lowered.
        history: of the steps before.
        loss: of the step.
        gradients: of the step.
        tasks: the step's tasks and their losses.
    """
    step = history.steps
    if not math.isfinite(loss):
        bad = [
            f"{task or 'a task without a name'} ({x:g})" for task, x in tasks.items() if not math.isfinite(x)
        ]
        where = f", in {_listed(bad)} of {len(tasks)} task(s)" if bad else ""
        problem = f"the loss of the learner {name!r} is {loss:g} since step {step}{where}."
    else:
        bad = [
            f"{n!r} ({int((~torch.isfinite(g)).sum())} of {g.numel()} values)"
            for n, g in gradients.items()
            if not bool(torch.isfinite(g).all())
        ]
        problem = (
            f"the gradient of the learner {name!r} is not finite since step {step}, where the loss is "
            f"{loss:.4g}: in {_listed(bad)}."
        )
    return TrainingError(f"{problem}{_largest(history)}", hint=_remedy(settings))


def check_explosion(name: str, settings: TrainSettings, history: History, loss: float) -> None:
    """Raise a `TrainingError` where the loss has been `settings.explode` times what it was, three times."""
    losses = [*history.losses, loss]
    first, last = losses[:-_TIMES][:_FIRST], losses[-_TIMES:]
    if not first:
        return
    usual = max(median(abs(x) for x in first), _LEAST)
    if min(last) > settings.explode * usual:
        raise TrainingError(
            f"the loss of the learner {name!r} has exploded: {loss:.4g} at step {history.steps}, for "
            f"{_TIMES} steps more than {settings.explode:g} times the {usual:.4g} it was at first."
            f"{_largest(history)}",
            hint=f"{_remedy(settings)} Where such losses are right, raise the setting explode.",
        )


def _largest(history: History) -> str:
    if not history.norms:
        return ""
    step = max(range(history.steps), key=history.norms.__getitem__)
    return f" The largest norm of a gradient before was {history.norms[step]:.4g}, at step {step}."


def _remedy(settings: TrainSettings) -> str:
    clip = "clip gradients harder" if settings.clip else "clip gradients (--set clip=1.0)"
    exact = ", or compute in float32 (--set precision=float32)" if settings.precision != "float32" else ""
    return (
        f"Lower the outer rate (--rate, which is {settings.rate:g}), or the learner's inner rate, or "
        f"{clip}{exact}."
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
