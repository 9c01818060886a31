"""SetFit judged on the held-out languages of a fold, each fit remembered."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.fewshot.folds import Benchmark, Fold
from benchmarks.fewshot.results import Row, Unit, row_of
from benchmarks.fewshot.run import Settings
from benchmarks.fewshot.setfit_fit import (
    DEFAULTS,
    GRID,
    SetFitBaseline,
    Setting,
    sample_sources,
    up_weighted,
)
from metaglot.evaluation.grid import Record
from metaglot.evaluation.metrics import classification_metrics
from metaglot.space import Task, TaskSpace, draw_episode, draw_support, generator
from metaglot.storage import cache_root, text_hash, write_json
from metaglot.types import Example

METHODS = ("setfit", "setfit-tuned", "setfit-joint")
TUNING_SHOTS, TUNING_QUERIES = 8, 5
_FITTED = ("steps", "planned", "seconds")


@dataclass(frozen=True)
class Options:
    """How SetFit is judged.

    Attributes:
        encoder: as the harness's results name it, so that the lines stand beside them. SetFit starts
            from its transformer; n-grams have no place in it.
        methods: some of `METHODS`.
        shots: numbers of examples per label; 0 is for `setfit-joint` alone.
        draws: support sets per language and number of shots, the harness's first ones.
        seed: of the draws, the harness's.
        folds: names of the folds to run; all where empty.
        languages: held-out languages to judge; all where empty. The others stay held out.
        max_minutes: the most that a fit's steps may take, by the pace of a few.
        tuning_languages: how many source languages a fold's setting is chosen on.
        joint_examples: how many examples of the sources `setfit-joint` sees.
    """

    encoder: str = Settings.encoder
    methods: tuple[str, ...] = METHODS
    shots: tuple[int, ...] = (1, 8)
    draws: int = 3
    seed: int = 0
    folds: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    max_minutes: float = 3.0
    tuning_languages: int = 2
    joint_examples: int = 512


@dataclass
class FoldJudge:
    """Judges SetFit on the held-out languages of one fold.

    Attributes:
        benchmark: corpus and folds.
        fold: the fold.
        options: how to judge.
        setfit: what fits.
        trials: what each setting of the grid was worth; None before `tune`.
    """

    benchmark: Benchmark
    fold: Fold
    options: Options
    setfit: SetFitBaseline
    trials: list[Row] | None = None
    _steps: dict[tuple[str, bool], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.space = TaskSpace.of(self.benchmark.corpus, self.fold.held_out, sources=self.fold.sources)
        self.tasks = {task.language: task for task in self.space.held_out}

    @property
    def tuned(self) -> Setting:
        """The setting of the highest mean accuracy on the source languages."""
        best = max(self.trials or self.tune(), key=lambda trial: trial["accuracy"])
        return Setting(**best["setting"])

    def tune(self) -> list[Row]:
        """Try every setting of the grid on episodes of some source languages.

        Returns:
            A row for each setting: its mean accuracy over the languages, and the steps made.
        """
        o = self.options
        order = generator(o.seed, "setfit", self.fold.name).permutation(len(self.space.sources))
        tasks = [self.space.sources[place] for place in order[: o.tuning_languages].tolist()]
        trials = []
        for setting in GRID:
            found = []
            for task in tasks:
                key = (o.seed, "setfit", self.fold.name, task.language)
                draw = draw_episode(task.pool, task.labels, TUNING_SHOTS, TUNING_QUERIES, *key)
                support = [task.pool[row] for row in draw.support.tolist()]
                query = [task.pool[row] for row in draw.query.tolist()]
                found.append(self._judged(support, query, draw.labels, setting, task.language, 0))
            trials.append(
                {
                    "setting": setting.as_dict(),
                    "languages": [task.language for task in tasks],
                    "accuracy": round(sum(f["accuracy"] for f in found) / len(found), 5),
                    **{name: [f[name] for f in found] for name in _FITTED},
                }
            )
        self.trials = trials
        return trials

    def row(self, unit: Unit, task: Task) -> Row:
        """Return the line of one method and language, with what its fits took and the setting."""
        o = self.options
        setting = self.tuned if unit.method == "setfit-tuned" else DEFAULTS
        records, fits = [], dict[int, list[Row]]()
        for k in sorted(set(o.shots)):
            if k == 0 and unit.method != "setfit-joint":
                continue
            for draw in range(o.draws if k else 1):
                rows = draw_support(task.pool, task.labels, k, o.seed, task.language, draw)
                support = [task.pool[row] for row in rows.tolist()]
                examples, joint = support, unit.method == "setfit-joint"
                if joint:
                    sources = sample_sources(self.space.sources, o.joint_examples, o.seed, unit.method, draw)
                    examples = up_weighted(support, sources)
                found = self._judged(
                    examples, task.test, task.labels, setting, task.language, draw, joint=joint
                )
                fits.setdefault(k, []).append({name: found.pop(name) for name in _FITTED})
                records.append(Record(unit.method, False, task.language, k, draw, len(support), found))
        return {
            **row_of(unit, records, tests=len(task.test)),
            "setting": setting.as_dict(),
            **{name: {k: [f[name] for f in found] for k, found in fits.items()} for name in _FITTED},
        }

    def _judged(
        self,
        examples: Sequence[Example],
        query: Sequence[Example],
        labels: Sequence[str],
        setting: Setting,
        language: str,
        seed: int,
        *,
        joint: bool = False,
    ) -> dict[str, Any]:
        """Fit and judge: the metrics, and `_FITTED`; from the cache where this was done before."""

        def fitted() -> dict[str, Any]:
            kind = (language, joint)
            if kind not in self._steps:
                self._steps[kind] = self.setfit.steps_within(self.options.max_minutes, examples)
            fit = self.setfit.fit(examples, setting, max_steps=self._steps[kind], seed=seed)
            logits = self.setfit.logits(fit, [e.text for e in query], labels)
            metrics = classification_metrics(
                logits, torch.tensor([list(labels).index(e.label) for e in query])
            )
            return {**metrics, "steps": fit.steps, "planned": fit.planned, "seconds": round(fit.seconds, 2)}

        told = json.dumps([setting.as_dict(), self.options.max_minutes, seed, list(labels)])
        texts = [part for e in (*examples, *query) for part in (e.text, e.label)]
        return remembered(
            (version("setfit"), self.setfit.encoder.fingerprint, told, str(len(examples)), *texts), fitted
        )


def remembered(key: Sequence[str], work_out: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what the cache has under a key, else work it out and keep it."""
    file = cache_root() / "setfit" / f"{text_hash(*key)}.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        found = work_out()
        write_json(file, found)
    return found
