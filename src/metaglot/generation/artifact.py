"""A model that writes, on disk: a folder that can be shipped.

    DIR/manifest.json            format, kind, versions, facts, hashes of the other files
    DIR/recipe.toml              the recipe that made it
    DIR/vocabulary.json          subwords and tags of what it writes
    DIR/source-vocabulary.json   subwords of what it reads, where it has its own
    DIR/learner.safetensors      the learner's meta-parameters, the model's start among them
    DIR/README.md                a model card
    DIR/adaptations/swh.safetensors     one file a language

The weights of a frozen encoder or a pretrained model are not in it: they are named by a fingerprint, and
others are refused.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import metaglot
from metaglot.artifact import check_free, manifest_hash, versions
from metaglot.config import read_settings, write_recipe
from metaglot.encoders import load_encoder
from metaglot.errors import ArtifactError, Where
from metaglot.generation import WRITING
from metaglot.generation.card import card
from metaglot.generation.corpora import pretrained_side
from metaglot.generation.learning import make_learner
from metaglot.generation.model import GenerationModel, WrittenLanguage
from metaglot.generation.pretrained import PretrainedSide
from metaglot.generation.recipe import GenerationRecipe
from metaglot.generation.translation import StateSide, TokenSide
from metaglot.sequences.vocabulary import Vocabulary
from metaglot.space import Groups
from metaglot.storage import atomic_file, atomic_folder, explained, file_hash, text_hash, write_json
from metaglot.tensor_files import load_tensors, save_tensors

FORMAT = 1
_MANIFEST, _RECIPE, _VOCABULARY, _SOURCE = (
    "manifest.json",
    "recipe.toml",
    "vocabulary.json",
    "source-vocabulary.json",
)
_LEARNER, _ADAPTATIONS = "learner.safetensors", "adaptations"


def kind_of(folder: Path | str) -> str:
    """Return the kind of a trained model's folder, of those that write and others.

    Raises:
        ArtifactError: there is no model, or its manifest is damaged.
    """
    return str(_manifest(Path(folder)).get("kind", ""))


def writes(folder: Path | str) -> bool:
    """Return whether a trained model's folder is one of a model that writes."""
    return kind_of(folder) in WRITING


def save(model: GenerationModel, folder: Path | str, *, overwrite: bool = False) -> None:
    """Write a model and its adaptations to a folder, whole or not at all.

    Raises:
        ArtifactError: the folder exists and `overwrite` is not set, or it is something else.
        StorageError: it could not be written; what was there before is as it was.
    """
    folder = Path(folder)
    check_free(folder, overwrite=overwrite)
    folder = folder.resolve()
    beside, old = (folder.with_name(f".{folder.name}.{end}") for end in ("new", "old"))
    with explained(folder):
        shutil.rmtree(beside, ignore_errors=True)
    with atomic_folder(beside) as made:
        _write(model, made)
    with explained(folder):
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        beside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def load(folder: Path | str) -> GenerationModel:
    """Read a model that writes, and all its adaptations.

    Raises:
        ArtifactError: a part is missing, damaged, or of another format, encoder or training run.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    if manifest.get("kind") not in WRITING:
        raise ArtifactError(
            f"expected a model that writes ({', '.join(WRITING)}), found one of the kind "
            f"{manifest.get('kind')!r}.",
            where=Where(folder),
            hint="Use `metaglot predict` with it.",
        )
    if manifest.get("hash") != manifest_hash(manifest):
        raise ArtifactError(
            "expected the manifest that was written, found another: it is damaged or was changed.",
            where=Where(folder / _MANIFEST),
            hint="Restore the folder from a copy, or train again.",
        )
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file() or file_hash(path) != digest:
            raise ArtifactError(
                f"expected {name} as it was written, found "
                f"{'another: it is damaged or was changed' if path.exists() else 'no such file'}.",
                where=Where(path),
                hint="Restore the folder from a copy, or train again.",
            )
    recipe = read_settings(GenerationRecipe, folder / _RECIPE, {})
    vocabulary = None if recipe.model else Vocabulary.load(folder / _VOCABULARY)
    source = _source(folder, manifest, recipe)
    groups = Groups(manifest["groups"]["by"], tuple(manifest["groups"]["names"]))
    learner = make_learner(recipe.learner, recipe.learner_options)
    meta, _ = load_tensors(folder / _LEARNER, "a learner")
    model = GenerationModel(recipe, vocabulary, source, groups, learner, meta, manifest["facts"])
    for path in sorted((folder / _ADAPTATIONS).glob("*.safetensors")):
        adapted = _read(path, _identity(manifest))
        model.adaptations[adapted.language] = adapted
    return model


def save_adaptation(adapted: WrittenLanguage, folder: Path | str) -> Path:
    """Write a language's adaptation beside the model that it was made from, and return its file.

    Raises:
        StorageError: it could not be written; an older one is as it was.
    """
    folder = Path(folder)
    path = folder / _ADAPTATIONS / f"{adapted.language}.safetensors"
    with explained(path):
        path.parent.mkdir(exist_ok=True)
    about = {
        "format": FORMAT,
        "model": _identity(_manifest(folder)),
        "language": adapted.language,
        "examples": adapted.examples,
        "updates": adapted.updates,
        "multiple": adapted.multiple,
        "estimate": adapted.estimate,
    }
    save_tensors(path, {n: v.half() for n, v in adapted.own.items()}, about)
    return path


def _read(path: Path, model: str) -> WrittenLanguage:
    tensors, about = load_tensors(path, "an adaptation")
    if about.get("model") != model:
        raise ArtifactError(
            "expected an adaptation of this model, found one of another training run.",
            where=Where(path),
            hint="Adapt the language again, or take the file away.",
        )
    return WrittenLanguage(
        about["language"],
        {n: v.float() for n, v in tensors.items()},
        about["examples"],
        about["updates"],
        about["multiple"],
        about["estimate"],
    )


def _write(model: GenerationModel, folder: Path) -> None:
    with atomic_file(folder / _RECIPE) as beside:
        beside.write_text(write_recipe(model.recipe), "utf-8")
    names = [_RECIPE, _LEARNER]
    if model.vocabulary is not None:
        model.vocabulary.save(folder / _VOCABULARY)
        names.append(_VOCABULARY)
    encoder: dict[str, Any] | None = None
    if isinstance(model.source, TokenSide):
        model.source.vocabulary.save(folder / _SOURCE)
        names.append(_SOURCE)
    elif isinstance(model.source, PretrainedSide):
        encoder = {"name": model.source.name, "fingerprint": model.source.fingerprint}
    elif model.source is not None:
        encoder = {
            "name": model.source.encoder,
            "layer": model.source.layer,
            "fingerprint": load_encoder(model.source.encoder).fingerprint,
        }
    save_tensors(folder / _LEARNER, model.meta, {"learner": model.recipe.learner})
    manifest = {
        "format": FORMAT,
        "metaglot": metaglot.__version__,
        "kind": model.kind,
        "versions": versions(),
        "encoder": encoder,
        "groups": model.groups.as_dict(),
        "facts": dict(model.facts),
        "files": {name: file_hash(folder / name) for name in names},
    }
    with atomic_file(folder / "README.md") as beside:
        beside.write_text(card(model), "utf-8")
    write_json(folder / _MANIFEST, manifest | {"hash": manifest_hash(manifest)})
    for adapted in model.adaptations.values():
        save_adaptation(adapted, folder)


def _source(
    folder: Path, manifest: dict[str, Any], recipe: GenerationRecipe
) -> TokenSide | StateSide | PretrainedSide | None:
    if (folder / _SOURCE).is_file():
        return TokenSide(Vocabulary.load(folder / _SOURCE))
    wanted = manifest["encoder"]
    if wanted is None:
        return None
    side = pretrained_side(recipe)
    found = load_encoder(wanted["name"]) if side is None else side
    if found.fingerprint != wanted["fingerprint"]:
        raise ArtifactError(
            f"expected {wanted['name']!r} with the fingerprint {wanted['fingerprint'][:12]}…, "
            f"found {found.fingerprint[:12]}….",
            where=Where(folder / _MANIFEST, field="encoder"),
            hint="Its files have changed since training: restore them, or train again.",
        )
    return StateSide(wanted["name"], wanted["layer"]) if side is None else side


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"expected an artifact (a folder with {_MANIFEST}), found none.",
            where=Where(folder),
            hint="`metaglot train` makes one.",
        )
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["format"] > FORMAT and found["kind"] in WRITING:
            raise ArtifactError(
                f"expected a model of format {FORMAT}, found {found['format']}.",
                where=Where(path),
                hint="Read it with the version of metaglot that wrote it, or a newer one.",
            )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"expected a manifest, found a damaged file: {type(error).__name__}: {error}.",
            where=Where(path),
            hint="Restore it from a copy, or train again.",
        ) from error
    assert isinstance(found, dict)
    return found


def _identity(manifest: dict[str, Any]) -> str:
    """What adaptations of a model know it by."""
    files = {name: digest for name, digest in manifest["files"].items() if re.search("learner|vocab", name)}
    return text_hash(json.dumps(files, sort_keys=True))
