"""SetFit (Tunstall et al. 2022, arXiv 2209.11055) from the weights of one of metaglot's encoders.

    pip install 'metaglot[setfit]'

SetFit tunes a sentence encoder on pairs of the examples (cosine near 1 for one label, near 0 for two),
then fits scikit-learn's logistic regression on its vectors. Here it starts from metaglot's own encoder
folder, with that encoder's pooling and prefix, in float32, and does the rest by its own defaults: AdamW,
rate 2e-5, one epoch over batches of 16 pairs.

SetFit 1.2.0 runs with torch 2.13, transformers 5.23 and sentence-transformers 6.2, in metaglot's own
environment; the one package that it adds to them, but for itself, is `evaluate`.
"""

from __future__ import annotations

import copy
import logging
import math
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metaglot.encoders import Encoder, JoinedEncoder
from metaglot.encoders.base import clean
from metaglot.encoders.transformer import TransformerEncoder, default_dtype
from metaglot.errors import DataError, MissingExtraError, SettingsError
from metaglot.space import Task, draw_support, generator
from metaglot.types import Example

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 16  # pairs a step, SetFit's default
_WARM_UP, _MEASURED = 1, 3  # steps by which the pace is measured
_POOLING = {"mean": "mean", "cls": "cls", "last": "lasttoken"}  # what sentence-transformers calls them
_LEAST = 1e-12  # probability of a label that SetFit was never shown


@dataclass(frozen=True)
class Setting:
    """What SetFit is told; None leaves SetFit's own default.

    Attributes:
        num_iterations: R; SetFit then makes 2 R n pairs of n examples instead of all there are.
        body_learning_rate: of the encoder.
    """

    num_iterations: int | None = None
    body_learning_rate: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what differs from SetFit's defaults."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def steps(self, targets: Sequence[int]) -> int:
        """Return the steps of SetFit's one epoch over the pairs of examples with these labels.

        By default ("oversampling") that is every pair, an example with itself among them, and the
        rarer of same-label and other-label pairs repeated until they are as many as the other.
        """
        n = len(targets)
        if self.num_iterations is not None:
            return math.ceil(2 * self.num_iterations * n / BATCH)
        same = sum(count * (count + 1) // 2 for count in Counter(targets).values())
        return math.ceil(2 * max(same, n * (n + 1) // 2 - same) / BATCH)


DEFAULTS = Setting()
GRID = tuple(Setting(*choice) for choice in product((1, 4), (5e-5, 2e-4)))


@dataclass(frozen=True)
class Fit:
    """SetFit trained on one set of examples.

    Attributes:
        model: a `setfit.SetFitModel`.
        labels: what its head tells apart, in the order of its columns.
        steps: steps made.
        planned: steps that the setting asked for.
        seconds: from the examples' texts to the trained model; loading the encoder is not in it.
        pace: seconds a step.
        cpu_seconds: of the processor, over all threads: what other work on the machine leaves alone.
    """

    model: Any
    labels: tuple[str, ...]
    steps: int
    planned: int
    seconds: float
    pace: float
    cpu_seconds: float


class SetFitBaseline:
    """Fits SetFit models that start from one encoder's weights.

    Args:
        encoder: a transformer of metaglot's. What is joined to it (n-grams) has no place in SetFit.

    Raises:
        MissingExtraError: SetFit is not installed.
        SettingsError: the encoder has no transformer, or several.
    """

    def __init__(self, encoder: Encoder) -> None:
        if find_spec("setfit") is None:
            raise MissingExtraError("setfit", "setfit", "The SetFit baseline")
        parts = encoder.parts if isinstance(encoder, JoinedEncoder) else (encoder,)
        bodies = [part for part in parts if isinstance(part, TransformerEncoder)]
        if len(bodies) != 1:
            raise SettingsError(
                f"expected one transformer for SetFit to tune, found {len(bodies)} in {encoder.name!r}.",
                hint="Name one, such as e5-small.",
            )
        self.encoder = bodies[0]

    @cached_property
    def body(self) -> Any:
        """The encoder as a sentence-transformers model; fits copy it and leave it as it is."""
        settings = self.encoder.settings
        with _quiet():
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

            modules = [
                Transformer(str(self.encoder.folder), max_seq_length=settings.max_length),
                Pooling(settings.width, _POOLING[settings.pooling]),
                Normalize(),
            ]
            # Without prompts, which SetFit leaves out when it trains: the prefix is put before the texts.
            return SentenceTransformer(modules=modules, device=self.encoder.options.device).float()

    def texts(self, texts: Sequence[str]) -> list[str]:
        """Return texts as the encoder sees them, with the prefix."""
        return [self.encoder.settings.prefix + clean(text) for text in texts]

    def fit(
        self,
        examples: Sequence[Example],
        setting: Setting = DEFAULTS,
        *,
        max_steps: int | None = None,
        seed: int = 0,
    ) -> Fit:
        """Train SetFit on examples, for the setting's steps or `max_steps`, whichever is less.

        Raises:
            DataError: there are fewer than two labels.
        """
        labels = tuple(sorted({e.label for e in examples}))
        if len(labels) < 2:
            raise DataError(f"expected examples of two labels or more for SetFit, found {len(labels)}.")
        targets = [labels.index(e.label) for e in examples]
        planned = setting.steps(targets)
        capped = max_steps is not None and max_steps < planned
        with _quiet(), tempfile.TemporaryDirectory() as folder:
            from datasets import Dataset
            from setfit import SetFitModel, Trainer, TrainingArguments
            from sklearn.linear_model import LogisticRegression
            from transformers.trainer_callback import ProgressCallback

            model = SetFitModel(
                model_body=copy.deepcopy(self.body), model_head=LogisticRegression(), labels=list(labels)
            )
            start, cpu_start = time.perf_counter(), time.process_time()
            data = Dataset.from_dict({"text": self.texts([e.text for e in examples]), "label": targets})
            arguments = TrainingArguments(  # but for its steps, only what it says and writes on the way
                output_dir=folder,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                show_progress_bar=False,
                seed=seed,
                **setting.as_dict(),
                **({"max_steps": max_steps} if capped else {}),
            )
            clock = _clock()
            trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=[clock])
            trainer.remove_callback(ProgressCallback)
            trainer.train()
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        steps = trainer.st_trainer.state.global_step
        return Fit(model, labels, steps, planned, seconds, clock.pace() or seconds / steps, cpu_seconds)

    def steps_within(self, minutes: float, examples: Sequence[Example]) -> int:
        """Return how many steps on such examples fit into some minutes, by the pace of a few."""
        pace = self.fit(examples, max_steps=_WARM_UP + _MEASURED).pace
        return max(1, int(60 * minutes / pace))

    def logits(self, fit: Fit, texts: Sequence[str], labels: Sequence[str]) -> Tensor:
        """Return log-probabilities `[n, C]` of `labels`, next to nothing for one not shown."""
        low = default_dtype() == "bfloat16"  # as metaglot encodes
        with _quiet(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            found = fit.model.predict_proba(self.texts(texts), as_numpy=True)
        chances = np.full((len(texts), len(labels)), _LEAST)
        for column, label in enumerate(labels):
            if label in fit.labels:
                chances[:, column] = found[:, fit.labels.index(label)]
        return torch.from_numpy(np.log(chances.clip(_LEAST))).float()


def sample_sources(sources: Sequence[Task], most: int, *key: int | str) -> list[Example]:
    """Return up to `most` examples: as many of every language, and of every label as nearly as can be.

    Raises:
        SettingsError: that is less than one example a language.
    """
    each = most // len(sources)
    if each < 1:
        raise SettingsError(
            f"expected room for an example of each of {len(sources)} source languages, found {most}."
        )
    found: list[Example] = []
    count: Counter[str] = Counter()
    for task in sources:
        shots = math.ceil(each / len(task.labels))
        rows = draw_support(task.pool, task.labels, shots, *key, task.language)
        left = [task.pool[row] for row in generator(*key, task.language, "order").permutation(rows).tolist()]
        for _ in range(min(each, len(left))):
            # An unbalanced sample would do harm: SetFit's head follows how often labels occur.
            rarest = min(range(len(left)), key=lambda place: count[left[place].label])
            found.append(left.pop(rarest))
            count[found[-1].label] += 1
    return found


def up_weighted(support: Sequence[Example], sources: Sequence[Example]) -> list[Example]:
    """Return the sources' examples and the support set, repeated so that it counts about as much."""
    times = max(1, round(len(sources) / len(support))) if support else 0
    return [*sources, *list(support) * times]


def _clock() -> Any:
    """A callback that measures the pace of steps after the first ones, which are slow."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.ends.append(time.perf_counter())

        def pace(self) -> float:
            """Seconds a step; 0 where there were too few to tell."""
            ends = self.ends[_WARM_UP - 1 :]
            return (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else 0.0

    return Clock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep SetFit and what it stands on from printing to the terminal, and put all back after."""
    import datasets
    from transformers.utils import logging as transformers_logging

    bars = datasets.are_progress_bars_disabled()
    loading = transformers_logging.is_progress_bar_enabled()
    before = logging.root.manager.disable
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if loading:
            transformers_logging.enable_progress_bar()
        if not bars:
            datasets.enable_progress_bars()
