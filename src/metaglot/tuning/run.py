"""The loop of a tuning run: planned to the time there is, judged on the way, resumed where it was."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from metaglot.checkpoint import State
from metaglot.descent import Descent, global_norm
from metaglot.errors import SettingsError, TrainingError
from metaglot.progress import progress
from metaglot.tuning.batches import Batches
from metaglot.tuning.body import Body
from metaglot.tuning.losses import Head, Objective
from metaglot.tuning.parts import Way, adapting, merged
from metaglot.tuning.probe import Judgement, Probe
from metaglot.tuning.rates import descent_of
from metaglot.tuning.reading import Reading
from metaglot.tuning.resuming import load_run, remove_run, save_run
from metaglot.tuning.settings import TuneSettings
from metaglot.types import Example, Params

if TYPE_CHECKING:
    from torch import Tensor

# Shares of the way from the pretrained weights to the tuned ones that are tried.
WAYS = (0.0, 0.3, 0.5, 0.7, 1.0)
# Where nothing can be judged.
UNJUDGED = 0.5
# Steps after which the speed is known, and what is kept of the time for writing.
MEASURED, WRITING = 6, 20.0


class Run:
    """A run of tuning.

    Args:
        body: the encoder, of which a part adapts.
        batches: what is drawn.
        reading: what of an example is encoded, and the features that come of it.
        probe: what judges; None where no language was kept apart.
        settings: the loop's; with a loss.
        key: all that the run depends on, which a checkpoint has to agree with.
        checkpoint: the file to save progress to and to go on from.
    """

    def __init__(
        self,
        body: Body,
        batches: Batches,
        reading: Reading,
        probe: Probe | None,
        settings: TuneSettings,
        key: Mapping[str, Any],
        checkpoint: Path,
    ) -> None:
        self.body, self.batches, self.probe, self.settings = body, batches, probe, settings
        self.reading, self.key, self.checkpoint = reading, dict(key), checkpoint
        names = sorted({e.label for e in batches.pool})
        self._labels = torch.tensor([names.index(e.label) for e in batches.pool], device=body.device)
        self._tokens = body.tokens(reading.texts(batches.pool))
        assert settings.loss is not None, "a loss is chosen by kind: TuneSettings.for_kind"
        head = self._head(len(names)) if settings.loss != "contrastive" else None
        self.objective = Objective(settings.loss, settings.temperature, head)
        self.meta: Params = adapting(body.model) | dict(self.objective.named_parameters())
        self.full = settings.steps or max(1, round(settings.epochs * len(batches.pool) / batches.size))
        self.steps = self.full
        self.planned = settings.minutes is None
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.judged: list[tuple[int, Judgement]] = []
        self.best: Params = {}
        self.drawn = 0
        self.done = False
        self.judging_seconds = 0.0
        self.training_seconds = 0.0
        self._before, self._began = 0.0, time.perf_counter()
        self._saved_at = self._began
        self.descent = self._descent()
        self._restore()

    @property
    def seconds(self) -> float:
        """How long the run has taken, stopped parts apart."""
        return self._before + time.perf_counter() - self._began

    @property
    def best_judged(self) -> tuple[int, Judgement] | None:
        """The best judgement, the earliest of several, and after how many steps it was made."""
        return max(self.judged, key=lambda j: j[1].score, default=None)

    def train(self) -> None:
        """Make all steps, or as many as time and patience allow.

        Raises:
            TrainingError: the loss or the gradient is no longer a number.
            StorageError: a checkpoint could not be written.
        """
        if self.done:
            return
        if not self.losses:
            self._judge()
        if not self.planned:
            with progress("measuring the speed", MEASURED) as advance:
                self._plan(advance)
        with progress("tuning", self.steps) as advance:
            advance(len(self.losses))
            every = math.ceil(self.steps / self.settings.judgements)
            while len(self.losses) < self.steps and not self.done:
                self.step()
                made = len(self.losses)
                if made % every == 0 or made == self.steps:
                    self._judge()
                self.done = made == self.steps or self._waited()
                if not self.done and self._late():  # between two judgements
                    self._judge()
                    self.done = True
                advance(1, note=self._note())
                if time.perf_counter() - self._saved_at >= 60 * self.settings.checkpoint_minutes or self.done:
                    self.save()

    def step(self) -> None:
        """Make one step.

        Raises:
            TrainingError: the loss or the gradient is no longer a number.
        """
        number, began, reading = len(self.losses), time.perf_counter(), self.reading
        rows = self.batches(number)
        targets = self._labels[rows]
        loss = self.body.backward(
            self._tokens_of(rows), lambda v: self.objective(reading.features(v), targets), "step", number
        )
        gradients = {
            name: torch.zeros_like(value) if value.grad is None else value.grad
            for name, value in self.meta.items()
        }
        norm = global_norm(gradients.values())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"expected finite numbers, found a loss of {loss:g} and a gradient of norm {norm:g} at step "
                f"{number}. Nothing of it was saved.",
                hint=f"Lower the rate, which is {self.settings.top_rate:g}, or compute in float32.",
            )
        self.descent.step(number, gradients, norm)
        self.losses.append(loss)
        self.norms.append(norm)
        self.drawn += len(rows)
        self.training_seconds += time.perf_counter() - began

    def finish(self) -> tuple[float, list[tuple[float, Judgement]]]:
        """Set the model to the best weights, merged and averaged with the pretrained ones.

        Returns:
            The share of the way from the pretrained weights that was taken, and the judgements of
            those that were tried.
        """
        found = self.best_judged
        if found is not None and found[0] != len(self.losses):
            chosen = self.best if found[0] else self._start
            with torch.no_grad():
                for name, value in chosen.items():
                    self.meta[name].copy_(value)
        way = Way(self.body.start, merged(self.body.model))
        self.body.model.eval()
        tried: list[tuple[float, Judgement]] = []
        share = UNJUDGED if self.settings.keep is None else 1 - self.settings.keep
        if self.probe is not None:
            shares = WAYS if self.settings.keep is None else (share,)
            with progress("weighing against the pretrained weights", len(shares)) as advance:
                for point in shares:
                    way.go(point)
                    tried.append((point, self.probe(self._encode)))
                    advance()
            share = max(tried, key=lambda pair: pair[1].score)[0]
        way.go(share)
        return share, tried

    def save(self) -> None:
        """Write a checkpoint."""
        parts = {"meta": self.meta, "optimizer": self.descent.state(), "best": self.best}
        about = {
            "key": self.key,
            "losses": self.losses,
            "norms": self.norms,
            "judged": [[step, j.zero_shot, j.few_shot] for step, j in self.judged],
            "steps": self.steps,
            "planned": self.planned,
            "drawn": self.drawn,
            "done": self.done,
            "judging_seconds": self.judging_seconds,
            "training_seconds": self.training_seconds,
            "seconds": self.seconds,
        }
        save_run(self.checkpoint, parts, about)
        self._saved_at = time.perf_counter()

    def remove(self) -> None:
        """Remove the checkpoint: what was learned is safe elsewhere."""
        remove_run(self.checkpoint)

    def _restore(self) -> None:
        self._start = {name: value.detach().clone() for name, value in self.meta.items()}
        found = load_run(self.checkpoint, self.key)
        if found is None:
            return
        parts, about = found
        self.losses, self.norms = about["losses"], about["norms"]
        self.judged = [(step, Judgement(zero, few)) for step, zero, few in about["judged"]]
        self.steps, self.planned, self.done = about["steps"], about["planned"], about["done"]
        self.drawn, self.judging_seconds = about["drawn"], about["judging_seconds"]
        self.training_seconds, self._before = about["training_seconds"], about["seconds"]
        self.best = parts["best"]
        self.descent = self._descent()
        self.descent.restore(State(parts["meta"], parts["optimizer"]), self.meta)

    def _plan(self, advance: Any) -> None:
        """Make the first steps, and plan as many as the time allows.

        Raises:
            SettingsError: it allows none.
        """
        taken = []
        while len(self.losses) < min(MEASURED, self.full):
            start = time.perf_counter()
            self.step()
            taken.append(time.perf_counter() - start)
            advance()
        assert self.settings.minutes is not None
        left = 60 * self.settings.minutes - self.seconds - self._reserved(self.settings.judgements)
        more = int(left / max(median(taken), 1e-9))
        if more < 1 and len(self.losses) < self.full:
            least = 60 * self.settings.minutes - left + 20 * median(taken)
            raise SettingsError(
                f"expected time to tune in, found {self.settings.minutes:g} minutes: a step takes "
                f"{median(taken):.1f} s, a judgement {self.judging_seconds:.1f} s, and there are "
                f"{self.settings.judgements}.",
                hint=f"Give it {math.ceil(least / 6) / 10:g} minutes or more, or fewer judgements.",
            )
        self.steps = min(self.full, len(self.losses) + more)
        self.planned = True
        before = self.descent.state()
        self.descent = self._descent()
        self.descent.restore(State(self.meta, before), self.meta)

    def _reserved(self, judgements: int) -> float:
        """Seconds for so many judgements and for the end."""
        ways = 0 if self.probe is None else len(WAYS) if self.settings.keep is None else 1
        return self.judging_seconds * (judgements + ways) + WRITING

    def _late(self) -> bool:
        minutes = self.settings.minutes
        return minutes is not None and self.seconds + self._reserved(1) > 60 * minutes

    def _waited(self) -> bool:
        found = self.best_judged
        return found is not None and sum(s > found[0] for s, _ in self.judged) >= self.settings.patience

    def _judge(self) -> None:
        if self.probe is None:
            return
        start = time.perf_counter()
        before, found = self.best_judged, self.probe(self._encode)
        self.judging_seconds = time.perf_counter() - start
        if before is not None and found.score > before[1].score:
            self.best = {name: value.detach().clone() for name, value in self.meta.items()}
        self.judged.append((len(self.losses), found))

    def _note(self) -> str:
        recent = self.losses[-20:]
        said = f"loss {sum(recent) / len(recent):.3f}"
        if self.judged:
            now = self.judged[-1][1]
            said += f", zero-shot {now.zero_shot:.1%}, few-shot {now.few_shot:.1%}"
        return said

    def _head(self, n_labels: int) -> Head:
        """A head of what the pretrained features of the first batches say."""
        rows = sorted({row for step in range(16) for row in self.batches(step)})
        features = self.reading.features(self.body.vectors(self._tokens_of(rows)))
        return Head(features, self._labels[rows].cpu(), n_labels).to(self.body.device)

    def _tokens_of(self, rows: Sequence[int]) -> list[list[int]]:
        return [self._tokens[place] for place in self.reading.places(rows)]

    def _encode(self, examples: Sequence[Example]) -> Tensor:
        tokens = self.body.tokens(self.reading.texts(examples))
        return self.reading.features(self.body.vectors(tokens))

    def _descent(self) -> Descent:
        return descent_of(self.meta, self.settings, self.steps)
