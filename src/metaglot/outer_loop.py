"""The outer loop: episodes in, meta-parameters out. There is no other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metaglot.checkpoint import Checkpoint
from metaglot.config import TrainSettings
from metaglot.errors import TrainingError
from metaglot.learners.base import Learner, check_pair
from metaglot.model import Sources
from metaglot.progress import progress
from metaglot.space import draw_episode, generator
from metaglot.storage import text_hash
from metaglot.types import Episode, Params


@dataclass(frozen=True)
class TrainResult:
    """Meta-parameters, and the mean query loss of every outer step in nats."""

    meta: Params
    losses: tuple[float, ...]


def source_episode(sources: Sources, settings: TrainSettings, *key: int | str) -> Episode:
    """Draw one episode from the sources: a language, a number of shots and of labels by chance.

    Languages are drawn uniformly, so that a language with more data counts no more. Half of the
    episodes have all labels of the language and half fewer, as new users' label sets will.
    """
    chance = generator(settings.seed, "episode", *key)
    table = sources.tables[int(chance.integers(len(sources.tables)))]
    shots = int(chance.choice(settings.shots))
    most = len(table.task.labels)
    ways = most if chance.random() < 0.5 else int(chance.integers(2, most + 1))
    drawn = draw_episode(
        table.examples, table.task.labels, shots, settings.queries, settings.seed, *key, ways=ways
    )
    return Episode(
        support=table.batch(sources.model, drawn.support, drawn.labels),
        query=table.batch(sources.model, drawn.query, drawn.labels),
        task=table.task.language,
    )


def meta_train(
    sources: Sources,
    learner: Learner,
    settings: TrainSettings,
    *,
    name: str = "learner",
    checkpoint: Path | None = None,
) -> TrainResult:
    """Learn a learner's meta-parameters on episodes of the source languages (Adam, cosine decay).

    A run that is stopped (Ctrl-C, a crash) goes on from its last checkpoint with the same result,
    bit for bit on one machine, as if it had not been: every episode is a function of the seed and
    its step.

    Args:
        sources: the fitted source languages.
        learner: what to train.
        settings: steps, episodes, shots, seed.
        name: the learner's name, for messages and the progress bar.
        checkpoint: a file to save progress to, and to go on from.

    Raises:
        SettingsError: the learner cannot work on the model's kind.
        TrainingError: the loss is no longer a number; the message says since which step.
    """
    model = sources.model.task_model
    check_pair(name, learner, sources.model.kind_name, model.outputs)
    start = learner.init(model, torch.Generator().manual_seed(settings.seed % 2**64))
    meta = {key: value.clone().requires_grad_() for key, value in start.items()}
    groups = [
        {"params": [value], "lr": settings.rate * learner.outer_rate(key), "name": key}
        for key, value in meta.items()
    ]
    optimizer = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    saved = Checkpoint(checkpoint, run_key(sources, learner, settings, name))
    losses = saved.restore(meta, optimizer)
    draw = _drawer(sources, learner, settings)
    with progress(f"meta-training {name}", settings.steps) as advance:
        advance(len(losses))
        try:
            for step in range(len(losses), settings.steps):
                episodes = [draw(step, place) for place in range(settings.episodes)]
                decay = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * decay
                optimizer.zero_grad()
                loss = learner.meta_loss(model, meta, episodes)
                if not bool(torch.isfinite(loss)):
                    raise TrainingError(
                        f"the loss of the learner {name!r} is {loss.item()} since step {step}.",
                        hint="Lower the outer rate (--rate), or the learner's inner rate.",
                    )
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(loss.detach()))
                advance(1, f"loss {losses[-1]:.3f}")
                if (step + 1) % settings.checkpoint_every == 0:
                    saved.save(meta, optimizer, losses)
        except KeyboardInterrupt:
            saved.save(meta, optimizer, losses)
            raise
    saved.remove()
    return TrainResult({key: value.detach() for key, value in meta.items()}, tuple(losses))


def _drawer(sources: Sources, learner: Learner, settings: TrainSettings) -> Callable[[int, int], Any]:
    """A function of (step, place) that returns a prepared episode, from a pool if there is one."""
    model = sources.model.task_model
    pool: dict[int, Any] = {}

    def draw(step: int, place: int) -> Any:
        number = step * settings.episodes + place
        if settings.pool:
            turn, number = divmod(number, settings.pool)
            number = int(generator(settings.seed, "order", turn).permutation(settings.pool)[number])
            if number not in pool:
                pool[number] = learner.prepare(model, source_episode(sources, settings, number))
            return pool[number]
        return learner.prepare(model, source_episode(sources, settings, number))

    return draw


def run_key(sources: Sources, learner: Learner, settings: TrainSettings, name: str) -> str:
    """Return a hash of all that a run of the loop depends on."""
    rows = [
        part
        for table in sources.tables
        for e in table.examples
        for part in (e.language, e.id, e.label, e.group, e.text)
    ]
    options = json.dumps(dict(sorted(vars(learner).items())), default=str)
    return text_hash(name, options, settings.model_dump_json(), sources.model.encoder.fingerprint, *rows)
