"""Several processes on one run: this is the only place that knows of them.

`accelerate launch` and `torchrun` start one command many times and tell every copy its rank. Here
they meet (Hugging Face Accelerate: gloo on CPUs, nccl on GPUs), share the tasks of a meta-batch out,
and add up what they found. A process alone meets nobody, and needs nothing installed for it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from metaglot.errors import MissingExtraError, SettingsError, TrainingError
from metaglot.storage import cache_root, locked

if TYPE_CHECKING:
    from torch import Tensor

# How long one process waits for another, in seconds, unless METAGLOT_TIMEOUT says otherwise.
TIMEOUT = 600.0
# A process that has just ended is seen to have ended within this time, in seconds.
_GRACE = 3.0


class LostProcessError(TrainingError):
    """Another process of the run has ended, or does not answer."""


@dataclass(frozen=True)
class Processes:
    """The processes of this run, seen from one of them.

    Attributes:
        rank: which of them this is, from 0.
        size: how many there are.
        peers: every process's host and number, by rank.
    """

    rank: int = 0
    size: int = 1
    peers: tuple[str, ...] = ()

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks to the user."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of `count` places are this process's."""
        return range(self.rank, count, self.size)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over processes of tensors of one shape `[…]`, the same bits in all of them.

        Raises:
            LostProcessError: another process has ended or does not answer.
        """
        if self.size == 1:
            return values
        with self._meeting():
            found: Tensor = _accelerate().reduce(values.to(_device()), "sum")
            return found.to(values.device)

    def everyone(self, text: str) -> list[str]:
        """Return what each process says, by rank.

        Raises:
            LostProcessError: another process has ended or does not answer.
        """
        if self.size == 1:
            return [text]
        with self._meeting():
            data = text.encode("utf-8", "surrogatepass")
            lengths = _accelerate().gather(torch.tensor([len(data)], device=_device())).tolist()
            padded = bytearray(data.ljust(max(1, *lengths), b"\0"))
            rows = _accelerate().gather(_bytes(padded).unsqueeze(0)).cpu()
            return [
                rows[rank, :length].numpy().tobytes().decode("utf-8", "surrogatepass")
                for rank, length in enumerate(lengths)
            ]

    def from_first(self, data: bytes) -> bytes:
        """Return the first process's data, whatever the others have.

        Raises:
            LostProcessError: another process has ended or does not answer.
        """
        if self.size == 1:
            return data
        with self._meeting():
            length = _accelerate().broadcast(torch.tensor([len(data)], device=_device()))
            room = bytearray(data if self.first else bytes(int(length)))
            return bytes(_accelerate().broadcast(_bytes(room)).cpu().numpy().tobytes()) if room else b""

    @contextmanager
    def in_turn(self) -> Iterator[bool]:
        """Let the processes of this machine in one at a time, for as long as each may take.

        What one has put into the cache the next need not work out again. Yields whether there are
        several processes.
        """
        if self.size == 1:
            yield False
        else:
            with locked(cache_root() / "turn.lock"):
                yield True

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what torch.distributed raises, whatever has happened
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> LostProcessError:
        last, ended = time.monotonic() + _GRACE, [""][:0]
        while not ended and time.monotonic() < last:
            ended = [f"{r} ({who})" for r, who in enumerate(self.peers) if r != self.rank and _has_ended(who)]
            time.sleep(0.05)
        again = "Start the same command again: it goes on from the last checkpoint."
        if ended:
            return LostProcessError(
                f"process {' and '.join(ended)} of {self.size} has ended before the run has, and process "
                f"{self.rank} cannot go on alone.",
                hint=f"Its own messages, or the launcher's, say why. {again}",
            )
        cause = str(error).partition("\n")[0]
        return LostProcessError(
            f"one of the {self.size} processes does not answer process {self.rank}, which may wait "
            f"{_timeout():g} s: {cause}",
            hint=f"It hangs, has ended on another machine, or takes longer (METAGLOT_TIMEOUT=SECONDS). "
            f"{again}",
        )


def processes() -> Processes:
    """Return the processes of this run; the first call waits until all of them have made it.

    Raises:
        MissingExtraError: there are several, and Accelerate is not installed.
        SettingsError: `METAGLOT_TIMEOUT` is no number of seconds.
        LostProcessError: another process has ended or does not answer.
    """
    return _several() if int(os.environ.get("WORLD_SIZE") or 1) > 1 else Processes()


@cache
def _several() -> Processes:
    try:
        from accelerate import PartialState  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise MissingExtraError("accelerate", "distributed", "Running in several processes") from error
    size = int(os.environ["WORLD_SIZE"])
    if not os.environ.get("OMP_NUM_THREADS"):  # the launcher has not shared the cores out
        threads = max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE") or size))
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
    try:
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=_timeout()))
    except (RuntimeError, ValueError) as error:
        raise LostProcessError(
            f"the {size} processes of this run could not meet: {str(error).partition(chr(10))[0]}",
            hint="Start it by `torchrun` or `accelerate launch`, which tell every process where to.",
        ) from error
    alone = Processes(state.process_index, state.num_processes)
    return Processes(
        alone.rank, alone.size, tuple(alone.everyone(f"{socket.gethostname()}, pid {os.getpid()}"))
    )


def _accelerate() -> Any:
    from accelerate import utils  # noqa: PLC0415 - an optional extra

    return utils


def _device() -> torch.device:
    from accelerate import PartialState  # noqa: PLC0415 - an optional extra

    device: torch.device = PartialState().device
    return device


def _bytes(data: bytearray) -> Tensor:
    return torch.frombuffer(data, dtype=torch.uint8).to(_device())


def _timeout() -> float:
    text = os.environ.get("METAGLOT_TIMEOUT") or str(TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"expected METAGLOT_TIMEOUT to be a number of seconds, found {text!r}.")
    return seconds


def _has_ended(who: str) -> bool:
    """Whether a process of this machine is there no longer; False for one of another machine."""
    import psutil  # noqa: PLC0415 - comes with accelerate

    host, _, number = who.rpartition(", pid ")
    if host != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(int(number)).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
