"""Where a stopped run of the outer loop goes on: parameters, Adam's state and losses in one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from metaglot.artifact import write_tensors
from metaglot.storage import atomic_file, explained
from metaglot.types import Params

if TYPE_CHECKING:
    from torch import Tensor


class Checkpoint:
    """One safetensors file, which is used by the run that wrote it and by no other.

    Args:
        path: the file; None keeps nothing.
        key: the run's hash.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.key = key

    def save(self, meta: Params, optimizer: torch.optim.Adam, losses: Sequence[float]) -> None:
        """Write the run's state, whole or not at all."""
        # An interrupt between an optimizer's step and its loss leaves the last checkpoint as it is.
        if self.path is None or not losses or _steps_of(optimizer.state.values()) != len(losses):
            return
        tensors: dict[str, Tensor] = {f"meta/{k}": v.detach() for k, v in meta.items()}
        for name, value in meta.items():
            for slot, state in optimizer.state[value].items():
                tensors[f"adam/{slot}/{name}"] = state
        with atomic_file(self.path) as beside:
            write_tensors(beside, tensors, {"key": self.key, "losses": json.dumps(list(losses))})

    def restore(self, meta: Params, optimizer: torch.optim.Adam) -> list[float]:
        """Set the state of the run that wrote the file and return its losses; none, if there is none."""
        if self.path is None or not self.path.exists():
            return []
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            losses = [float(x) for x in json.loads(header["losses"])]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return []  # damaged: the run starts over, with the same result
        if header.get("key") != self.key:
            return []
        with torch.no_grad():
            for name, value in meta.items():
                value.copy_(tensors[f"meta/{name}"])
                slots = ("step", "exp_avg", "exp_avg_sq")
                state = {s: tensors[f"adam/{s}/{name}"] for s in slots if f"adam/{s}/{name}" in tensors}
                if state:  # a parameter that no loss has reached has none yet
                    optimizer.state[value] = state
        return losses

    def remove(self) -> None:
        """Remove the file: the run is over."""
        if self.path is not None:
            with explained(self.path):
                self.path.unlink(missing_ok=True)


def _steps_of(states: Iterable[Mapping[str, Any]]) -> int:
    """How many steps Adam has made, of the parameters that it has stepped."""
    return max((int(state["step"]) for state in states if state), default=0)
