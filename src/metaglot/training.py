"""Training: a corpus and a recipe in, an artifact out."""

from __future__ import annotations

import inspect
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metaglot.artifact import Artifact, versions
from metaglot.augmentation import augment_space
from metaglot.checkpoint import State, run_key
from metaglot.config import Recipe
from metaglot.distributed import processes
from metaglot.drawing import fingerprint, with_codes
from metaglot.encoders import Encoder, load_encoder
from metaglot.errors import SettingsError, StorageError, suggestion
from metaglot.kinds import KINDS, Kind
from metaglot.kinds.values import Values
from metaglot.label_scores import LabelScores
from metaglot.learners import LEARNERS
from metaglot.learners.base import Learner
from metaglot.model import Sources, fit_sources
from metaglot.outer_loop import TrainResult, meta_train
from metaglot.progress import console
from metaglot.run_log import RunLog
from metaglot.space import TaskSpace
from metaglot.storage import atomic_file, cache_root, file_hash, text_hash
from metaglot.types import Corpus

# Results of training that the cache keeps; each is at most a few megabytes.
_KEPT = 64


@dataclass(frozen=True)
class Fitted:
    """What all learners and baselines of a run share: the task space and the fitted sources."""

    space: TaskSpace
    sources: Sources


def fit(corpus: Corpus, recipe: Recipe, *, encoder: Encoder | None = None) -> Fitted:
    """Divide a corpus into sources and held-out languages and fit the sources, as a recipe says.

    Args:
        corpus: the examples.
        recipe: encoder, sources, held-out languages, groups, augmentation of the sources.
        encoder: the recipe's, where the caller has it already.

    Raises:
        MetaglotError: the corpus, the encoder or the languages do not fit; the message says how.
    """
    space = TaskSpace.of(corpus, recipe.held_out, sources=recipe.sources)
    space = augment_space(space, recipe.augment, recipe.augment_copies, recipe.train.seed)
    with_codes([task.language for task in space.sources], recipe.train)  # said before the long part
    with processes().in_turn() as several:
        encoder = encoder or load_encoder(recipe.encoder)
        if several:  # the others find the features in the cache
            kind: Kind = KINDS[corpus.kind]()
            every = [e for task in space.sources for e in task.pool]
            kind.encode(encoder, every, description="encoding the source languages")
    return Fitted(space, fit_sources(space, encoder, recipe.groups))


def fitting_learners() -> list[str]:
    """Return the names of the learners that work on kinds; the others are for modules of one's own."""
    return [name for name in LEARNERS if LabelScores.outputs in LEARNERS[name]().needs]


def make_learner(recipe: Recipe) -> Learner:
    """Return a recipe's learner with its options.

    Raises:
        SettingsError: the learner has no such option.
    """
    factory = LEARNERS[recipe.learner]
    known = list(inspect.signature(factory).parameters)
    options = ", ".join(known) or "it has none"
    for name in recipe.learner_options:
        if name not in known:
            raise SettingsError(
                f"expected an option of the learner {recipe.learner!r} ({options}), found {name!r}.",
                hint=suggestion(name, known),
            )
    try:
        learner: Learner = factory(**recipe.learner_options)
    except TypeError as error:
        raise SettingsError(f"the options of the learner {recipe.learner!r} are wrong: {error}.") from error
    return learner


def train(
    corpus: Corpus,
    recipe: Recipe,
    *,
    fitted: Fitted | None = None,
    checkpoint: Path | None = None,
    log: RunLog | None = None,
) -> Artifact:
    """Learn from a corpus's source languages how to learn another one.

    Args:
        corpus: the examples.
        recipe: learner, encoder, held-out languages, outer loop.
        fitted: `fit(corpus, recipe)`, where the caller has it already.
        checkpoint: a file to save progress to, and to go on from. It stays, for the artifact may yet fail
            to be saved: `Checkpoint(path).remove()` once it is.
        log: where to tell every step of the outer loop.

    Returns:
        The artifact, in memory: see `metaglot.artifact.save`.
    """
    learner = make_learner(recipe)
    fitted = fitted or fit(corpus, recipe)
    result = meta_train(
        fitted.sources, learner, recipe.train, name=recipe.learner, checkpoint=checkpoint, log=log
    )
    return assemble(fitted, recipe, learner, result)


def assemble(fitted: Fitted, recipe: Recipe, learner: Learner, result: TrainResult) -> Artifact:
    """Return the artifact of a learner that was trained on fitted sources."""
    space, sources, corpus = fitted.space, fitted.sources, fitted.space.corpus
    facts = {
        "sources": [task.language for task in space.sources],
        "held_out": [task.language for task in space.held_out],
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "examples": len(corpus.examples),
            "licence": corpus.licence,
            "parallel": corpus.parallel,
        },
        "metrics": {
            "metric": sources.model.kind.metrics[0],
            "cross_fitted": sources.zero_shot_metric(),
            "first_loss": result.losses[0],
            "last_loss": result.losses[-1],
        },
        "training": result.history.facts(),
    }
    spanned = sources.model.kind.shots == "example"
    values = Values.of(e for task in space.sources for e in task.pool) if spanned else Values()
    return Artifact(sources.model, learner, result.meta, recipe, facts, values=values)


def train_learners(
    fitted: Fitted, recipe: Recipe, names: Sequence[str]
) -> dict[str, tuple[Learner, TrainResult]]:
    """Meta-train several learners on the same fitted sources; name → (learner, its result).

    The recipe's learner has the recipe's options, the others their defaults. What was learned is kept
    in the cache under a hash of all that it depends on (data, features, options, seed, metaglot's
    own code), so that another grid over the same learners need not train them again.
    """
    trained: dict[str, tuple[Learner, TrainResult]] = {}
    for name in names:
        options = recipe.learner_options if name == recipe.learner else {}
        learner = make_learner(recipe.model_copy(update={"learner": name, "learner_options": options}))
        key = run_key(name, learner, recipe.train, fingerprint(fitted.sources), code_hash())
        result = _recall(key)
        if result is None:
            result = meta_train(fitted.sources, learner, recipe.train, name=name)
            if processes().first:
                _remember(key, result)
        trained[name] = (learner, result)
    return trained


def _recall(key: str) -> TrainResult | None:
    """Return what the cache has under a key, or None."""
    try:
        kept = (cache_root() / "learned" / f"{key}.safetensors").read_bytes()
    except OSError:
        kept = b""
    try:
        # What the first process has counts for all, so that none goes to train alone.
        state, found = State.unpack(processes().from_first(kept))
    except ValueError:
        return None
    return TrainResult(state.meta, state.history) if found == key else None


def _remember(key: str, result: TrainResult) -> None:
    """Keep a result in the cache, and of older ones the newest; a full disk only costs the time."""
    folder = cache_root() / "learned"
    try:
        with atomic_file(folder / f"{key}.safetensors") as beside:
            beside.write_bytes(State(result.meta, history=result.history).pack(key))
        for old in sorted(folder.glob("*.safetensors"), key=lambda f: f.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    except (StorageError, OSError) as error:
        console.print(f"[yellow]note:[/yellow] what was learned could not be kept: {error}")


def clear_learned() -> int:
    """Remove what earlier runs have learned from the cache; return the bytes freed."""
    freed = 0
    for file in (cache_root() / "learned").glob("*.safetensors"):
        size = file.stat().st_size
        file.unlink(missing_ok=True)
        freed += size
    return freed


def code_hash() -> str:
    """Return a hash of metaglot's own source files."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return text_hash(*(file_hash(file) for file in files))


def evaluation_facts(fitted: Fitted, recipe: Recipe) -> dict[str, Any]:
    """Return what a result file must say of its run: recipe, data, versions, machine."""
    corpus = fitted.space.corpus
    return {
        "recipe": recipe.model_dump(mode="json"),
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint, "parallel": corpus.parallel},
        "sources": [task.language for task in fitted.space.sources],
        "held_out": [task.language for task in fitted.space.held_out],
        "encoder": fitted.sources.model.encoder.fingerprint,
        "versions": versions(),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }
