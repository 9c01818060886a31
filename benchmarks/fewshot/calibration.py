"""How sure predictions may be: temperature, "I don't know", sets of labels, texts of no known label.

    python -m benchmarks.fewshot.calibration run --data DIR --out benchmarks/results/calibration.json
    python -m benchmarks.fewshot.calibration tables

On one fold of Injongo and on home-assistant, every held-out language is adapted to draws of its examples.
What cross-validation on those says is compared with what its test split says. Then a quarter of the labels
is left out of training and support, and test texts of these labels are to be told from the others.
About ten minutes on two cores once features are cached; a part that the result file has is not run again.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import typer

from benchmarks.commands import start
from benchmarks.fewshot.calibration_measures import (
    Judge,
    Row,
    best_log_temperature,
    cross_validated,
    judged,
    recalled,
    scores,
)
from benchmarks.fewshot.calibration_tables import filled
from benchmarks.fewshot.corpora import load
from benchmarks.fewshot.folds import Benchmark
from benchmarks.fewshot.run import Settings, facts
from benchmarks.markers import ROOT, renew
from metaglot.cli.options import split_names, split_numbers
from metaglot.config import Recipe
from metaglot.errors import DataError, Where
from metaglot.evaluation.baselines import BASELINES
from metaglot.evaluation.metrics import auroc, false_positive_rate
from metaglot.learners import LEARNERS
from metaglot.model import Model, Table, batch_of, target_table
from metaglot.progress import progress
from metaglot.space import draw_episode, draw_support, generator
from metaglot.storage import write_json
from metaglot.training import Fitted, fit, train_learners
from metaglot.types import Batch, Corpus

FOLDS = {"injongo": "1", "home-assistant": "demo"}
METHODS = ("auto", "ridge", "protonet", "target-only")
RESULT = ROOT / "benchmarks" / "results" / "calibration.json"

app = typer.Typer(
    name="python -m benchmarks.fewshot.calibration",
    help="How sure predictions may be.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="The result file.")] = RESULT,
    data: Annotated[Path | None, typer.Option(help="The folder that holds injongo_intent/.")] = None,
    corpora: Annotated[str, typer.Option(help="Corpora, one fold of each.")] = ",".join(FOLDS),
    methods: Annotated[str, typer.Option(help="Learners and baselines; scope is auto's alone.")] = ",".join(
        METHODS
    ),
    shots: Annotated[str, typer.Option(help="Examples per label.")] = "1,4,8,16",
    draws: Annotated[int, typer.Option(help="Support sets per language and number of shots.")] = 3,
    steps: Annotated[int | None, typer.Option(help="Outer steps of every learner.")] = None,
    encoder: Annotated[str, typer.Option(help="What features are made by.")] = Settings.encoder,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what the file has.")] = False,
) -> None:
    """Measure, and write each part to the result file as it is done."""
    settings = Settings(
        encoder, split_names(methods) or (), tuple(split_numbers(shots)), draws=draws, steps=steps
    )
    about = {
        "encoder": settings.encoder_name,
        "methods": list(settings.methods),
        "shots": list(settings.shots),
        "draws": draws,
        "steps": steps,
    }
    found = _read(out) if out.exists() else {}
    if again or found.get("settings") != about:
        found = {"settings": about, "parts": {}}
    for name in split_names(corpora) or ():
        benchmark = load(name, data)
        for part, measure in (
            ("sources", source_temperatures),
            ("known", known_labels),
            ("left out", labels_left_out),
        ):
            place = f"{name}: {part}"
            if place not in found["parts"]:
                found["parts"][place] = measure(benchmark, settings)
                found["facts"] = facts(settings)
                write_json(out, found)


@app.command()
def tables(result: Annotated[Path, typer.Option(help="The result file.")] = RESULT) -> None:
    """Renew the tables of the documentation from the result file."""
    found = _read(result)
    renew(lambda page: filled(page.read_text(encoding="utf-8"), found))


def source_temperatures(benchmark: Benchmark, settings: Settings) -> list[Row]:
    """Return how far the best log T of `auto` is from zero on source languages: what σ is set by."""
    fitted, recipe = _fitted(benchmark, benchmark.corpus, settings)
    model, judge = fitted.sources.model, _judges(fitted, recipe, ["auto"])["auto"]
    rows = []
    for k in (n for n in settings.shots if n <= 8):
        found = []
        for table in fitted.sources.tables:
            place = (settings.seed, "temperature", table.task.language, k)
            drawn = draw_episode(table.examples, table.task.labels, k, 8, *place)
            support, query = (table.batch(model, r, drawn.labels) for r in (drawn.support, drawn.query))
            found.append(best_log_temperature(judge(support, query), query.targets))
        size = sum(value**2 for value in found) / len(found)
        rows.append({"shots": k, "spread": round(size**0.5, 4), "languages": len(found)})
    return rows


def known_labels(benchmark: Benchmark, settings: Settings) -> list[Row]:
    """Return rows on temperature, thresholds and label sets: a row for each method and number of shots."""
    fitted, recipe = _fitted(benchmark, benchmark.corpus, settings)
    model, judges = fitted.sources.model, _judges(fitted, recipe, settings.methods)
    rows: defaultdict[tuple[str, int], list[Row]] = defaultdict(list)
    with progress(f"{benchmark.corpus.name}: known labels", len(fitted.space.held_out)) as advance:
        for task in fitted.space.held_out:
            pool, test = target_table(model, task, task.pool), target_table(model, task, task.test)
            query = test.batch(model, torch.arange(len(test.examples)), task.labels)
            for k, support, groups in _supports(model, pool, task.labels, settings):
                for name, judge in judges.items():
                    calibration = cross_validated(judge, support, groups)
                    rows[name, k].append(judged(calibration, judge(support, query), query.targets))
            advance(1, task.language)
    return [{"method": name, "shots": k, **_mean(found)} for (name, k), found in rows.items()]


def labels_left_out(benchmark: Benchmark, settings: Settings) -> list[Row]:
    """Return rows on texts of no known label: a row for each score and number of shots, for `auto`."""
    corpus = benchmark.corpus
    order = generator("left out", corpus.name).permutation(len(corpus.labels))
    left_out = {corpus.labels[i] for i in order[: len(corpus.labels) // 4]}
    kept = replace(corpus, examples=tuple(e for e in corpus.examples if e.label not in left_out))
    fitted, recipe = _fitted(benchmark, kept, settings)
    model, judge = fitted.sources.model, _judges(fitted, recipe, ["auto"])["auto"]
    rows: defaultdict[tuple[str, int], list[Row]] = defaultdict(list)
    with progress(f"{corpus.name}: labels left out", len(fitted.space.held_out)) as advance:
        for task in fitted.space.held_out:
            other = [e for e in corpus.select(task.language, "test") if e.label in left_out]
            pool = target_table(model, task, task.pool)
            known = batch_of(model, task.language, task.test, task.labels)
            unknown = batch_of(model, task.language, other, task.labels)
            for k, support, groups in _supports(model, pool, task.labels, settings):
                calibration = cross_validated(judge, support, groups)
                inside, outside = judge(support, known), judge(support, unknown)
                ours = recalled(calibration, inside, outside)
                for name, score in scores(support, model).items():
                    high, low = score(inside, known), score(outside, unknown)
                    found = {"auroc": auroc(high, low), "fpr95": false_positive_rate(high, low)}
                    rows[name, k].append(found | (ours if name == "largest logit" else {}))
            advance(1, task.language)
    return [{"score": name, "shots": k, **_mean(found)} for (name, k), found in rows.items()]


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected results, found none that can be read: {error}.", where=Where(path)
        ) from error
    return found


def _fitted(benchmark: Benchmark, corpus: Corpus, settings: Settings) -> tuple[Fitted, Recipe]:
    fold = next(f for f in benchmark.folds if f.name == FOLDS[benchmark.corpus.name])
    recipe = Recipe(
        corpus=corpus.name,
        encoder=settings.encoder,
        held_out=fold.held_out,
        sources=fold.sources,
        train=settings.train,
    )
    return fit(corpus, recipe), recipe


def _judges(fitted: Fitted, recipe: Recipe, names: Sequence[str]) -> dict[str, Judge]:
    """Name → (support set, texts) → logits."""
    task_model, found = fitted.sources.model.task_model, dict[str, Judge]()
    for name, (learner, result) in train_learners(
        fitted, recipe, [n for n in names if n in LEARNERS]
    ).items():

        def learned(support: Batch, query: Batch, learner: Any = learner, meta: Any = result.meta) -> Any:
            with torch.no_grad():
                return learner.predict(task_model, meta, learner.adapt(task_model, meta, support), query)

        found[name] = learned
    for name in (n for n in names if n not in LEARNERS):
        baseline = BASELINES[name](fitted.sources)

        def plain(support: Batch, query: Batch, fit: Any = baseline.fit) -> Any:
            return task_model.forward(fit(fitted.sources.model, support), query)

        found[name] = plain
    return found


def _supports(
    model: Model, pool: Table, labels: Sequence[str], settings: Settings
) -> Iterator[tuple[int, Batch, list[str]]]:
    """Shots, support sets, and what their examples were made from."""
    for k in settings.shots:
        for draw in range(settings.draws):
            rows = draw_support(pool.examples, labels, k, settings.seed, pool.task.language, draw)
            yield k, pool.batch(model, rows, labels), [pool.examples[i].group for i in rows.tolist()]


def _mean(found: Sequence[Row]) -> Row:
    """The mean of every number over the rows that have it, and how many rows there are."""
    names = dict.fromkeys(name for row in found for name in row)
    columns = {name: [row[name] for row in found if row.get(name) is not None] for name in names}
    means = {name: round(sum(values) / len(values), 5) for name, values in columns.items() if values}
    return means | {"judged": len(found)}


if __name__ == "__main__":
    start(app)
