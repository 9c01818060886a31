"""A stopped run's file: where it stood, and the check that the one that goes on is the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaglot.errors import ArtifactError, SettingsError, Where
from metaglot.storage import explained
from metaglot.tensor_files import load_tensors, save_tensors
from metaglot.types import Params

PARTS = ("meta", "optimizer", "best")


def save_run(path: Path, parts: Mapping[str, Params], about: Mapping[str, Any]) -> None:
    """Write a checkpoint: named tensors of each of `PARTS`, and whatever JSON holds.

    Raises:
        StorageError: it could not be written; the one before is left as it was.
    """
    tensors = {f"{part}/{name}": value for part, found in parts.items() for name, value in found.items()}
    save_tensors(path, tensors, dict(about))


def load_run(path: Path, key: Mapping[str, Any]) -> tuple[dict[str, Params], dict[str, Any]] | None:
    """Return what `save_run` wrote; None where there is no file.

    Raises:
        ArtifactError: the file is damaged.
        SettingsError: it is of a run with another `key`; the message names what differs.
    """
    if not path.exists():
        return None
    try:
        tensors, about = load_tensors(path, "a checkpoint of `metaglot tune`")
    except ArtifactError as error:
        raise ArtifactError(
            error.problem, where=error.where, hint="Remove the file to start from the beginning."
        ) from error
    _check_key(path, about["key"], key)
    parts: dict[str, Params] = {part: {} for part in PARTS}
    for place, value in tensors.items():
        part, _, name = place.partition("/")
        parts[part][name] = value
    return parts, about


def remove_run(path: Path) -> None:
    """Remove a checkpoint, and what a killed process left of writing one."""
    with explained(path):
        path.unlink(missing_ok=True)
        for stray in path.parent.glob(f".{path.name}.*.tmp"):
            stray.unlink(missing_ok=True)


def _check_key(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise a `SettingsError` that names what a checkpoint's run does not have in common with this one."""
    differ = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
    if differ:
        listed = "; ".join(f"{n}: {_short(there.get(n))} there, {_short(here.get(n))} here" for n in differ)
        raise SettingsError(
            f"a run with other settings was stopped here and has not ended: {listed}.",
            where=Where(path),
            hint="Give the settings of that run to go on with it, or remove the file to start anew.",
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:38]}…"
