"""The main job on real data, offline: learn from 20 languages how to learn 6 others."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from rich.console import Console

from metaglot.adapting import adapt
from metaglot.artifact import Artifact, load, save, save_adaptation
from metaglot.config import Recipe, TrainSettings
from metaglot.cross_validation import Estimate
from metaglot.data import load_corpus
from metaglot.data.home_assistant import SOURCES
from metaglot.evaluation.baselines import default_baselines
from metaglot.evaluation.grid import check_grid, run_grid
from metaglot.evaluation.report import Report
from metaglot.languages import language_name
from metaglot.predicting import predict
from metaglot.space import Task, draw_support
from metaglot.storage import write_json
from metaglot.training import assemble, evaluation_facts, fit, train_learners

# The default beside a closed form, a metric and gradient steps; benchmarks/learners.py has them all.
SHOWN = ("auto", "ridge", "protonet", "maml", "fomaml")
# Six families and six scripts: Semitic, Hellenic, Basque, Dravidian, Kra-Dai, Sinitic.
HELD_OUT = ("arb", "ell", "eus", "mal", "tha", "zho_Hans")
SHOTS = (0, 1, 4, 8, 16)
ADAPTED = "tha"
ADAPTED_SHOTS = 8


def the_recipe() -> Recipe:
    """Return the recipe that the demo trains by."""
    return Recipe(
        corpus="home-assistant",
        corpus_options={"languages": [*SOURCES, *HELD_OUT]},
        held_out=HELD_OUT,
        train=TrainSettings(steps=60),
    )


def run(folder: Path, *, draws: int, console: Console) -> None:
    """Train a few learners, judge them beside every baseline, adapt one language for good and use it.

    Args:
        folder: where `results.json`, `results.png` and the artifact go.
        draws: random support sets per language and number of shots.
        console: where to print.
    """
    start = time.perf_counter()
    check_grid(SHOWN, SHOTS, draws)
    recipe = the_recipe()
    console.print(
        f"Voice commands in {len(SOURCES) + len(HELD_OUT)} languages (home-assistant-intents, Apache-2.0). "
        f"metaglot learns from {len(SOURCES)} of them how to learn a language, and then meets "
        f"{len(HELD_OUT)} new ones: "
        f"{', '.join(language_name(code) for code in HELD_OUT)}."
    )
    corpus = load_corpus(recipe.corpus, options=recipe.corpus_options)
    fitted = fit(corpus, recipe)
    trained = train_learners(fitted, recipe, SHOWN)
    records = run_grid(
        fitted.sources,
        fitted.space,
        {name: (learner, result.meta) for name, (learner, result) in trained.items()},
        baselines=default_baselines(fitted.sources.model),
        shots=SHOTS,
        draws=draws,
        seed=recipe.train.seed,
    )
    report = Report(records)
    write_json(
        folder / "results.json",
        evaluation_facts(fitted, recipe)
        | {"summary": report.summary(), "records": [record.as_dict() for record in records]},
    )
    report.plot(folder / "results.png")
    console.print(report.table())
    for line in report.difference_lines():
        console.print(line, highlight=False)
    console.print(report.language_table(recipe.learner, ADAPTED_SHOTS))

    artifact = assemble(fitted, recipe, *trained[recipe.learner])
    save(artifact, folder / "assistant", overwrite=True)
    task = next(task for task in fitted.space.held_out if task.language == ADAPTED)
    _use(artifact, task, folder / "assistant", console)
    console.print(
        f"\nThe plot, every number and the model are in {folder}. {time.perf_counter() - start:.0f} s, "
        f"{torch.get_num_threads()} threads."
    )


def _use(artifact: Artifact, task: Task, folder: Path, console: Console) -> None:
    """Adapt to one language, save the adaptation, read everything back and predict."""
    rows = draw_support(task.pool, task.labels, ADAPTED_SHOTS, "demo")
    examples = [task.pool[row] for row in rows.tolist()]
    made = adapt(artifact, task.language, examples)
    file = save_adaptation(made.adaptation, folder)
    console.print(
        f"\nAdapted to {task}: {len(examples)} examples of {len(task.labels)} intents, {made.seconds:.2f} s, "
        f"{file.stat().st_size / 1024:.0f} KB."
    )
    if made.adaptation.estimate is not None:
        console.print(f"Estimated from these examples alone: {Estimate(**made.adaptation.estimate)}.")
    judged = [task.test[i] for i in range(0, len(task.test), max(1, len(task.test) // 6))][:6]
    for found, example in zip(
        predict(load(folder), [e.text for e in judged], task.language, top=2), judged, strict=True
    ):
        (first, chance), (second, less) = found.labels[:2]
        mark = "[green]✓[/green]" if first == example.label else f"[red]✗[/red] (is {example.label})"
        console.print(
            f"  {found.text}\n    {first} {chance:.0%}, {second} {less:.0%}  {mark}", highlight=False
        )
