"""Where a stopped run of the outer loop goes on.

    FILE        the newest state         FILE.1, FILE.2 …    the ones before

One state is one safetensors file: meta-parameters, the optimizer's, the best ones so far, and the
history, with a hash of them all. A file is whole or absent, and one that was damaged later is seen
to be: the one before it is used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.markup import escape
from safetensors import SafetensorError
from safetensors.torch import load as deserialized
from safetensors.torch import save as serialized

from metaglot.config import TrainSettings
from metaglot.history import History
from metaglot.learners.base import Learner
from metaglot.progress import console
from metaglot.storage import atomic_file, explained, text_hash
from metaglot.tensor_files import content_hash
from metaglot.types import Params

_PARTS = ("meta", "optimizer", "best")


@dataclass
class State:
    """All that a run is after a whole step.

    Attributes:
        meta: the meta-parameters.
        optimizer: what the optimizer remembers of each.
        best: the meta-parameters that were best on held-out tasks; none where nothing was judged.
        history: losses and curves.
    """

    meta: Params
    optimizer: Params = field(default_factory=dict)
    best: Params = field(default_factory=dict)
    history: History = field(default_factory=History)

    def pack(self, key: str) -> bytes:
        """Return the state in the safetensors format, with the run's key and a hash of both."""
        # Copies: the format refuses tensors that share memory, as what a learner writes may.
        tensors = {
            f"{part}/{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for part in _PARTS
            for name, value in getattr(self, part).items()
        }
        for kind in ("losses", "norms"):
            tensors[f"history/{kind}"] = torch.tensor(getattr(self.history, kind), dtype=torch.float64)
        header = {"key": key, "curves": self.history.curves_json()}
        return bytes(serialized(tensors, header | {"hash": content_hash(header, tensors)}))

    @classmethod
    def unpack(cls, data: bytes) -> tuple[State, str]:
        """Return the state and the run's key that `pack` was given.

        Raises:
            ValueError: the data are damaged.
        """
        try:
            tensors = deserialized(data)
            size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + size])["__metadata__"]
            content = header.pop("hash")
            if content != content_hash(header, tensors):
                raise ValueError("its content is not what was written")
            losses, norms = (tensors.pop(f"history/{kind}").tolist() for kind in ("losses", "norms"))
            parts: dict[str, Params] = {part: {} for part in _PARTS}
            for place, value in tensors.items():
                part, _, name = place.partition("/")
                parts[part][name] = value
            return cls(**parts, history=History.of(losses, norms, header["curves"])), header["key"]
        except (SafetensorError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


class Checkpoint:
    """The states that one run keeps, which are used by that run and by no other.

    Args:
        path: the file of the newest; None keeps nothing.
        key: a hash of all that the run depends on.
        keep: how many states are kept.
    """

    def __init__(self, path: Path | None, key: str = "", keep: int = 2) -> None:
        self.path = path
        self.key = key
        self.keep = keep

    def save(self, state: State) -> None:
        """Write a state, whole or not at all; what was the newest is the one before now.

        Raises:
            StorageError: it could not be written; the newest before is still there.
        """
        if self.path is None:
            return
        with atomic_file(self.path) as beside:
            beside.write_bytes(state.pack(self.key))
            # Killed between two of these renames, the newest state is FILE.1.
            for number in range(self.keep - 1, 0, -1):
                if (older := self._file(number - 1)).exists():
                    older.replace(self._file(number))

    def load(self) -> State | None:
        """Return the newest state of the run that is whole; None, if there is none."""
        if self.path is None:
            return None
        others = 0
        for file in self._files():
            try:
                state, key = State.unpack(file.read_bytes())
            except (OSError, ValueError) as error:
                _note(f"the checkpoint {file} is damaged and not used: {error}")
                continue
            if key == self.key:
                return state
            others += 1
        if others:
            _note(f"the checkpoint {self.path} is of other settings, data or learner, and not used.")
        return None

    def remove(self) -> None:
        """Remove every file: what the run has learned is safe elsewhere.

        Raises:
            StorageError: they could not be removed.
        """
        if self.path is not None:
            with explained(self.path):
                for file in [*self._files(), *self._strays()]:
                    file.unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _files(self) -> list[Path]:
        """Every state there is, the newest first, older ones than are kept now too."""
        assert self.path is not None
        numbers = [
            int(number)
            for name in _names(self.path.parent)
            if name.startswith(f"{self.path.name}.")
            and (number := name.removeprefix(f"{self.path.name}.")).isdecimal()
        ]
        return [f for f in map(self._file, [0, *sorted(numbers)]) if f.exists()]

    def _strays(self) -> list[Path]:
        """What a process that was killed while it wrote has left behind."""
        assert self.path is not None
        names = [n for n in _names(self.path.parent) if n.startswith(f".{self.path.name}.")]
        return [self.path.with_name(name) for name in names if name.endswith(".tmp")]


def run_key(name: str, learner: Learner, settings: TrainSettings, *data: str) -> str:
    """Return a hash of all that a run of the outer loop depends on; `data` says what it learns from."""
    options = json.dumps(dict(sorted(vars(learner).items())), default=str)
    lasting = settings.model_dump_json(exclude={"checkpoint_every", "checkpoints"})
    return text_hash(name, options, lasting, *data)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _note(text: str) -> None:
    console.print(f"[yellow]note:[/yellow] {escape(text)}", highlight=False, soft_wrap=True)
