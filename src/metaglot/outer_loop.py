"""The outer loop: episodes in, meta-parameters out. There is no other.

`optimize` is the loop on any tasks; `meta_train` is the loop on the source languages of a corpus.
Everything random in it is a function of the seed and the step, so that a run that was stopped at any
moment goes on with the same result, bit for bit on one machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from metaglot.checkpoint import Checkpoint, State, run_key
from metaglot.config import TrainSettings
from metaglot.descent import Descent, global_norm, rate_share
from metaglot.distributed import LostProcessError, Processes, processes
from metaglot.divergence import broken, check_explosion, not_finite
from metaglot.drawing import (
    Draw,
    MetaBatches,
    fingerprint,
    hold_apart,
    source_draw,
    source_episode,
    with_codes,
)
from metaglot.errors import SettingsError, TrainingError
from metaglot.history import History
from metaglot.learners.base import Learner, check_pair
from metaglot.meta_loss import MetaLoss
from metaglot.model import Sources
from metaglot.progress import progress, silent
from metaglot.run_log import RunLog
from metaglot.types import Episode, Params

__all__ = ["TrainResult", "meta_train", "optimize", "source_episode"]


@dataclass(frozen=True)
class TrainResult:
    """What a run has learned.

    Attributes:
        meta: the meta-parameters; the best ones on held-out tasks, where there were any.
        history: losses and learning curves of every step that was made.
    """

    meta: Params
    history: History = field(default_factory=History)

    @property
    def losses(self) -> tuple[float, ...]:
        """The meta-loss of every outer step, in nats."""
        return tuple(self.history.losses)


def optimize(
    model: Any,
    learner: Learner,
    draw: Draw,
    settings: TrainSettings,
    *,
    name: str = "learner",
    activity: str = "",
    tasks: int | None = None,
    validate: Sequence[Episode] = (),
    checkpoint: Path | None = None,
    key: str = "",
    log: RunLog | None = None,
) -> TrainResult:
    """Learn a learner's meta-parameters on any tasks.

    Started in several processes (`torchrun`, `accelerate launch`) they share each meta-batch out and
    return the same result; see `metaglot.distributed`.

    Args:
        model: a `TaskModel`, or what else the learner takes.
        learner: what to train.
        draw: (step, place) → episode, a function of its arguments alone. With `settings.pool` above 0
            it is asked for so many episodes only, which come again and again.
        settings: of the loop; `shots`, `queries` and `validation` are for those who draw.
        name: the learner's name, for messages.
        activity: what the progress bar says; `meta-training` and the name by default.
        tasks: how many tasks there are, for `settings.tasks = "all"`: place p is of task p % tasks.
        validate: fixed episodes of tasks that are not trained on, to stop early by.
        checkpoint: a file to save progress to, and to go on from. It stays when the run is over, until
            the result is safe elsewhere: `Checkpoint(path).remove()`.
        key: names what the episodes are made from: a checkpoint of another key is not used.
        log: where to tell every step.

    Raises:
        SettingsError: the learner cannot work on the model, or not with these settings.
        TrainingError: the loss or its gradient is no longer a number, or grows beyond all measure.
        LostProcessError: another process of the run has ended; what was learned so far is saved.
        StorageError: a checkpoint or the log could not be written.
    """
    if (outputs := getattr(model, "outputs", None)) is not None:
        check_pair(name, learner, type(model).__name__, outputs)
    run = _Run(model, learner, draw, settings, name, tasks, validate, checkpoint, key, log)
    seen = nullcontext() if run.together.first else silent()
    with seen, progress(activity or f"meta-training {name}", settings.steps) as advance, run.logged():
        advance(run.history.steps)
        try:
            while run.goes_on():
                run.step()
                advance(1, f"loss {run.history.losses[-1]:.3f}")
        except (KeyboardInterrupt, LostProcessError):
            run.save()
            raise
        run.save()
    return run.result()


class _Run:
    """One run of the loop between two steps."""

    def __init__(
        self,
        model: Any,
        learner: Learner,
        draw: Draw,
        settings: TrainSettings,
        name: str,
        tasks: int | None,
        validate: Sequence[Episode],
        checkpoint: Path | None,
        key: str,
        log: RunLog | None,
    ) -> None:
        self.model, self.learner, self.settings, self.name = model, learner, settings, name
        self.together: Processes = processes()
        start = learner.init(model, torch.Generator().manual_seed(settings.seed % 2**64))
        self.meta = {n: value.detach().clone() for n, value in start.items()}
        for n, value in self.meta.items():
            value.requires_grad_(learner.outer_rate(n) > 0)
        self.descent = Descent(learner, self.meta, settings)
        self.loss = MetaLoss(model, learner, settings, name, self.together)
        self.history = History()
        self.best: Params = {}
        self.batches = MetaBatches(model, learner, draw, settings, tasks)
        self.held_out = [self.batches.prepare(episode) for episode in validate]
        shapes = [f"{n} {list(value.shape)} {value.dtype}" for n, value in self.meta.items()]
        self.key = run_key(name, learner, settings, key, *shapes)
        self.saved = Checkpoint(checkpoint if self.together.first else None, self.key, settings.checkpoints)
        self.log = log if self.together.first else None
        self._saved_at = 0
        self._whole = True  # whether no step is half made
        self._restore()

    def goes_on(self) -> bool:
        """Judge and save where that is due; return whether there is a step left to make."""
        made, settings = self.history.steps, self.settings
        due = made % settings.validate_every == 0 or made == settings.steps
        if self.held_out and due and (not self.history.judged or self.history.judged[-1][0] < made):
            self._judge()
        if made % settings.checkpoint_every == 0:
            self.save()
        return made < settings.steps and self.history.waited < settings.patience

    def step(self) -> None:
        """Make one outer step, whole or not at all."""
        number, start = self.history.steps, time.perf_counter()
        mine = [self.batches(number, place) for place in self.together.share(self.batches.width)]
        loss, gradients = self.loss.gradient(self.meta, self.descent.learned, mine, number)
        if not_finite(loss, gradients):
            found = self.loss.by_task(self.meta, mine, number)
            raise broken(self.name, self.settings, self.history, loss, gradients, found)
        check_explosion(self.name, self.settings, self.history, loss)
        every = self.settings.curves_every
        due = every and (number == 0 or (number + 1) % every == 0)
        curves = self.loss.by_task(self.meta, mine, number) if due else {}
        norm = global_norm(gradients.values())
        self._whole = False
        self.descent.step(number, gradients, norm)
        self._write(number)
        for task, value in curves.items():
            self.history.curves.setdefault(task, []).append((number + 1, value))
        self.history.norms.append(norm)
        self.history.losses.append(loss)
        self._whole = True
        if self.log is not None:
            values = {"loss": loss, "gradient_norm": norm, "rate": rate_share(self.settings, number)}
            values["seconds"] = round(time.perf_counter() - start, 6)
            self.log.write(number + 1, values, {"tasks": curves})

    def save(self) -> None:
        """Save the run, unless nothing is new or a step is half made: then the last checkpoint counts."""
        if not self._whole or self.history.steps == self._saved_at:
            return
        self.saved.save(self._state())
        self._saved_at = self.history.steps

    def result(self) -> TrainResult:
        """Return what has been learned."""
        found = self.best or {n: value.detach() for n, value in self.meta.items()}
        return TrainResult(found, self.history)

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Keep the log open."""
        if self.log is not None:
            self.log.begin(self.name, self.settings, self.history.steps)
        try:
            yield
        finally:
            if self.log is not None:
                self.log.end()

    def _write(self, number: int) -> None:
        """Let the learner change its state; every process does it with all the episodes."""
        if len(self.descent.learned) == len(self.meta):
            return
        episodes = [self.batches(number, place).prepared for place in range(self.batches.width)]
        with torch.no_grad(), self.loss.seeded(self.meta, number, alike=True):
            written = self.learner.write(self.model, self.meta, episodes)
        for n, value in written.items():
            if n not in self.meta or n in self.descent.learned:
                raise TrainingError(
                    f"expected the learner {self.name!r} to write meta-parameters whose outer rate is 0, "
                    f"found it to write {n!r}."
                )
            self.meta[n] = value.detach()

    def _judge(self) -> None:
        """Work out the held-out tasks' losses, and keep the meta-parameters if they are the best so far."""
        mine = [self.held_out[place] for place in self.together.share(len(self.held_out))]
        made = self.history.steps
        losses = self.loss.by_task(self.meta, mine, made)
        weights = {task: self.settings.weights.get(task, 1.0) for task in losses}
        mean = sum(weights[t] * loss for t, loss in losses.items()) / sum(weights.values())
        if not self.history.judged or mean < min(value for _, value in self.history.judged):
            self.best = {n: value.detach().clone() for n, value in self.meta.items()}
        for task, loss in losses.items():
            self.history.validation.setdefault(task, []).append((made, loss))
        self.history.judged.append((made, mean))
        if self.log is not None:
            self.log.write(made, {"validation_loss": mean}, {"validation": losses})

    def _state(self) -> State:
        return State(self.meta, self.descent.state(), self.best, self.history)

    def _restore(self) -> None:
        """Go on where the first process's checkpoint is; all processes start from its parameters."""
        found = self.saved.load()
        if self.together.size > 1:
            if len(set(self.together.everyone(self.key))) > 1:
                raise SettingsError(
                    "expected every process to have the same settings, learner and data, found others."
                )
            data = self.together.from_first((found or self._state()).pack(self.key))
            found = State.unpack(data)[0]
        if found is not None:
            self.descent.restore(found, self.meta)
            self.history, self.best = found.history, found.best
            self._saved_at = found.history.steps


def meta_train(
    sources: Sources,
    learner: Learner,
    settings: TrainSettings,
    *,
    name: str = "learner",
    checkpoint: Path | None = None,
    log: RunLog | None = None,
) -> TrainResult:
    """Learn a learner's meta-parameters on episodes of the source languages.

    Args:
        sources: the fitted source languages.
        learner: what to train.
        settings: steps, episodes, shots, seed …
        name: the learner's name, for messages.
        activity: what the progress bar says; `meta-training` and the name by default.
        checkpoint: a file to save progress to, and to go on from; see `optimize`.
        log: where to tell every step.

    Raises:
        SettingsError: the learner cannot work on the model's kind, or no language is left to train on.
        LanguageError: a setting names a language that is no source.
        TrainingError: the loss is no longer a number; the message says since which step.
    """
    model, kind = sources.model.task_model, sources.model.kind_name
    check_pair(name, learner, kind, model.outputs)
    try:
        learner.init(model, torch.Generator())
    except SettingsError as error:
        raise SettingsError(f"{error.problem.rstrip('.')} (the kind {kind!r}).", hint=error.hint) from error
    settings = with_codes([table.task.language for table in sources.tables], settings)
    training, held_out = hold_apart(sources, settings)
    return optimize(
        model,
        learner,
        source_draw(training, settings),
        settings,
        name=name,
        tasks=len(training.tables),
        validate=held_out,
        checkpoint=checkpoint,
        key=fingerprint(sources) if checkpoint is not None else "",
        log=log,
    )
