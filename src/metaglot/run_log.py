"""What a run tells of itself while it runs: a file of JSON lines, TensorBoard, Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from metaglot.config import TrainSettings
from metaglot.errors import MissingExtraError, SettingsError, suggestion
from metaglot.storage import explained, write_text

TRACKERS = ("tensorboard", "wandb")


class RunLog:
    """A log of a run; the tracker is reached through Hugging Face Accelerate.

    `FOLDER/log.jsonl` has a line for every outer step: `step` (how many have been made), `loss`,
    `gradient_norm`, `rate` (the share of the outer rates), and where they were worked out `tasks` and
    `validation`, each task → mean query loss. A resumed run's file is as if it had not been stopped.

    Args:
        folder: where the log goes.
        tracker: one of `TRACKERS`, beside the file; None for none.

    Raises:
        SettingsError: no such tracker.
        MissingExtraError: the tracker, or Accelerate, is not installed.
    """

    def __init__(self, folder: Path | str, tracker: str | None = None) -> None:
        self.file = Path(folder) / "log.jsonl"
        self.tracker = tracker
        self._open: IO[str] | None = None
        self._trackers: list[Any] = []
        if tracker is None:
            return
        if tracker not in TRACKERS:
            raise SettingsError(
                f"expected a tracker ({', '.join(TRACKERS)}), found {tracker!r}.",
                hint=suggestion(tracker, TRACKERS),
            )
        for package in (tracker, "accelerate"):
            if find_spec(package) is None:
                raise MissingExtraError(package, tracker, f"Tracking with {tracker}")

    def begin(self, name: str, settings: TrainSettings, steps: int) -> None:
        """Open the log of a run that has made some steps already: what it says of later ones goes."""
        with explained(self.file):
            kept = []
            if steps and self.file.exists():
                kept = [line for line in self.file.read_text("utf-8").splitlines() if _step(line) <= steps]
            write_text(self.file, "".join(f"{line}\n" for line in kept))
            self._open = self.file.open("a", encoding="utf-8")
        if self.tracker is not None:
            self._trackers = _started(self.tracker, self.file.parent, name, settings)

    def write(
        self, step: int, values: Mapping[str, float], tables: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Write one step's values, and tables such as task → loss."""
        if self._open is not None:
            line = {"step": step, **values, **{name: table for name, table in tables.items() if table}}
            with explained(self.file):
                self._open.write(json.dumps(line, ensure_ascii=False) + "\n")
                self._open.flush()
        flat = dict(values)
        for name, table in tables.items():
            flat |= {f"{name}/{task or 'all'}": value for task, value in table.items()}
        for tracker in self._trackers:
            tracker.log(flat, step=step)

    def end(self) -> None:
        """Close the log."""
        if self._open is not None:
            self._open.close()
            self._open = None
        for tracker in self._trackers:
            tracker.finish()
        self._trackers = []


def _step(line: str) -> float:
    """The step of a line; of one that was cut short, one that is never reached."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _started(tracker: str, folder: Path, name: str, settings: TrainSettings) -> list[Any]:
    import torch  # noqa: PLC0415 - this module is light
    from accelerate import Accelerator  # noqa: PLC0415 - an optional extra

    with explained(folder):
        accelerator = Accelerator(
            log_with=tracker, project_dir=str(folder), cpu=not torch.cuda.is_available()
        )
        config = {n: v if isinstance(v, int | float) else str(v) for n, v in settings.model_dump().items()}
        # TensorBoard makes a second run of a configuration; W&B shows it beside the run.
        accelerator.init_trackers(f"metaglot-{name}", config if tracker == "wandb" else None)
    return list(accelerator.trackers)
