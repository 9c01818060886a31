"""Where an encoder and a kind meet: texts of a language become the batches that learners see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from metaglot.encoders import Encoder
from metaglot.kinds import KINDS
from metaglot.prior import Prior, SourceLanguage, fit_prior, take_labels
from metaglot.space import Groups, Rows, Task, TaskSpace, generator
from metaglot.types import Batch, Example, FeatureModel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scaler:
    """Centres a dense block and gives its rows a norm of about one; a lexical block has one already.

    Cosines of sentence encoders are squeezed into a small range: without this a penalty that suits
    other features would starve them.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Scaler:
        """Measure features `[n, d]`."""
        spread = features.std(0).clamp(min=1e-6) if len(features) > 1 else torch.ones(features.shape[1])
        return cls(features.mean(0), 1.0 / (spread * features.shape[1] ** 0.5))

    def __call__(self, features: Tensor) -> Tensor:
        """Return scaled features `[n, d]`."""
        return (features - self.mean) * self.scale


@dataclass(frozen=True)
class Model:
    """An encoder, a kind, and what both learned from the sources: labels, scales, prior and groups."""

    encoder: Encoder
    kind_name: str
    labels: tuple[str, ...]
    scalers: Mapping[str, Scaler]
    prior: Prior
    groups: Groups = field(default_factory=Groups)

    @property
    def task_model(self) -> FeatureModel:
        """The pure functions of parameters that learners adapt."""
        kind: FeatureModel = KINDS[self.kind_name](
            self.encoder.blocks, len(self.labels), self.encoder.lexical, self.groups.names
        )
        return kind

    def features(self, texts: Sequence[str], description: str = "encoding") -> dict[str, Tensor]:
        """Return block name → scaled features `[n, d]`."""
        return _scale(self.encoder, self.scalers, texts, description)

    def classes(self, labels: Sequence[str]) -> Tensor:
        """Return the rows `[C]` of labels in the model's list, −1 for a new one."""
        place = {label: row for row, label in enumerate(self.labels)}
        return torch.tensor([place.get(label, -1) for label in labels], dtype=torch.int64)

    def batch(
        self,
        texts: Sequence[str],
        inventory: Sequence[str],
        labels: Sequence[str] | None = None,
        *,
        language: str | None = None,
        description: str = "encoding",
    ) -> Batch:
        """Return a batch of texts of one language.

        Args:
            texts: what to encode.
            inventory: the labels to choose from.
            labels: the texts' own; zero targets where None.
            language: the code, which tells the group; no group where None.
            description: what the progress bar says.
        """
        inputs, classes = self.features(texts, description), self.classes(inventory)
        place = {label: number for number, label in enumerate(inventory)}
        targets = [0] * len(texts) if labels is None else [place[label] for label in labels]
        return Batch(
            inputs=inputs,
            targets=torch.tensor(targets, dtype=torch.int64),
            classes=classes,
            prior=self.prior.scores(inputs, classes),
            group=-1 if language is None else self.groups.number(language),
        )


@dataclass(frozen=True)
class Table:
    """One task's examples as tensors, from which batches are cut.

    Attributes:
        task: the task.
        examples: its rows.
        inputs: block name → scaled features `[n, d]`.
        prior: scores `[n, labels]` over the model's label list, of a head that never saw this language.
    """

    task: Task
    examples: tuple[Example, ...]
    inputs: Mapping[str, Tensor]
    prior: Tensor

    def batch(self, model: Model, rows: Rows | Tensor, labels: Sequence[str]) -> Batch:
        """Return the examples at `rows`, with `labels` as the inventory."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        place = {label: number for number, label in enumerate(labels)}
        classes = model.classes(labels)
        return Batch(
            inputs={name: block[index] for name, block in self.inputs.items()},
            targets=torch.tensor([place[self.examples[i].label] for i in index.tolist()]),
            classes=classes,
            prior=take_labels(self.prior[index], classes),
            group=model.groups.number(self.task.language),
        )


@dataclass(frozen=True)
class Sources:
    """A model fitted to the source languages, and their tables to draw episodes from."""

    model: Model
    tables: tuple[Table, ...]


def fit_sources(space: TaskSpace, encoder: Encoder, groups: str | Mapping[str, str] = "branch") -> Sources:
    """Encode the sources and fit what every learner and baseline shares: scales, prior and groups.

    The prior is fitted on the blocks that mean something across languages (all, where none does).

    Args:
        space: the task space.
        encoder: texts → features.
        groups: what languages are grouped by, see `metaglot.space.Groups.of`.

    Raises:
        MetaglotError: `groups` makes no sense, or a text cannot be encoded.
    """
    grouped = Groups.of([task.language for task in space.sources], groups)
    texts = [e.text for task in space.sources for e in task.pool]
    raw = encoder.encode(texts, description="encoding the source languages")
    lexical = encoder.lexical
    scalers, blocks = {}, {}
    for name in encoder.blocks:
        block = torch.from_numpy(raw.pop(name))
        if name not in lexical:
            scalers[name] = Scaler.of(block)
            block = scalers[name](block)
        blocks[name] = block
    shared = {n: w for n, w in encoder.blocks.items() if n not in lexical} or dict(encoder.blocks)
    place = {label: row for row, label in enumerate(space.labels)}
    languages, start = [], 0
    for task in space.sources:
        end = start + len(task.pool)
        halves = [_half(e.id) if space.corpus.parallel else 0 for e in task.pool]
        languages.append(
            SourceLanguage(
                features=torch.cat([blocks[name][start:end] for name in shared], dim=1),
                targets=torch.tensor([place[e.label] for e in task.pool]),
                halves=torch.tensor(halves),
                labels=torch.tensor([place[label] for label in task.labels]),
            )
        )
        start = end
    prior, scores = fit_prior(languages, shared, len(space.labels), parallel=space.corpus.parallel)
    model = Model(encoder, space.corpus.kind, space.labels, scalers, prior, grouped)
    tables, start = [], 0
    for task, score in zip(space.sources, scores, strict=True):
        end = start + len(task.pool)
        inputs = {name: block[start:end] for name, block in blocks.items()}
        tables.append(Table(task, task.pool, inputs, score))
        start = end
    return Sources(model, tuple(tables))


def target_table(model: Model, task: Task, examples: Sequence[Example]) -> Table:
    """Encode examples of a language that is no source."""
    inputs = model.features([e.text for e in examples], f"encoding {task}")
    every = torch.arange(len(model.labels))
    return Table(task, tuple(examples), inputs, model.prior.scores(inputs, every))


def _scale(
    encoder: Encoder, scalers: Mapping[str, Scaler], texts: Sequence[str], description: str
) -> dict[str, Tensor]:
    raw = {
        name: torch.from_numpy(block)
        for name, block in encoder.encode(texts, description=description).items()
    }
    return {name: scalers[name](block) if name in scalers else block for name, block in raw.items()}


def _half(content: str) -> int:
    return int(generator("half", content).integers(2))
