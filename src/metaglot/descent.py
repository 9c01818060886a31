"""How meta-parameters move: the outer optimizer, its rates and clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from metaglot.checkpoint import State
from metaglot.config import TrainSettings
from metaglot.learners.base import Learner
from metaglot.types import Params


class Descent:
    """An optimizer over the meta-parameters that have an outer rate; the others are state.

    Args:
        learner: whose rates they are.
        meta: the meta-parameters, which `step` changes in place.
        settings: optimizer, rates, schedule, clipping.
    """

    def __init__(self, learner: Learner, meta: Params, settings: TrainSettings) -> None:
        rates = {name: learner.outer_rate(name) for name in meta}
        self.learned = {name: value for name, value in meta.items() if rates[name] > 0}
        self._settings = settings
        self._rates = [settings.rate * rates[name] for name in self.learned]
        groups = [
            {"params": [value], "lr": rate}
            for value, rate in zip(self.learned.values(), self._rates, strict=True)
        ]
        decay = settings.weight_decay
        self._optimizer: torch.optim.Optimizer | None = None
        if not groups:  # nothing but state: there is nothing to optimize
            return
        if settings.optimizer == "adam":
            self._optimizer = torch.optim.Adam(groups, weight_decay=decay)
        elif settings.optimizer == "adamw":
            self._optimizer = torch.optim.AdamW(groups, weight_decay=decay)
        else:
            self._optimizer = torch.optim.SGD(groups, weight_decay=decay)

    def step(self, number: int, gradients: Params, norm: float) -> None:
        """Move the meta-parameters by step `number` (from 0) along gradients of a global norm."""
        if self._optimizer is None:
            return
        share = rate_share(self._settings, number)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        most = self._settings.clip
        scale = most / norm if most and norm > most else None
        for name, value in self.learned.items():
            value.grad = gradients[name] if scale is None else gradients[name] * scale
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state(self) -> Params:
        """Return what the optimizer remembers, `slot/name` → tensor."""
        if self._optimizer is None:
            return {}
        return {
            f"{slot}/{name}": kept
            for name, value in self.learned.items()
            for slot, kept in self._optimizer.state[value].items()
            if isinstance(kept, torch.Tensor)
        }

    def restore(self, state: State, meta: Params) -> None:
        """Set the meta-parameters, and what the optimizer remembers, as they were."""
        with torch.no_grad():
            for name, value in state.meta.items():
                if name in self.learned:
                    meta[name].copy_(value)
                else:
                    meta[name] = value.to(meta[name].device)
        if self._optimizer is None:
            return
        for place, kept in state.optimizer.items():
            slot, _, name = place.partition("/")
            value = self.learned[name]
            # Adam counts its steps on the CPU, wherever the parameter is.
            self._optimizer.state[value][slot] = kept if slot == "step" else kept.to(value.device)


def rate_share(settings: TrainSettings, step: int) -> float:
    """Return what share of its rate a meta-parameter has at a step, from 0 to 1."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    step, steps = step - settings.warmup, settings.steps - settings.warmup
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / steps))
    return 1 - step / steps if settings.schedule == "linear" else 1.0


def global_norm(tensors: Iterable[torch.Tensor]) -> float:
    """Return the Euclidean norm of all values of some tensors together."""
    norms = [torch.linalg.vector_norm(t.detach()).float() for t in tensors]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
