"""What training leaves behind: a folder that can be shipped.

    DIR/manifest.json            versions, encoder and its hash, labels, languages, seeds, data fingerprint
    DIR/recipe.toml              the recipe that made it
    DIR/model.safetensors        scales and prior
    DIR/learner.safetensors      the learner's meta-parameters
    DIR/values.json              what texts mean in the corpus's own words, where it says so
    DIR/README.md                a model card
    DIR/adaptations/swh.safetensors     one file a language

The encoder's weights are not in it: they are named by a fingerprint, and another encoder is refused.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

import metaglot
from metaglot.calibration import Calibration
from metaglot.config import Recipe, read_recipe, write_recipe
from metaglot.encoders import load_encoder
from metaglot.errors import ArtifactError, Where
from metaglot.generation import WRITING
from metaglot.kinds import KINDS
from metaglot.kinds.values import Values
from metaglot.learners import LEARNERS
from metaglot.learners.base import Learner, check_pair
from metaglot.model import Model, Scaler
from metaglot.model_card import model_card
from metaglot.prior import Prior
from metaglot.space import Groups
from metaglot.storage import atomic_file, atomic_folder, explained, file_hash, text_hash, write_json
from metaglot.tensor_files import content_hash, write_tensors
from metaglot.types import Params

FORMAT = 1
_PARTS = ("recipe.toml", "model.safetensors", "learner.safetensors")
_VALUES = "values.json"


@dataclass(frozen=True)
class Adaptation:
    """What a learner made of one language's examples.

    Attributes:
        language: the code.
        labels: what can be predicted in the language, in the order of the head's rows.
        head: what the learner adapted, a linear head for most, in float32 values that float16 holds exactly.
        examples: how many examples it was made from.
        estimate: the cross-validated gain over zero-shot, see `metaglot.adapting.Estimate`.
        calibration: how sure its predictions may be.
        values: canonical values of the examples' spans.
    """

    language: str
    labels: tuple[str, ...]
    head: Params
    examples: int
    estimate: dict[str, Any] | None = None
    calibration: Calibration = field(default_factory=Calibration)
    values: Values = field(default_factory=Values)


@dataclass(frozen=True)
class Artifact:
    """A trained model, its learner, and the languages it was adapted to.

    Attributes:
        model: encoder, labels, scales and prior.
        learner: the learner, with its options.
        meta: its meta-parameters.
        recipe: what made it.
        facts: source and held-out languages, the data's fingerprint, measurements.
        adaptations: code → adaptation.
        values: canonical values of the source languages' spans.
    """

    model: Model
    learner: Learner
    meta: Params
    recipe: Recipe
    facts: Mapping[str, Any]
    adaptations: dict[str, Adaptation] = field(default_factory=dict)
    values: Values = field(default_factory=Values)


def save(artifact: Artifact, folder: Path | str, *, overwrite: bool = False) -> None:
    """Write an artifact and its adaptations to a folder, whole or not at all.

    Raises:
        ArtifactError: the folder exists and `overwrite` is not set, or it is something else.
        StorageError: it could not be written; what was there before is as it was.
    """
    folder = Path(folder)
    check_free(folder, overwrite=overwrite)
    folder = folder.resolve()  # what a link points to is replaced, not the link
    beside = folder.with_name(f".{folder.name}.new")
    with explained(folder):
        shutil.rmtree(beside, ignore_errors=True)
    with atomic_folder(beside) as made:
        _write(artifact, made)
    old = folder.with_name(f".{folder.name}.old")
    with explained(folder):
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        try:
            beside.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            shutil.rmtree(beside, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Raise an `ArtifactError` unless `folder` may be written: absent, empty, or an old artifact."""
    if folder.name in {"", ".."}:
        raise ArtifactError(f"expected a folder with a name of its own, found {str(folder)!r}.")
    with explained(folder):
        if file := next((place for place in folder.parents if place.is_file()), None):
            raise ArtifactError("expected a folder to make the artifact in, found a file.", where=Where(file))
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
    if not (folder / "manifest.json").is_file():
        raise ArtifactError(
            "expected a new folder or an artifact, found something else; it is left as it is.",
            where=Where(folder),
            hint="Give --out a new name.",
        )
    if not overwrite:
        raise ArtifactError(
            "an artifact is there already, and its adaptations would be lost.",
            where=Where(folder),
            hint="Give --out a new name, or pass --overwrite.",
        )


def load(folder: Path | str, *, cache: bool = True) -> Artifact:
    """Read an artifact and all its adaptations.

    Args:
        folder: where it is.
        cache: whether the encoder keeps features on disk.

    Raises:
        ArtifactError: a part is missing, damaged, or of another format, encoder or training run.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    for name in _PARTS:
        _check_part(folder / name, manifest["files"].get(name))
    recipe = read_recipe(folder / "recipe.toml", {})
    encoder = load_encoder(manifest["encoder"]["name"], cache=cache)
    if encoder.fingerprint != manifest["encoder"]["fingerprint"]:
        raise ArtifactError(
            f"expected the encoder {encoder.name!r} with the fingerprint "
            f"{manifest['encoder']['fingerprint'][:12]}…, found {encoder.fingerprint[:12]}….",
            where=Where(folder / "manifest.json", field="encoder"),
            hint="The encoder's files have changed since training: restore them, or train again.",
        )
    tensors = load_file(folder / "model.safetensors")
    scalers = {
        name: Scaler(tensors[f"scaler.mean.{name}"], tensors[f"scaler.scale.{name}"])
        for name in KINDS[manifest["kind"]]().blocks(encoder)
        if f"scaler.mean.{name}" in tensors
    }
    prior = Prior.of(tensors, manifest["prior"])
    groups = manifest.get("groups", Groups().as_dict())  # artifacts before groups have none
    model = Model(
        encoder,
        manifest["kind"],
        tuple(manifest["labels"]),
        scalers,
        prior,
        Groups(groups["by"], tuple(groups["names"])),
    )
    learner = LEARNERS[recipe.learner](**recipe.learner_options)
    check_pair(recipe.learner, learner, model.kind_name, model.task_model.outputs)
    meta = load_file(folder / "learner.safetensors")
    values = _read_values(folder / _VALUES, manifest["files"].get(_VALUES))
    artifact = Artifact(model, learner, meta, recipe, manifest["facts"], values=values)
    for file in sorted((folder / "adaptations").glob("*.safetensors")):
        adaptation = _read_adaptation(file, identity(manifest))
        artifact.adaptations[adaptation.language] = adaptation
    return artifact


def save_adaptation(adaptation: Adaptation, folder: Path | str) -> Path:
    """Write one language's adaptation into an artifact's folder and return the file's path.

    Raises:
        ArtifactError: the folder is no artifact, or the language's code is no file name.
        StorageError: the file could not be written; an older one is as it was.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    if not re.fullmatch(r"\w[\w-]*", adaptation.language):
        raise ArtifactError(
            "expected a language's code of letters, digits, '-' and '_', which names the adaptation's file, "
            f"found {adaptation.language!r}."
        )
    path = folder / "adaptations" / f"{adaptation.language}.safetensors"
    header = {
        "format": str(FORMAT),
        "artifact": identity(manifest),
        "language": adaptation.language,
        "labels": json.dumps(adaptation.labels, ensure_ascii=False),
        "examples": str(adaptation.examples),
        "estimate": json.dumps(adaptation.estimate),
        "calibration": json.dumps(asdict(adaptation.calibration)),
        "metaglot": metaglot.__version__,
    }
    if adaptation.values:
        header["values"] = adaptation.values.to_json()
    tensors = {name: value.to(torch.float16).contiguous() for name, value in adaptation.head.items()}
    with atomic_file(path) as beside:
        about = header | {"hash": content_hash(header, tensors)}
        # One entry, for the format does not keep the order of several: the same adaptation, the same bytes.
        write_tensors(beside, tensors, {"adaptation": json.dumps(about)})
    return path


def identity(manifest: Mapping[str, Any]) -> str:
    """Return the hash by which adaptations know the artifact that they belong to."""
    return text_hash(*(manifest["files"][name] for name in _PARTS))


def _write(artifact: Artifact, folder: Path) -> None:
    model = artifact.model
    tensors = model.prior.tensors()
    for name, scaler in model.scalers.items():
        tensors[f"scaler.mean.{name}"] = scaler.mean
        tensors[f"scaler.scale.{name}"] = scaler.scale
    write_tensors(folder / "model.safetensors", tensors)
    write_tensors(folder / "learner.safetensors", artifact.meta)
    (folder / "recipe.toml").write_text(write_recipe(artifact.recipe), encoding="utf-8")
    parts = list(_PARTS)
    if artifact.values:
        (folder / _VALUES).write_text(artifact.values.to_json() + "\n", encoding="utf-8")
        parts.append(_VALUES)
    manifest = {
        "format": FORMAT,
        "versions": versions(),
        "kind": model.kind_name,
        "encoder": {"name": model.encoder.name, "fingerprint": model.encoder.fingerprint},
        "labels": list(model.labels),
        "groups": model.groups.as_dict(),
        "learner": artifact.recipe.learner,
        "seed": artifact.recipe.train.seed,
        "prior": model.prior.numbers(),
        "facts": dict(artifact.facts),
        "files": {name: file_hash(folder / name) for name in parts},
    }
    manifest["hash"] = manifest_hash(manifest)
    (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
    write_json(folder / "manifest.json", manifest)
    for adaptation in artifact.adaptations.values():
        save_adaptation(adaptation, folder)


def versions() -> dict[str, str]:
    """Return the versions of metaglot, Python and the libraries that results depend on."""
    names = ("torch", "transformers", "tokenizers", "numpy", "scikit-learn", "safetensors")
    found = {name: metadata.version(name) for name in names}
    return {"metaglot": metaglot.__version__, "python": platform.python_version(), **found}


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text("utf-8"))
        found = manifest["format"]
        wanted = ("files", "encoder", "kind", "labels", "prior", "facts", "hash")
        missing = [name for name in wanted if name not in manifest]
    except OSError as error:
        found = f"expected an artifact (a folder with manifest.json), found none: {error.strerror}."
        hint = "Make one with `metaglot train CORPUS --out DIR`."
        raise ArtifactError(found, where=Where(folder), hint=hint) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"expected a manifest, found a damaged file: {error}.",
            where=Where(path),
            hint="Restore the folder from a copy, or train again.",
        ) from error
    if manifest.get("kind") in WRITING:
        raise ArtifactError(
            f"expected a model with labels, found one of the kind {manifest['kind']!r}.",
            where=Where(folder),
            hint="`metaglot translate` or `metaglot generate` has it write.",
        )
    if found != FORMAT or missing:
        raise ArtifactError(
            f"expected an artifact of format {FORMAT}, found format {found!r}"
            + (f" without {', '.join(missing)}." if missing else "."),
            where=Where(path),
            hint="It was made by another version of metaglot: use that one, or train again.",
        )
    if manifest["hash"] != manifest_hash(manifest):
        raise _changed(path)
    return dict(manifest)


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return a hash of all that a manifest says but its entry `hash`."""
    rest = {name: value for name, value in manifest.items() if name != "hash"}
    return text_hash(json.dumps(rest, sort_keys=True))


def _changed(path: Path) -> ArtifactError:
    return ArtifactError(
        "expected the content that was written, found other: the file is damaged or was changed.",
        where=Where(path),
        hint="Restore it from a copy, or make it again.",
    )


def _check_part(path: Path, wanted: str | None) -> None:
    if not path.is_file():
        raise ArtifactError(
            "expected this part of the artifact, found no such file: the folder was not copied whole.",
            where=Where(path),
            hint="Copy it again, or train again.",
        )
    try:
        found = file_hash(path)
    except OSError as error:
        raise ArtifactError(f"could not be read: {error.strerror}.", where=Where(path)) from error
    if found != wanted:
        raise _changed(path)


def _read_values(path: Path, wanted: str | None) -> Values:
    """Return the values in a part of an artifact; none where the manifest names no such part."""
    if wanted is None:
        return Values()
    _check_part(path, wanted)
    try:
        return Values.from_json(path.read_text("utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{error}, found something else.", where=Where(path)) from error


def _calibration(values: Mapping[str, Any]) -> Calibration:
    """Return a calibration from JSON, where tuples are lists."""
    return Calibration(
        float(values.get("temperature", 1.0)),
        *(tuple(map(float, values.get(name, ()))) for name in ("confidence", "truth", "scope")),
    )


def _read_adaptation(path: Path, artifact: str) -> Adaptation:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["adaptation"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        content = header["hash"]
        adaptation = Adaptation(
            language=header["language"],
            labels=tuple(json.loads(header["labels"])),
            head={name: value.float() for name, value in tensors.items()},
            examples=int(header["examples"]),
            estimate=json.loads(header["estimate"]),
            calibration=_calibration(json.loads(header.get("calibration", "{}"))),  # older ones have none
            values=Values.from_json(header.get("values", "{}")),
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"expected an adaptation, found a damaged file: {error}.",
            where=Where(path),
            hint="Remove the file and adapt the language again.",
        ) from error
    if content != content_hash(header, tensors):
        raise _changed(path)
    if header.get("artifact") != artifact:
        raise ArtifactError(
            "expected an adaptation of this artifact, found one of another training run.",
            where=Where(path),
            hint="Remove the file and adapt the language again.",
        )
    return adaptation
