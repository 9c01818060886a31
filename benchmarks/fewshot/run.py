"""Judging: learners trained on each fold's sources, then every method on every held-out language."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.fewshot.folds import Benchmark, Fold
from benchmarks.fewshot.remembering import RememberingEncoder
from benchmarks.fewshot.results import ResultFile, Unit, row_of
from metaglot.artifact import versions
from metaglot.config import Recipe, TrainSettings
from metaglot.encoders import Encoder, load_encoder
from metaglot.errors import SettingsError, UnknownNameError, suggestion
from metaglot.evaluation.baselines import BASELINES
from metaglot.evaluation.grid import Record, check_grid, judge_task
from metaglot.learners import LEARNERS
from metaglot.progress import progress
from metaglot.space import Task
from metaglot.training import code_hash, fit, train_learners

ROOT = Path(__file__).parents[2]
METHODS = ("auto", "ridge", "protonet", "maml", *BASELINES)
"""What is judged by default."""
SHOTS = {"label": (0, 1, 2, 4, 8, 16, 32), "example": (0, 5, 10, 20, 50)}
"""At what k by default, by what k counts."""


@dataclass(frozen=True)
class Settings:
    """How methods are judged.

    Attributes:
        encoder: what features are made by.
        methods: names of learners and baselines.
        shots: numbers of examples per label.
        draws: support sets per language and number of shots.
        seed: of training and of the draws.
        steps: outer steps of every learner; its default where None.
        folds: names of the folds to run; all where empty.
        languages: held-out languages to judge; all where empty. The others stay held out.
        again: judge the methods anew where there are results of them.
    """

    encoder: str = "e5-small+ngrams"
    methods: tuple[str, ...] = METHODS
    shots: tuple[int, ...] = SHOTS["label"]
    draws: int = 10
    seed: int = 0
    steps: int | None = None
    folds: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    again: bool = False

    @property
    def train(self) -> TrainSettings:
        """The outer loop's settings."""
        return TrainSettings(seed=self.seed, **({} if self.steps is None else {"steps": self.steps}))

    @property
    def encoder_name(self) -> str:
        """The encoder as result lines name it: of a folder its name alone."""
        return "+".join(Path(part).name for part in self.encoder.split("+"))


def run(benchmark: Benchmark, settings: Settings, path: Path) -> None:
    """Judge what has no line yet in the result file; write each language's lines when it is done.

    Args:
        benchmark: corpus and folds.
        settings: how to judge.
        path: the result file; one process at a time may write to it.

    Raises:
        MetaglotError: the settings make no sense, or do not fit the results that are there.
    """
    corpus = benchmark.corpus
    _check(benchmark, settings)
    file = ResultFile(
        path,
        {
            "corpus": corpus.name,
            "fingerprint": corpus.fingerprint,
            "shots": sorted(set(settings.shots)),
            "draws": settings.draws,
            "seed": settings.seed,
            "train": settings.train.model_dump(mode="json", exclude_defaults=True),
        },
    )
    wanted = {
        fold.name: {language: _units(corpus.name, fold, language, settings) for language in fold.held_out}
        for fold in benchmark.folds
        if fold.name in settings.folds or not settings.folds
    }
    if settings.languages:
        wanted = {
            name: {language: units for language, units in found.items() if language in settings.languages}
            for name, found in wanted.items()
        }
    every = {unit for found in wanted.values() for units in found.values() for unit in units}
    if settings.again:
        file.forget(every)
    if every <= file.done():
        return
    file.add({"run": facts(settings)})
    encoder = load_encoder(settings.encoder)
    if corpus.kind == "classification":  # the others want more of an encoder than texts' vectors
        encoder = RememberingEncoder(encoder)
    with progress(corpus.name, len(every - file.done())) as advance:
        for fold in benchmark.folds:
            left = {
                language: missing
                for language, units in wanted.get(fold.name, {}).items()
                if (missing := [unit for unit in units if unit not in file.done()])
            }
            if left:
                _run_fold(benchmark, fold, encoder, left, settings, file, advance)


def _run_fold(
    benchmark: Benchmark,
    fold: Fold,
    encoder: Encoder,
    left: Mapping[str, Sequence[Unit]],
    settings: Settings,
    file: ResultFile,
    advance: Any,
) -> None:
    recipe = Recipe(
        corpus=benchmark.corpus.name,
        encoder=settings.encoder,
        held_out=fold.held_out,
        sources=fold.sources,
        train=settings.train,
    )
    fitted = fit(benchmark.corpus, recipe, encoder=encoder)
    needed = dict.fromkeys(unit.method for units in left.values() for unit in units)
    trained = train_learners(fitted, recipe, [name for name in needed if name in LEARNERS])
    learners = {name: (learner, result.meta) for name, (learner, result) in trained.items()}
    baselines = {name: BASELINES[name](fitted.sources) for name in needed if name in BASELINES}
    for task in fitted.space.held_out:
        units = left.get(task.language, ())
        if not units:
            continue
        chosen = {unit.method for unit in units}
        records = list(
            judge_task(
                fitted.sources.model,
                task,
                {name: learners[name] for name in learners if name in chosen},
                {name: baselines[name] for name in baselines if name in chosen},
                shots=settings.shots,
                draws=settings.draws,
                seed=settings.seed,
            )
        )
        _write(file, units, records, task)
        advance(len(units), f"fold {fold.name}: {task.language}")


def _write(file: ResultFile, units: Iterable[Unit], records: Sequence[Record], task: Task) -> None:
    for unit in units:
        own = [record for record in records if record.method == unit.method]
        file.add(row_of(unit, own, tests=len(task.test)))


def facts(settings: Settings) -> dict[str, Any]:
    """Return what a result file says of a run: methods, options, versions, machine class, commit."""
    return {
        "encoder": settings.encoder_name,
        "methods": list(settings.methods),
        "folds": list(settings.folds),
        "languages": list(settings.languages),
        "versions": versions(),
        "code": code_hash(),
        "commit": commit(),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
    }


def commit() -> str:
    """Return the commit of this repository, or an empty string where there is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _units(corpus: str, fold: Fold, language: str, settings: Settings) -> list[Unit]:
    return [Unit(corpus, fold.name, settings.encoder_name, method, language) for method in settings.methods]


def _check(benchmark: Benchmark, settings: Settings) -> None:
    check_grid(settings.methods, settings.shots, settings.draws)
    if not any(settings.shots):
        raise SettingsError("expected a number of shots above 0, found none: few methods predict without.")
    held_out = [language for fold in benchmark.folds for language in fold.held_out]
    folds = [fold.name for fold in benchmark.folds]
    for names, known, what in (
        (settings.methods, [*LEARNERS, *BASELINES], "a learner or baseline"),
        (settings.folds, folds, "a fold"),
        (settings.languages, held_out, "a held-out language"),
    ):
        for name in names:
            if name not in known:
                raise UnknownNameError(
                    f"expected {what} ({', '.join(known)}), found {name!r}.", hint=suggestion(name, known)
                )
