"""Where an encoder and a kind meet: examples of a language become the batches that learners see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from metaglot.encoders import Encoder
from metaglot.kinds import KINDS, Kind
from metaglot.kinds.base import NOTHING, Stretch
from metaglot.label_scores import LabelScores
from metaglot.learners.base import IGNORED
from metaglot.linear_head import BIAS, PRIOR_SCALE
from metaglot.prior import Prior, SourceLanguage, take_labels
from metaglot.prior.linear import fit_linear
from metaglot.prior.network import fit_network
from metaglot.space import Groups, Rows, Task, TaskSpace, generator
from metaglot.types import Answer, Batch, Example, Params

if TYPE_CHECKING:
    from torch import Tensor


# Of so many units the prior is learned; more make it slower, and hardly better.
_PRIOR_UNITS = 30_000
# Of the units of a support set that are nothing so many are learned from, for each of its examples. Fifty
# sentences have 2,500, and with all of them trees are no better.
_NOTHINGS = 8
# What may be added to the logit of nothing, the first where others are no better; and on how many examples
# of a language each is judged.
_OFFSETS = (0.0, -0.5, -1.0, -1.5, -2.0, -2.5, -3.0)
_JUDGED = 150
# A column of a smaller deviation says nothing; blown up it would say too much of the first that differs.
_CONSTANT = 1e-4


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
        """Measure features `[n, d]`; a column that is the same in all of them is not scaled."""
        spread = features.std(0) if len(features) > 1 else torch.ones(features.shape[1])
        spread = torch.where(spread < _CONSTANT, torch.ones_like(spread), spread)
        return cls(features.mean(0), 1.0 / (spread * features.shape[1] ** 0.5))

    def __call__(self, features: Tensor) -> Tensor:
        """Return scaled features `[n, d]`."""
        return ((features - self.mean) * self.scale).to(features.dtype)


@dataclass(frozen=True)
class Model:
    """An encoder, a kind, and what both learned from the sources: labels, scales, prior and groups."""

    encoder: Encoder
    kind_name: str
    labels: tuple[str, ...]
    scalers: Mapping[str, Scaler]
    prior: Prior
    groups: Groups = field(default_factory=Groups)

    @cached_property
    def kind(self) -> Kind:
        """How examples become units, and scores answers."""
        found: Kind = KINDS[self.kind_name]()
        return found

    @cached_property
    def blocks(self) -> Mapping[str, int]:
        """The units' blocks of features: name → width d."""
        return dict(self.kind.blocks(self.encoder))

    @cached_property
    def lexical(self) -> frozenset[str]:
        """The blocks that mean nothing across languages."""
        return self.kind.lexical(self.encoder)

    @property
    def task_model(self) -> LabelScores:
        """The pure functions of parameters that learners adapt."""
        return LabelScores(
            self.blocks,
            len(self.labels),
            self.lexical,
            self.groups.names,
            prior_has_bias=self.prior.bias is not None,
        )

    def classes(self, labels: Sequence[str]) -> Tensor:
        """Return the rows `[C]` of labels in the model's list, −1 for a new one."""
        place = {label: row for row, label in enumerate(self.labels)}
        return torch.tensor([place.get(label, -1) for label in labels], dtype=torch.int64)

    def zero_shot_head(self, classes: Tensor) -> Params:
        """Return a head for the labels `classes` `[C]` that predicts what the prior does, calibrated."""
        head = self.task_model.init(len(classes)) | {PRIOR_SCALE: torch.tensor(self.prior.sharpness)}
        if NOTHING in self.labels and self.prior.nothing:
            head[BIAS] = self.prior.nothing * (classes == self.labels.index(NOTHING))
        return head

    def answers(
        self, table: Table, rows: Sequence[int] | Tensor, logits: Tensor, labels: Sequence[str]
    ) -> list[Answer]:
        """Return what is predicted for the examples at `rows` of a table.

        Args:
            table: the examples.
            rows: which of them.
            logits: `[U, C]` of all their units.
            labels: the inventory.
        """
        index = torch.as_tensor(rows, dtype=torch.int64).tolist()
        parts = torch.split(logits, [len(table.places[row]) for row in index])
        return [
            self.kind.decode(part, table.examples[row], table.places[row], labels)
            for row, part in zip(index, parts, strict=True)
        ]


@dataclass(frozen=True)
class Table:
    """One task's examples as tensors, from which batches are cut.

    Attributes:
        task: the task.
        examples: its rows.
        places: for each example the stretches of its units.
        inputs: block name → scaled features `[U, d]` of all units, float32 or float16.
        prior: scores `[U, labels]` over the model's label list, of a head that never saw this language.
        names: the labels that its units have.
        targets: `[U]`, the place of each unit's label in `names`.
    """

    task: Task
    examples: tuple[Example, ...]
    places: tuple[tuple[Stretch, ...], ...]
    inputs: Mapping[str, Tensor]
    prior: Tensor
    names: tuple[str, ...]
    targets: Tensor

    @cached_property
    def ends(self) -> Tensor:
        """Where each example's units end `[n]`."""
        return torch.tensor([len(stretches) for stretches in self.places]).cumsum(0)

    def units_in(self, rows: Rows | Tensor | Sequence[int]) -> Tensor:
        """Return how many units each of the examples at `rows` has `[n]`."""
        starts = torch.cat([self.ends.new_zeros(1), self.ends])
        return starts.diff()[torch.as_tensor(rows, dtype=torch.int64)]

    def units(self, rows: Rows | Tensor | Sequence[int]) -> Tensor:
        """Return the places `[u]` of the units of the examples at `rows`."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        if len(self.ends) == len(self.targets):  # each example is one unit
            return index
        counts = self.units_in(index)
        shift = self.ends[index] - counts.cumsum(0)
        return torch.arange(int(counts.sum())) + shift.repeat_interleave(counts)

    def batch(self, model: Model, rows: Rows | Tensor | Sequence[int], labels: Sequence[str]) -> Batch:
        """Return the units of the examples at `rows`, with `labels` as the inventory.

        The target of a unit whose label is not in the inventory is `IGNORED`.
        """
        index = self.units(rows)
        place = {label: number for number, label in enumerate(labels)}
        numbers = torch.tensor([place.get(name, IGNORED) for name in self.names], dtype=torch.int64)
        classes = model.classes(labels)
        return Batch(
            inputs={name: block[index].float() for name, block in self.inputs.items()},
            targets=numbers[self.targets[index]],
            classes=classes,
            prior=take_labels(self.prior[index], classes),
            group=model.groups.number(self.task.language),
        )

    def support(self, model: Model, rows: Rows | Tensor | Sequence[int], labels: Sequence[str]) -> Batch:
        """Return the units of the examples at `rows` that are learned from.

        They have a label of the inventory; and of those that are `NOTHING`, where that is a label, some are
        taken, the same ones in every draw: nearly all stretches of a text are no node of its tree.
        """
        batch = self.batch(model, rows, labels)
        learned = batch.targets != IGNORED
        if NOTHING in labels:
            nothing = torch.nonzero(batch.targets == list(labels).index(NOTHING)).flatten()
            order = self._chances[self.units(rows)][nothing].argsort()
            learned[nothing[order[_NOTHINGS * len(rows) :]]] = False
        return batch if bool(learned.all()) else batch[learned]

    @cached_property
    def _chances(self) -> Tensor:
        """A number from 0 to 1 for each unit `[U]`."""
        found = generator("units", self.task.language).random(len(self.targets), dtype=np.float32)
        return torch.from_numpy(found)


@dataclass(frozen=True)
class Sources:
    """A model fitted to the source languages, and their tables to draw episodes from."""

    model: Model
    tables: tuple[Table, ...]

    def zero_shot_metric(self, most: int | None = None) -> float:
        """Return the kind's first metric without examples, by heads that have not seen the language.

        It is the mean over the sources.

        Args:
            most: so many examples of each language are judged; all where None.
        """
        model, found = self.model, []
        for table in self.tables:
            examples = table.examples[:most]
            rows = range(len(examples))
            batch = table.batch(model, rows, table.task.labels)
            logits = model.task_model.forward(model.zero_shot_head(batch.classes), batch)
            answers = model.answers(table, rows, logits, table.task.labels)
            found.append(model.kind.judge(examples, answers)[model.kind.metrics[0]])
        return sum(found) / len(found)


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
    kind: Kind = KINDS[space.corpus.kind]()
    examples = [e for task in space.sources for e in task.pool]
    found = kind.encode(encoder, examples, description="encoding the source languages")
    lexical, widths = kind.lexical(encoder), dict(kind.blocks(encoder))
    scalers, blocks = {}, {}
    for name in widths:
        block = torch.from_numpy(found.inputs.pop(name))
        if name not in lexical:
            scalers[name] = Scaler.of(block.float())
            block = scalers[name](block)
        blocks[name] = block
    shared = {n: w for n, w in widths.items() if n not in lexical} or widths
    parts, start, first = [], 0, 0
    for task in space.sources:
        places = found.places[start : start + len(task.pool)]
        units = sum(map(len, places))
        inputs = {name: block[first : first + units] for name, block in blocks.items()}
        parts.append(_table(kind, task, task.pool, places, inputs, space.labels))
        start, first = start + len(task.pool), first + units
    place = {label: row for row, label in enumerate(space.labels)}
    languages = []
    for table in parts:
        halves = [_half(e.id) if space.corpus.parallel else 0 for e in table.examples]
        rows = torch.tensor([place[name] for name in table.names])
        languages.append(
            SourceLanguage(
                features=torch.cat([table.inputs[name].float() for name in shared], dim=1),
                targets=rows[table.targets],
                halves=torch.tensor(halves).repeat_interleave(table.units_in(range(len(halves)))),
                labels=torch.tensor([place[label] for label in table.task.labels]),
            )
        )
    n_labels, parallel = len(space.labels), space.corpus.parallel
    if kind.shots == "example":  # many units each, of which most have the same label
        languages, log_shares = _thinned(languages, n_labels)
        prior, scores = fit_network(languages, shared, n_labels, parallel=parallel, log_shares=log_shares)
    else:
        prior, scores = fit_linear(languages, shared, n_labels, parallel=parallel)
    model = Model(encoder, space.corpus.kind, space.labels, scalers, prior, grouped)
    tables = tuple(replace(table, prior=score) for table, score in zip(parts, scores, strict=True))
    if NOTHING in space.labels:
        model = replace(model, prior=replace(prior, nothing=_best_nothing(model, tables)))
    return Sources(model, tables)


def target_table(
    model: Model, task: Task, examples: Sequence[Example], description: str | None = None
) -> Table:
    """Encode examples of a language that is no source."""
    found = model.kind.encode(model.encoder, examples, description=description or f"encoding {task}")
    inputs = {name: torch.from_numpy(block) for name, block in found.inputs.items()}
    inputs = {n: model.scalers[n](block) if n in model.scalers else block for n, block in inputs.items()}
    table = _table(model.kind, task, tuple(examples), found.places, inputs, (*model.labels, *task.labels))
    every = torch.arange(len(model.labels))
    shared = {name: inputs[name].float() for name in model.prior.blocks}
    return replace(table, prior=model.prior.scores(shared, every))


def batch_of(model: Model, language: str, examples: Sequence[Example], labels: Sequence[str]) -> Batch:
    """Return one batch of examples of a language, with `labels` as the inventory."""
    task = Task(language, tuple(labels), tuple(examples), shots=model.kind.shots)
    return target_table(model, task, examples).batch(model, range(len(examples)), labels)


def _table(
    kind: Kind,
    task: Task,
    examples: tuple[Example, ...],
    places: tuple[tuple[Stretch, ...], ...],
    inputs: Mapping[str, Tensor],
    labels: Sequence[str],
) -> Table:
    """Return a table that has no prior yet."""
    inventory = frozenset(labels)
    targets = [
        name
        for example, stretches in zip(examples, places, strict=True)
        for name in kind.targets(example, stretches, inventory)
    ]
    names = {name: number for number, name in enumerate(dict.fromkeys(targets))}
    numbers = torch.tensor([names[name] for name in targets], dtype=torch.int64)
    return Table(task, examples, places, inputs, torch.empty(0), tuple(names), numbers)


def _best_nothing(model: Model, tables: Sequence[Table]) -> float:
    """Return what to add to the logit of `NOTHING` for the best answers without an example.

    An answer is put together of many units. The likeliest label of each is not the best answer where
    leaving out costs as much as putting in: at a chance of a third a node is better in the tree. It is
    chosen by the kind's first metric, on source languages by heads that have not seen them.
    """

    def worth(offset: float) -> float:
        tried = replace(model, prior=replace(model.prior, nothing=offset))
        return Sources(tried, tuple(tables)).zero_shot_metric(_JUDGED)

    return max(_OFFSETS, key=worth)


def _thinned(languages: Sequence[SourceLanguage], n_labels: int) -> tuple[list[SourceLanguage], Tensor]:
    """Return languages with at most so many units to learn the prior from, and what that makes of labels.

    Of each label at most as many units count as make the total right, so that rare ones are all kept.

    Returns:
        The languages, and the logarithm of the share of each label's units that is kept `[labels]`.
    """
    targets = torch.cat([source.targets for source in languages])
    counts = targets.bincount(minlength=n_labels)
    most = int(counts.max())
    while int(counts.clamp(max=most).sum()) > _PRIOR_UNITS:
        most = most * 9 // 10
    shares = (most / counts.clamp(min=1)).clamp(max=1.0)
    chance = torch.from_numpy(generator("thin", len(targets)).random(len(targets), dtype=np.float32))
    learned = torch.split(chance < shares[targets], [len(source.targets) for source in languages])
    return [replace(s, learned=mask) for s, mask in zip(languages, learned, strict=True)], shares.log()


def _half(content: str) -> int:
    return int(generator("half", content).integers(2))
