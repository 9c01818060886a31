"""The loss of a meta-batch, its gradient and its parts by task, over all processes of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from metaglot.config import TrainSettings
from metaglot.distributed import Processes
from metaglot.drawing import Drawn
from metaglot.errors import SettingsError
from metaglot.learners.base import Learner
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.types import Params


class MetaLoss:
    """What a learner's meta-loss is at given meta-parameters.

    Args:
        model: the model.
        learner: whose loss it is.
        settings: how much is worked out at once, in what precision, and the seed.
        name: the learner's, for messages.
        together: the processes, each of which has a part of the meta-batch.
    """

    def __init__(
        self, model: Any, learner: Learner, settings: TrainSettings, name: str, together: Processes
    ) -> None:
        self._model = model
        self._learner = learner
        self._settings = settings
        self._name = name
        self._together = together

    def gradient(
        self, meta: Params, learned: Iterable[str], mine: Sequence[Drawn], step: int
    ) -> tuple[float, Params]:
        """Return a meta-batch's weighted mean loss and its gradient by the meta-parameters `learned`.

        `mine` are this process's episodes; the result is that of all processes' together.
        """
        weight = sum(drawn.weight for drawn in mine)
        loss, gradients = torch.zeros(()), {name: torch.zeros_like(meta[name]) for name in learned}
        if mine:
            prepared = [drawn.prepared for drawn in mine]
            with self.seeded(meta, step), self._precision(meta):
                if gradients:
                    loss, gradients = meta_gradient(
                        self._learner,
                        self._model,
                        meta,
                        prepared,
                        chunk=self._settings.accumulate or None,
                        memory=self._settings.memory * 2**20 or None,
                    )
                else:
                    with torch.no_grad():
                        loss = self._learner.meta_loss(self._model, meta, prepared)
        if self._together.size == 1:
            return float(loss), gradients
        wide = any(gradient.dtype == torch.float64 for gradient in gradients.values())
        head = torch.stack([loss, torch.ones_like(loss)]).to(torch.float64 if wide else torch.float32)
        # One reduction for everything: the loss, the weight that all is a share of, the gradients.
        flat = torch.cat([head, *(gradient.reshape(-1).to(head) for gradient in gradients.values())])
        flat = self._together.total(flat * weight)
        flat = flat / flat[1]
        parts = torch.split(flat[2:], [gradient.numel() for gradient in gradients.values()])
        for (name, gradient), part in zip(list(gradients.items()), parts, strict=True):
            gradients[name] = part.view_as(gradient).to(gradient)
        return float(flat[0]), gradients

    def by_task(self, meta: Params, mine: Iterable[Drawn], step: int) -> dict[str, float]:
        """Return task → mean loss over its episodes, of all processes' episodes together."""
        tasks: dict[str, list[Any]] = {}
        for drawn in mine:
            tasks.setdefault(drawn.task, []).append(drawn.prepared)
        found = {}
        with torch.no_grad(), self.seeded(meta, step), self._precision(meta):
            for task, prepared in tasks.items():
                loss = float(self._learner.meta_loss(self._model, meta, prepared))
                found[task] = (loss, len(prepared))
        sums: dict[str, list[float]] = {}
        for said in self._together.everyone(json.dumps(found)):
            for task, (loss, count) in json.loads(said).items():
                total = sums.setdefault(task, [0.0, 0.0])
                total[0] += loss * count
                total[1] += count
        return {task: sums[task][0] / sums[task][1] for task in sorted(sums)}

    @contextmanager
    def seeded(self, meta: Params, step: int, *, alike: bool = False) -> Iterator[None]:
        """Make what is random in a model (dropout) a function of the seed and the step, in the block alone.

        It differs from process to process, unless all are to be `alike`.
        """
        device = next((value.device for value in meta.values() if value.is_cuda), None)
        rank = 0 if alike else self._together.rank
        seed = ((self._settings.seed * 1_000_003 + step) * 1_009 + rank) % 2**63
        with torch.random.fork_rng([] if device is None else [device]):
            torch.default_generator.manual_seed(seed)
            if device is not None:
                torch.cuda.manual_seed(seed)
            yield

    @contextmanager
    def _precision(self, meta: Params) -> Iterator[None]:
        if self._settings.precision == "float32":
            yield
            return
        device = next((value.device.type for value in meta.values()), "cpu")
        try:
            # Casts are not kept: their graph would be gone after the first of several gradients.
            with torch.autocast(device, torch.bfloat16, cache_enabled=False):
                yield
        except RuntimeError as error:
            if "BFloat16" not in str(error):
                raise
            raise SettingsError(
                f"the learner {self._name!r} cannot work in bfloat16: {str(error).partition(chr(10))[0]}",
                hint="Train it in float32 (--set precision=float32).",
            ) from error
