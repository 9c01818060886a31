"""What is learned, on disk: meta-parameters, and apart from them what each task has of its own.

    FOLDER/learner.json                 the learner, its options, every tensor's shape, the file's hash
    FOLDER/meta-<hash>.safetensors      the meta-parameters: what all tasks share
    FILE.safetensors                    one task's own parameters, as `adapt` returned them

`learner.json` is written last and names the tensors by their hash, so that a stop at any moment leaves
the folder as it was before or as it is to be. Files of tasks know the learner that they were made by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metaglot.errors import ArtifactError, SettingsError, Where
from metaglot.learners import LEARNERS
from metaglot.learners.base import Learner
from metaglot.storage import explained, write_json
from metaglot.tensor_files import load_tensors, save_tensors
from metaglot.types import Params, TaskModel

FORMAT = 1
MANIFEST = "learner.json"


def save_learner(folder: Path | str, name: str, options: Mapping[str, Any], meta: Params) -> Path:
    """Write a learner and its meta-parameters to a folder, in place of those that are there.

    Args:
        folder: made if there is none.
        name: the learner's, as in `metaglot.learners.LEARNERS`.
        options: what it was made with.
        meta: the meta-parameters.

    Returns:
        The folder.

    Raises:
        SettingsError: there is no such learner, or it has no such options.
        StorageError: it could not be written; what was there before is as it was.
    """
    folder = Path(folder)
    _made(name, options)
    try:
        written = json.loads(json.dumps(dict(options)))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"expected options that JSON can hold, found {dict(options)!r}.") from error
    about = {"format": FORMAT, "learner": name, "options": written, "tensors": _shapes(meta)}
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    identity = _identity(about, meta, folder)
    write_json(folder / MANIFEST, about | {"meta": identity})
    with explained(folder):
        for old in folder.glob("meta-*.safetensors"):
            if old.name != _file_of(identity):
                old.unlink()
    return folder


def load_learner(folder: Path | str, model: TaskModel | None = None) -> tuple[Learner, Params]:
    """Return the learner of a folder, and its meta-parameters.

    Args:
        folder: that `save_learner` wrote.
        model: what the learner is to work on; meta-parameters that do not fit it are refused.

    Raises:
        ArtifactError: a part is missing, damaged, of another format, or does not fit the model.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    path = folder / _file_of(manifest["meta"])
    meta, about = load_tensors(path, "meta-parameters")
    written = {key: manifest.get(key) for key in ("format", "learner", "options", "tensors")}
    if about != written | {"hash": manifest["meta"]} or _shapes(meta) != manifest["tensors"]:
        raise ArtifactError("expected the meta-parameters of learner.json, found others.", where=Where(path))
    learner: Learner = _made(manifest["learner"], manifest["options"])
    if model is not None:
        wanted = _shapes(learner.init(model, torch.Generator().manual_seed(0)))
        _check_shapes(_shapes(meta), wanted, path)
    return learner, {name: meta[name] for name in manifest["tensors"]}


def save_adaptation(
    file: Path | str,
    adapted: Params,
    *,
    learner: Path | str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write what one task has of its own, and return the file's path.

    Args:
        file: where to.
        adapted: what `adapt` returned.
        learner: the folder of the learner that made it; then no other learner will take it.
        about: what else is to be known of the task, in JSON.

    Raises:
        StorageError: it could not be written; an older file is as it was.
    """
    file = Path(file)
    made_by = "" if learner is None else _manifest(Path(learner))["meta"]
    header = {"format": FORMAT, "learner": made_by, "names": list(adapted), "about": dict(about or {})}
    save_tensors(file, adapted, header)
    return file


def load_adaptation(file: Path | str, *, learner: Path | str | None = None) -> tuple[Params, dict[str, Any]]:
    """Return what one task has of its own, and what was said about it.

    Args:
        file: that `save_adaptation` wrote.
        learner: the folder of the learner that it is to be used with.

    Raises:
        ArtifactError: the file is missing or damaged, or was made by another learner.
    """
    file = Path(file)
    adapted, header = load_tensors(file, "an adaptation")
    if learner is not None and header.get("learner") != _manifest(Path(learner))["meta"]:
        raise ArtifactError(
            f"expected an adaptation by the learner in {Path(learner)}, found one by another, "
            "or by other meta-parameters.",
            where=Where(file),
            hint="Adapt to the task's support set again.",
        )
    return {name: adapted[name] for name in header["names"]}, header["about"]


def _made(name: str, options: Mapping[str, Any]) -> Any:
    try:
        return LEARNERS[name](**options)
    except TypeError as error:
        raise SettingsError(f"the options of the learner {name!r} are wrong: {error}.") from error


def _shapes(params: Params) -> dict[str, str]:
    return {
        name: f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        for name, value in params.items()
    }


def _identity(about: Mapping[str, Any], meta: Params, folder: Path) -> str:
    """Write the meta-parameters under a name of their own, and return their hash."""
    draft = folder / "meta-new.safetensors"
    identity = save_tensors(draft, meta, about)
    with explained(folder):
        draft.replace(folder / _file_of(identity))
    return identity


def _file_of(identity: str) -> str:
    return f"meta-{identity[:16]}.safetensors"


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
        found = manifest["format"]
        whole = all(isinstance(manifest[key], str) for key in ("learner", "meta")) and all(
            isinstance(manifest[key], dict) for key in ("options", "tensors")
        )
    except OSError as error:
        raise ArtifactError(
            f"expected a learner (a folder with {MANIFEST}), found none: {error.strerror}.",
            where=Where(folder),
            hint="Make one with metaglot.learners.saving.save_learner.",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"expected a learner's description, found a damaged file: {error!r}.",
            where=Where(path),
            hint="Restore the folder from a copy, or train again.",
        ) from error
    if found != FORMAT or not whole:
        raise ArtifactError(
            f"expected a learner of format {FORMAT}, found format {found!r}.",
            where=Where(path),
            hint="It was made by another version of metaglot: use that one, or train again.",
        )
    return dict(manifest)


def _check_shapes(found: Mapping[str, str], wanted: Mapping[str, str], path: Path) -> None:
    missing = [name for name in wanted if name not in found]
    strange = [name for name in found if name not in wanted]
    other = [name for name in wanted if name in found and found[name] != wanted[name]]
    if not (missing or strange or other):
        return
    parts = [f"{name} {wanted[name]}, found {found[name]}" for name in other[:3]]
    parts += [f"{name} {wanted[name]}, found none" for name in missing[:3]]
    parts += [f"no {name}, found {found[name]}" for name in strange[:3]]
    raise ArtifactError(
        f"expected meta-parameters for this model: {'; '.join(parts)}.",
        where=Where(path),
        hint="They were learned for another model, or the model was made with other options.",
    )
