"""The optimizer of a tuning run: AdamW, its rate risen and lowered over the steps that are planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from metaglot.config import TrainSettings
from metaglot.descent import Descent
from metaglot.tuning.settings import TuneSettings
from metaglot.types import Params

if TYPE_CHECKING:
    from metaglot.learners.base import Learner

# Of the head that is thrown away; its parameters have this prefix.
_HEAD, _HEAD_RATE = "head.", 1e-3


def descent_of(meta: Params, settings: TuneSettings, steps: int) -> Descent:
    """Return the optimizer of what adapts, for a run of so many steps."""
    outer = TrainSettings(
        steps=steps,
        optimizer="adamw",
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        schedule=settings.schedule,
        warmup=min(round(settings.warmup * steps), steps - 1),
    )
    return Descent(cast("Learner", _Rates(settings.top_rate)), meta, outer)


class _Rates:
    """What `Descent` asks a learner for: the rate of each parameter."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def outer_rate(self, name: str) -> float:
        return _HEAD_RATE if name.startswith(_HEAD) else self._rate
