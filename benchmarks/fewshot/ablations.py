"""What each means against overfitting to a language is worth, one at a time, beside the default.

    python -m benchmarks.fewshot.ablations run --data DIR --corpus injongo
    python -m benchmarks.fewshot.ablations run --corpus home-assistant
    python -m benchmarks.fewshot.ablations tables

On one fold of a corpus learners are trained with one setting changed, or adapt to support sets with changed
copies of the examples, and are judged on the same draws as the default. Sources have at most 20 examples
of a label (--per-label), for what is meant for little data must be judged on little data, and new texts have
to be encoded. A line for each method and language goes to the result file as soon as it is done: a
run that was stopped goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import typer

from benchmarks.commands import start
from benchmarks.fewshot.corpora import load
from benchmarks.fewshot.folds import Benchmark
from benchmarks.fewshot.remembering import RememberingEncoder
from benchmarks.fewshot.results import ResultFile, Row, Unit, read_rows, records_of, row_of
from benchmarks.fewshot.run import Settings, facts
from benchmarks.markers import ROOT, fill, markdown, renew
from metaglot.augmentation import AUGMENTATIONS, copies_of
from metaglot.cli.options import split_names, split_numbers
from metaglot.config import Recipe, changed_recipe
from metaglot.encoders import load_encoder
from metaglot.errors import SettingsError, UnknownNameError, suggestion
from metaglot.evaluation.grid import Record, adapted_head, check_grid
from metaglot.evaluation.metrics import bootstrap_interval, classification_metrics
from metaglot.evaluation.report import Report
from metaglot.learners import LEARNERS
from metaglot.learners.base import Learner
from metaglot.model import Model, batch_of
from metaglot.progress import progress, silent
from metaglot.space import Task, draw_support
from metaglot.storage import text_hash
from metaglot.training import fit, train_learners
from metaglot.types import Batch, Corpus, Example, Params

FOLDS = {"injongo": "1", "home-assistant": "demo"}
RESULTS = ROOT / "benchmarks" / "results" / "ablations"
PLAIN = "the default"


@dataclass(frozen=True)
class Ablation:
    """What is other than by default: settings of the recipe, or what support sets get copies by."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    support: tuple[str, ...] = ()


ABLATIONS = {
    PLAIN: Ablation(),
    "languages drawn by size": Ablation({"train.balance": 0.0}),
    "no spoilt priors": Ablation({"train.prior_noise": 0.0}),
    "priors spoilt by 1": Ablation({"train.prior_noise": 1.0}),
    "feature dropout 0.1": Ablation({"train.feature_dropout": 0.1}),
    "feature dropout 0.3": Ablation({"train.feature_dropout": 0.3}),
    "mixup 0.5": Ablation({"train.mixup": 0.5}),
    **{f"`{name}` on support": Ablation(support=(name,)) for name in AUGMENTATIONS},
    "all on support": Ablation(support=tuple(AUGMENTATIONS)),
    **{f"`{name}` on sources": Ablation({"augment": (name,)}) for name in AUGMENTATIONS},
    "all on sources": Ablation({"augment": tuple(AUGMENTATIONS)}),
    "all on both": Ablation({"augment": tuple(AUGMENTATIONS)}, tuple(AUGMENTATIONS)),
}
"""Those that share what is fitted on the sources stand together."""

app = typer.Typer(
    name="python -m benchmarks.fewshot.ablations",
    help="What each means against overfitting to a language is worth.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    corpus: Annotated[str, typer.Option(help=f"One of {', '.join(FOLDS)}.")],
    out: Annotated[Path | None, typer.Option(help="The result file.", show_default="in results/")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder that holds injongo_intent/.")] = None,
    learners: Annotated[str, typer.Option(help="Names.")] = "auto,protonet",
    ablations: Annotated[
        str | None, typer.Option(help="Those whose names have one of these in them.", show_default="all")
    ] = None,
    shots: Annotated[str, typer.Option(help="Examples per label.")] = "1,8",
    draws: Annotated[int, typer.Option(help="Support sets per language and number of shots.")] = 5,
    per_label: Annotated[int, typer.Option(help="The most examples of a label that a source has.")] = 20,
    steps: Annotated[int | None, typer.Option(help="Outer steps.", show_default="120")] = None,
    encoder: Annotated[str, typer.Option(help="What features are made by.")] = Settings.encoder,
) -> None:
    """Judge every ablation that has no lines yet."""
    if corpus not in FOLDS:
        raise UnknownNameError(
            f"expected a corpus ({', '.join(FOLDS)}), found {corpus!r}.", hint=suggestion(corpus, FOLDS)
        )
    parts = split_names(ablations) or ("",)
    chosen = [name for name in ABLATIONS if name == PLAIN or any(part in name for part in parts)]
    names = split_names(learners) or ()
    settings = Settings(encoder, names, tuple(split_numbers(shots)), draws=draws, steps=steps)
    measure(load(corpus, data), settings, chosen, per_label, out or RESULTS / f"{corpus}.jsonl")


@app.command()
def tables(results: Annotated[Path, typer.Option(help="The folder of result files.")] = RESULTS) -> None:
    """Renew the tables of the documentation from the result files."""
    rows = read_rows(sorted(results.glob("*.jsonl")))
    renew(lambda page: filled(page.read_text(encoding="utf-8"), rows))


def measure(
    benchmark: Benchmark, settings: Settings, names: Sequence[str], per_label: int, path: Path
) -> None:
    """Judge ablations on one fold; write each language's lines when it is done.

    Args:
        benchmark: corpus and folds.
        settings: its methods are learners.
        names: of `ABLATIONS`.
        per_label: the most examples of a label that a source language has.
        path: the result file.
    """
    check_grid(settings.methods, settings.shots, settings.draws)
    if 0 in settings.shots:
        raise SettingsError("expected shots ≥ 1, found 0: without examples there is nothing to adapt to.")
    for name in settings.methods:
        LEARNERS[name]
    wanted = FOLDS.get(benchmark.corpus.name)
    fold = next(f for f in benchmark.folds if wanted in (None, f.name))
    corpus = capped(benchmark.corpus, fold.sources, per_label)
    header = {"corpus": corpus.name, "fingerprint": corpus.fingerprint, "shots": sorted(set(settings.shots))}
    header |= {"draws": settings.draws, "seed": settings.seed, "steps": settings.steps}
    file = ResultFile(path, header | {"per_label": per_label})
    file.add({"run": facts(settings)})
    plain = Recipe(
        corpus=corpus.name,
        encoder=settings.encoder,
        held_out=fold.held_out,
        sources=fold.sources,
        train=settings.train,
    )
    encoder = RememberingEncoder(load_encoder(settings.encoder))
    fitted, made_by = None, None
    with progress(f"{corpus.name}: ablations", len(names)) as advance:
        for name in names:
            units = {
                (learner, code): Unit(
                    corpus.name, fold.name, settings.encoder_name, f"{learner}, {name}", code
                )
                for code in fold.held_out
                for learner in settings.methods
            }
            left = [key for key, unit in units.items() if unit not in file.done()]
            if left:
                recipe = changed_recipe(plain, ABLATIONS[name].settings)
                if fitted is None or made_by != recipe.augment:
                    fitted, made_by = fit(corpus, recipe, encoder=encoder), recipe.augment
                trained = train_learners(fitted, recipe, list(dict.fromkeys(one for one, _ in left)))
                for task in fitted.space.held_out:
                    judged = [one for one, code in left if code == task.language]
                    found = {one: (trained[one][0], trained[one][1].meta) for one in judged}
                    records = list(
                        judge(fitted.sources.model, task, found, ABLATIONS[name].support, settings)
                    )
                    for one in judged:
                        own = [r for r in records if r.method == one]
                        file.add(row_of(units[one, task.language], own, tests=len(task.test)))
            advance(1, name)


def judge(
    model: Model,
    task: Task,
    learners: Mapping[str, tuple[Learner, Params]],
    support_by: Sequence[str],
    settings: Settings,
) -> Iterator[Record]:
    """Judge learners on the grid's own draws of a task, each with copies made by `support_by`."""
    if not learners:
        return

    def batch(examples: Sequence[Example]) -> Batch:
        return batch_of(model, task.language, examples, task.labels)

    with silent(), torch.no_grad():
        query = batch(task.test)
        for k in sorted(set(settings.shots)):
            for draw in range(settings.draws):
                rows = draw_support(task.pool, task.labels, k, settings.seed, task.language, draw)
                drawn = [task.pool[row] for row in rows]
                copies = copies_of(drawn, support_by, seed=draw) if support_by else []
                support = batch([*drawn, *(copy for _, copy in copies)])
                for name, (learner, meta) in learners.items():
                    adapted = adapted_head(model, learner, meta, support)
                    logits = learner.predict(model.task_model, meta, adapted, query)
                    metrics = classification_metrics(logits, query.targets)
                    yield Record(name, True, task.language, k, draw, len(support), metrics)


def capped(corpus: Corpus, sources: Sequence[str], per_label: int) -> Corpus:
    """Return a corpus whose sources have at most so many examples of a label to learn from, by a hash."""
    ordered = sorted(corpus.examples, key=lambda e: text_hash(e.language, e.id, e.text))
    count: dict[tuple[str, str], int] = {}
    kept = set()
    for e in ordered:
        if e.language in sources and e.split != "test":
            place = e.language, e.label
            count[place] = count.get(place, 0) + 1
            if count[place] <= per_label:
                kept.add(e)
    examples = (e for e in corpus.examples if e in kept or e.language not in sources or e.split == "test")
    return replace(corpus, examples=tuple(examples))


def filled(text: str, rows: Sequence[Row]) -> str:
    """Return a page's text with the tables `ablations-LEARNER` made anew, of which there are results."""
    learners = dict.fromkeys(row["method"].partition(", ")[0] for row in rows)
    made: dict[str, Callable[[], str]] = {
        f"ablations-{name}": partial(gains_table, rows, name) for name in learners
    }
    return fill(text, made)


def gains_table(rows: Sequence[Row], learner: str) -> str:
    """The default's accuracy, and points that each ablation adds to it, by corpus and number of shots.

    The interval is over draws, paired; what it has no zero in is bold.
    """
    reports = {}
    for corpus in sorted({row["corpus"] for row in rows}, reverse=True):
        own = [r for r in rows if r["corpus"] == corpus and r["method"].startswith(f"{learner}, ")]
        judged = [row["language"] for row in own if row["method"] == f"{learner}, {PLAIN}"]
        count: dict[str, set[str]] = {}
        for row in own:
            count.setdefault(row["method"], set()).add(row["language"])
        whole = [row for row in own if count[row["method"]] >= set(judged)]
        if judged:
            reports[corpus] = Report(records_of(r for r in whole if r["language"] in judged))
    places = [(corpus, k) for corpus, report in reports.items() for k in report.shots]
    lines = []
    for name in ABLATIONS:
        cells = [_cell(reports[corpus], learner, name, k) for corpus, k in places]
        if any(cell != "–" for cell in cells):
            lines.append([name, *cells])
    return markdown([f"`{learner}`", *(f"{corpus}, k = {k}" for corpus, k in places)], lines)


def _cell(report: Report, learner: str, name: str, shots: int) -> str:
    ours, plain = (report.values(f"{learner}, {one}", shots) for one in (name, PLAIN))
    if ours is None or plain is None:
        return "–"
    if name == PLAIN:
        return f"{100 * float(ours.mean()):.1f}"
    low, high = bootstrap_interval(ours - plain)
    points = round(100 * float((ours - plain).mean()), 1) + 0.0  # not -0.0
    text = f"{points:+.1f} ±{50 * (high - low):.1f}"
    return f"**{text}**" if low > 0 or high < 0 else text


if __name__ == "__main__":
    start(app)
