"""Training of models that write: a recipe in, a model out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from metaglot.checkpoint import Checkpoint
from metaglot.config import TrainSettings
from metaglot.drawing import with_codes
from metaglot.generation.corpora import Taught, teach
from metaglot.generation.drawing import EpisodeDraw, JointDraw, Sizes, shared_out
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
    key = text_hash(recipe.model_dump_json(), taught.data.fingerprint)
    joint, own = sides(recipe, taught.sources)
    model, losses = train_jointly(recipe, taught, joint, checkpoint=_beside(checkpoint), key=key)
    known = {code: taught.sources[code] for code in own}
    result = meta_train(model, learner, known, recipe, checkpoint=checkpoint, key=key, log=log)
    return assemble(recipe, taught, learner, result.meta, {"joint": losses, "training": result.history})


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


def sides(recipe: GenerationRecipe, sources: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the languages of a recipe's joint training and those of its episodes, see `shared_out`."""
    # Without joint training nothing is known yet, and further joint training has no episodes.
    alone = not recipe.joint.steps or recipe.learner == "multitask"
    return shared_out(sources, 0.0 if alone else recipe.train.fresh)


def train_jointly(
    recipe: GenerationRecipe,
    taught: Taught,
    codes: Sequence[str],
    *,
    checkpoint: Path | None = None,
    key: str = "",
) -> tuple[ModuleModel, tuple[float, ...]]:
    """Return a recipe's model after joint training on source languages, and the losses.

    Args:
        recipe: the model and its joint training.
        taught: the source languages.
        codes: those that are trained on.
        checkpoint: a file to save progress to, and to go on from.
        key: names what the batches are made from.
    """
    joint, seed = recipe.joint, recipe.train.seed
    module = build(recipe, taught.vocabulary, taught.source)
    model = task_model(module, taught.groups, recipe.train.precision)
    if not joint.steps:
        return model, ()
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
    known = {code: taught.sources[code] for code in codes}
    draw = JointDraw(known, Sizes(joint.batch, untagged=joint.untagged), seed)
    found = optimize(
        model, learner, draw, settings, name=JOINT, activity="joint training", checkpoint=checkpoint, key=key
    )
    start = start_of(found.meta)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name in start:  # what is frozen is as it was
                value.copy_(start[name])
    return task_model(module, taught.groups, recipe.train.precision), found.losses


def _validation(sources: Mapping[str, Material], settings: EpisodeSettings) -> tuple[str, ...]:
    found = with_codes(sorted(sources), settings).validation
    assert isinstance(found, tuple)
    return found


def assemble(
    recipe: GenerationRecipe, taught: Taught, learner: Learner, meta: Params, went: Mapping[str, Any]
) -> GenerationModel:
    """Return the model of what a learner has learned; `went` may have `joint` losses and the `training`."""
    meta = {n: v.detach() for n, v in meta.items()}
    joint = went.get("joint")
    facts = {
        "sources": sorted(taught.sources),
        "held_out": list(taught.held_out),
        "pivot": taught.pivot,
        "into": taught.into,
        "tagged": [] if taught.into or not taught.pivot else sides(recipe, taught.sources)[0],
        "corpus": {
            "name": taught.data.name,
            "fingerprint": taught.data.fingerprint,
            "licence": taught.data.licence,
            "sequences": {code: len(m) for code, m in sorted(taught.sources.items())},
        },
        "joint": {"first_loss": joint[0], "last_loss": joint[-1]} if joint else {},
        "training": went["training"].facts() if "training" in went else {},
        "parameters": sum(v.numel() for v in start_of(meta).values()),
    }
    plain = json.loads(json.dumps(facts))
    return GenerationModel(recipe, taught.vocabulary, taught.source, taught.groups, learner, meta, plain)


def _beside(checkpoint: Path | None) -> Path | None:
    """The checkpoint of joint training: beside that of meta-training."""
    return None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{JOINT}.safetensors")
