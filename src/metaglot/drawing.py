"""Which episodes stand in a meta-batch: every one is a function of the seed, the step and its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from metaglot.augmentation.features import drop_columns, mix_labels, spoil_prior
from metaglot.config import TrainSettings
from metaglot.errors import LanguageError, MetaglotError, SettingsError, suggestion
from metaglot.languages import parse_language
from metaglot.learners.base import Learner
from metaglot.model import Sources, Table
from metaglot.space import Shots, draw_episode, generator
from metaglot.storage import text_hash
from metaglot.types import Episode

# The share of training episodes whose prior is spoilt, where any is.
_SPOILT = 0.5
PRIOR_NOISE: dict[Shots, float] = {"label": 0.3, "example": 0.0}
"""How far it is spoilt where the settings do not say, by what k counts.

A support set of sentences lacks many labels, and the prior is all that is known of those. (Names in five
held-out languages, from ten sentences: F1 of 70.2 with priors as they are, of 66.3 with spoilt ones.)
"""

Draw: TypeAlias = Callable[[int, int], Episode]
"""(step, place in the step's meta-batch) → episode, a function of nothing else."""

# Two sentences may have one label all: then others are drawn.
_ATTEMPTS = 20
SHOTS: dict[Shots, tuple[int, ...]] = {"label": (1, 2, 4, 8, 16), "example": (2, 5, 10, 20, 50)}
"""What k episodes have where the settings do not say, by what k counts."""


@dataclass(frozen=True)
class Drawn:
    """An episode of a meta-batch.

    Attributes:
        task: the task's name; tasks of one name share a learning curve.
        weight: how much it counts.
        prepared: what the learner's `prepare` made of it.
    """

    task: str
    weight: float
    prepared: Any


class MetaBatches:
    """The meta-batches of a run, episodes of the pool prepared once.

    Args:
        model: the model.
        learner: what prepares the episodes.
        draw: where they come from.
        settings: `episodes`, `tasks`, `pool`, `weights`, `seed`.
        tasks: how many tasks there are, where every step has all of them; `draw` gives the episode at
            a place to the task `place % tasks`.

    Raises:
        SettingsError: every step is to have all tasks, and nobody knows how many there are.
    """

    def __init__(
        self, model: Any, learner: Learner, draw: Draw, settings: TrainSettings, tasks: int | None = None
    ) -> None:
        if settings.tasks == "all" and not tasks:
            raise SettingsError(
                'expected the number of tasks, since every step is to have all of them (tasks = "all").',
                hint="Pass optimize(…, tasks=N), with a draw that gives place p to task p % N.",
            )
        self._model = model
        self._learner = learner
        self._draw = draw
        self._settings = settings
        self._tasks = (tasks or 1) if settings.tasks == "all" else 1
        self._pool: dict[tuple[int, int], Drawn] = {}
        self.width = width(settings, tasks)

    def __call__(self, step: int, place: int) -> Drawn:
        """Return the episode at a place of a step's meta-batch."""
        if not self._settings.pool:
            return self.prepare(self._draw(step, place))
        found = self._in_pool(step, place)
        if found not in self._pool:
            self._pool[found] = self.prepare(self._draw(*found))
        return self._pool[found]

    def prepare(self, episode: Episode) -> Drawn:
        """Return an episode as the learner wants it, weighted as the settings say.

        Raises:
            SettingsError: its weight is not above 0.
        """
        weight = self._settings.weights.get(episode.task, 1.0)
        if weight != 1.0:
            episode = replace(episode, weight=episode.weight * weight)
        if not episode.weight > 0:
            raise SettingsError(
                f"expected episodes of a weight above 0, found {episode.weight:g} of {episode.task!r}.",
                hint="Do not draw tasks that are not to count.",
            )
        return Drawn(episode.task, episode.weight, self._learner.prepare(self._model, episode))

    def _in_pool(self, step: int, place: int) -> tuple[int, int]:
        """The step and place in whose stead an episode of the pool is drawn.

        Where every step has all tasks each has a part of the pool for its own.
        """
        task, row, rows = place % self._tasks, place // self._tasks, self.width // self._tasks
        size = -(-self._settings.pool // self._tasks)
        turn, number = divmod(step * rows + row, size)
        key = (self._settings.seed, "order", turn, *((task,) if self._tasks > 1 else ()))
        step, row = divmod(int(generator(*key).permutation(size)[number]), rows)
        return step, row * self._tasks + task


def width(settings: TrainSettings, tasks: int | None) -> int:
    """Return how many episodes a step has."""
    if settings.tasks == "sampled" or not tasks:
        return settings.episodes
    return -(-settings.episodes // tasks) * tasks


def source_episode(sources: Sources, settings: TrainSettings, *key: int | str) -> Episode:
    """Draw one episode from the sources: a language, a number of shots and of labels by chance.

    Languages are drawn uniformly, so that a language with more data counts no more, unless `balance`
    says otherwise. Half of the episodes have all labels of the language and half fewer, as new users'
    label sets will.
    """
    return _disturbed(_episode(sources, settings, None, *key), sources, settings, *key)


def source_draw(sources: Sources, settings: TrainSettings) -> Draw:
    """Return the draw of episodes of the source languages."""
    count = len(sources.tables)
    per_step = width(settings, count)

    def draw(step: int, place: int) -> Episode:
        number = step * per_step + place
        if settings.tasks == "all":
            episode = _episode(sources, settings, sources.tables[place % count], number)
            return _disturbed(episode, sources, settings, number)
        return source_episode(sources, settings, number)

    return draw


def fingerprint(sources: Sources) -> str:
    """Return a hash of all that episodes of the sources are made from."""
    model = sources.model
    rows = [
        part
        for table in sources.tables
        for e in table.examples
        for part in (e.language, e.id, e.label, e.group, e.text, e.pair, str(e.spans), str(e.tokens))
    ]
    return text_hash(model.kind_name, model.encoder.fingerprint, json.dumps(model.groups.as_dict()), *rows)


def with_codes(codes: Sequence[str], settings: TrainSettings) -> TrainSettings:
    """Return settings whose `weights` and `validation` are languages of the sources, by their codes.

    Args:
        codes: the source languages'.
        settings: with languages by any name, or the share of them that is for validation.

    Raises:
        LanguageError: `weights` or `validation` names what is no source.
        SettingsError: no language is left to train on.
    """
    weights = zip(_codes(settings.weights, codes, "weights"), settings.weights.values(), strict=True)
    if isinstance(settings.validation, float):
        order = generator(settings.seed, "validation").permutation(len(codes))
        judged = [codes[i] for i in sorted(order[: max(1, round(settings.validation * len(codes)))])]
    else:
        judged = _codes(settings.validation, codes, "validation")
    if set(judged) == set(codes):
        raise SettingsError(
            f"expected source languages to train on, found all {len(codes)} kept for validation.",
            hint="Lower the share, or name fewer languages, in the setting validation.",
        )
    return settings.model_copy(update={"weights": dict(weights), "validation": tuple(judged)})


def hold_apart(sources: Sources, settings: TrainSettings) -> tuple[Sources, list[Episode]]:
    """Return the sources to train on, and fixed episodes of those that training is judged on.

    Both keep what was fitted on all of them, scales and prior; the prior's scores are cross-fitted, so
    that to each language it is one that has never seen it. The settings name languages by codes.
    """
    names = settings.validation if isinstance(settings.validation, tuple) else ()
    tables = {table.task.language: table for table in sources.tables}
    kept = tuple(table for code, table in tables.items() if code not in names)
    episodes = [
        _episode(sources, settings, tables[code], "validation", code, number)
        for code in names
        for number in range(settings.validation_episodes)
    ]
    return replace(sources, tables=kept), episodes


def _episode(sources: Sources, settings: TrainSettings, table: Table | None, *key: int | str) -> Episode:
    chance = generator(settings.seed, "episode", *key)
    if table is None:
        table = _table(sources, settings.balance, chance)
    shots = int(chance.choice(settings.shots or SHOTS[table.task.shots]))
    most = len(table.task.labels)
    ways = most if chance.random() < 0.5 else int(chance.integers(2, most + 1))
    for attempt in range(_ATTEMPTS):
        drawn = draw_episode(
            table.examples,
            table.task.labels,
            shots,
            settings.queries,
            settings.seed,
            *key,
            *(("again", attempt) if attempt else ()),
            ways=ways,
            by=table.task.shots,
        )
        support = table.support(sources.model, drawn.support, drawn.labels)
        if len(torch.unique(support.targets)) > 1:
            break
    return Episode(
        support=support,
        query=table.support(sources.model, drawn.query, drawn.labels),
        task=table.task.language,
    )


def _table(sources: Sources, balance: float, chance: np.random.Generator) -> Table:
    """Draw a language (multilingual sampling with an exponent: Conneau et al. 2020, sec. 3.1)."""
    if balance == 1:
        return sources.tables[int(chance.integers(len(sources.tables)))]
    sizes = np.array([len(table.examples) for table in sources.tables], dtype=np.float64) ** (1 - balance)
    return sources.tables[int(chance.choice(len(sources.tables), p=sizes / sizes.sum()))]


def _disturbed(episode: Episode, sources: Sources, settings: TrainSettings, *key: int | str) -> Episode:
    """Return a training episode: prior spoilt, support set mixed, columns dropped, as the settings say."""
    noise = PRIOR_NOISE[sources.model.kind.shots] if settings.prior_noise is None else settings.prior_noise
    if noise:
        chance = generator(settings.seed, "prior noise", *key)
        if chance.random() < _SPOILT:
            blocks = sources.model.prior.blocks
            episode = spoil_prior(episode, noise, blocks, chance)
    if settings.mixup:
        chance = generator(settings.seed, "mixup", *key)
        episode = replace(episode, support=mix_labels(episode.support, settings.mixup, chance))
    if settings.feature_dropout:
        chance = generator(settings.seed, "feature dropout", *key)
        episode = drop_columns(episode, settings.feature_dropout, chance)
    return episode


def _codes(names: Iterable[str], known: Sequence[str], setting: str) -> list[str]:
    """The codes of source languages that a setting names."""
    found = []
    for name in names:
        code = name
        if name not in known:
            try:
                code = parse_language(name)
            except MetaglotError:
                code = name
        if code not in known:
            raise LanguageError(
                f"expected source languages ({', '.join(known)}) in the setting {setting}, found {name!r}.",
                hint=suggestion(name, known),
            )
        found.append(code)
    return found
