"""Training of models that write: a recipe in, a model out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metaglot.checkpoint import Checkpoint
from metaglot.config import TrainSettings
from metaglot.drawing import with_codes
from metaglot.generation.corpora import Taught, teach
from metaglot.generation.drawing import EpisodeDraw, JointDraw, Sizes
from metaglot.generation.learning import make_learner
from metaglot.generation.material import Material
from metaglot.generation.model import GenerationModel, build, task_model
from metaglot.generation.recipe import EpisodeSettings, GenerationRecipe
from metaglot.learners.base import Learner, start_of
from metaglot.learners.modules import ModuleModel
from metaglot.outer_loop import TrainResult, optimize
from metaglot.run_log import RunLog
from metaglot.storage import text_hash
from metaglot.types import Params

JOINT = "joint"
"""What joint training is called in messages."""


def train(
    recipe: GenerationRecipe,
    *,
    taught: Taught | None = None,
    checkpoint: Path | None = None,
    log: RunLog | None = None,
) -> GenerationModel:
    """Learn from many languages how to learn to write in another, or from another.

    Args:
        recipe: corpus, languages, model, learner, joint training, episodes.
        taught: `teach(recipe)`, where the caller has it already.
        checkpoint: a file to save progress to, and to go on from; beside it there is another of joint
            training. They stay, for the model may yet fail to be saved: `remove_checkpoints` once it is.
        log: where to tell every step of meta-training.

    Raises:
        MetaglotError: what is wrong with recipe, data or learner.
        TrainingError: the loss is no longer a number.
    """
    learner = make_learner(recipe.learner, recipe.learner_options)
    taught = taught or teach(recipe)
    key = text_hash(recipe.model_dump_json(), taught.fingerprint, taught.vocabulary.fingerprint)
    module = build(recipe, taught.vocabulary, taught.source)
    start, losses = _joint(module, taught, recipe, _beside(checkpoint), key)
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(start[name])
    model = task_model(module, taught.groups, recipe.train.precision)
    result = meta_train(model, learner, taught.sources, recipe, checkpoint=checkpoint, key=key, log=log)
    return _model(recipe, taught, learner, result, losses)


def meta_train(
    model: ModuleModel,
    learner: Learner,
    sources: Mapping[str, Material],
    recipe: GenerationRecipe,
    *,
    checkpoint: Path | None = None,
    key: str = "",
    log: RunLog | None = None,
) -> TrainResult:
    """Learn a learner's meta-parameters on episodes of source languages, from a model's own start.

    Languages of the setting `validation` are not learned from: the best meta-parameters on theirs count.

    Args:
        model: the model.
        learner: what to train; `multitask` goes on with joint training.
        sources: code → material.
        recipe: the outer loop's settings.
        checkpoint: a file to save progress to, and to go on from.
        key: names what the episodes are made from.
        log: where to tell every step.
    """
    settings = recipe.train
    sizes = sizes_of(recipe, learner)
    apart = _validation(sources, settings)
    known = {code: m for code, m in sources.items() if code not in apart}
    every = list(known) if settings.tasks == "all" else None
    draw = EpisodeDraw(known, sizes, settings.seed, every=settings.tasks == "all")
    judged = EpisodeDraw(dict(sources), sizes, settings.seed)
    episodes = [
        judged.of(code, "validation", number)
        for code in apart
        for number in range(settings.validation_episodes)
    ]
    return optimize(
        model,
        learner,
        draw if recipe.learner != "multitask" else JointDraw(known, sizes, settings.seed + 1),
        settings,
        name=recipe.learner,
        tasks=None if every is None else len(every),
        validate=episodes,
        checkpoint=checkpoint,
        key=key,
        log=log,
    )


def sizes_of(recipe: GenerationRecipe, learner: Learner) -> Sizes:
    """Return how many sequences a recipe's batches and episodes have."""
    inner = learner.inner  # type: ignore[attr-defined]
    support = recipe.train.support or max(1, inner.batch) * inner.steps
    return Sizes(recipe.joint.batch, support, recipe.train.query, recipe.joint.untagged)


def remove_checkpoints(checkpoint: Path) -> None:
    """Remove what a run has saved of its progress."""
    for path in (checkpoint, _beside(checkpoint)):
        if path is not None:
            Checkpoint(path).remove()


def _joint(
    module: Any, taught: Taught, recipe: GenerationRecipe, checkpoint: Path | None, key: str
) -> tuple[Params, tuple[float, ...]]:
    """The parameters that joint training ends at, and its losses."""
    joint, seed = recipe.joint, recipe.train.seed
    model = task_model(module, taught.groups, recipe.train.precision)
    if not joint.steps:
        return model.init(0), ()
    learner = make_learner("multitask", {"outer_rate": joint.rate})
    settings = TrainSettings(
        steps=joint.steps,
        episodes=1,
        pool=0,
        warmup=min(100, joint.steps // 10),
        clip=1.0,
        accumulate=1,
        curves_every=0,
        checkpoint_every=200,
        precision=recipe.train.precision,
        seed=seed,
    )
    draw = JointDraw(taught.sources, Sizes(joint.batch, untagged=joint.untagged), seed)
    found = optimize(model, learner, draw, settings, name=JOINT, checkpoint=checkpoint, key=key)
    return start_of(found.meta), found.losses


def _validation(sources: Mapping[str, Material], settings: EpisodeSettings) -> tuple[str, ...]:
    found = with_codes(sorted(sources), settings).validation
    assert isinstance(found, tuple)
    return found


def _model(
    recipe: GenerationRecipe,
    taught: Taught,
    learner: Learner,
    result: TrainResult,
    joint: tuple[float, ...],
) -> GenerationModel:
    meta = {n: v.detach() for n, v in result.meta.items()}
    facts = {
        "sources": sorted(taught.sources),
        "held_out": list(taught.held_out),
        "pivot": taught.pivot,
        "into": taught.into,
        "corpus": {
            "name": taught.name,
            "fingerprint": taught.fingerprint,
            "licence": taught.licence,
            "sequences": {code: len(m) for code, m in sorted(taught.sources.items())},
        },
        "joint": {"first_loss": joint[0], "last_loss": joint[-1]} if joint else {},
        "training": result.history.facts(),
        "parameters": sum(v.numel() for v in start_of(meta).values()),
    }
    return GenerationModel(
        recipe, taught.vocabulary, taught.source, taught.groups, learner, meta, json.loads(json.dumps(facts))
    )


def _beside(checkpoint: Path | None) -> Path | None:
    """The checkpoint of joint training: beside that of meta-training."""
    return None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{JOINT}.safetensors")
