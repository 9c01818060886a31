"""Adapting with SetFit beside `metaglot.adapt`: wall time and accuracy on the same support sets.

    pip install 'metaglot[setfit]'
    python -m benchmarks.setfit_time --json benchmarks/results/setfit_time.json
    python -m benchmarks.setfit_time --labels 5 --json benchmarks/results/setfit_time_5_labels.json

A clock runs from the examples' texts to the adapted model. Encoding is inside on both sides: metaglot's
feature cache is off. Outside on both are loading the encoder, learning from the source languages (once, for
all languages to come; SetFit has nothing to learn there) and predicting. The methods take turns, their order
rotates, and medians count; CPU time stands beside wall time, for machines that are busy. Both choose among
the labels of the support set and start from the same encoder, SetFit in float32, in which it trains,
metaglot in bfloat16 where the processor has it: each as its user gets it.

SetFit makes every pair of the support set, which takes hours for 40 labels, so `--max-minutes` bounds its
steps (see `fewshot/setfit_fit.py`). Then "seconds" and the ratio are what was measured, a lower bound, and
"whole_seconds" is what all of its steps would take by the measured pace, an estimate. With a few labels
(`--labels 5`) SetFit's own epoch is short enough to be measured whole.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.fewshot import corpora
from benchmarks.fewshot.run import Settings, facts
from benchmarks.fewshot.setfit_baseline import PACKAGES, main
from benchmarks.fewshot.setfit_fit import DEFAULTS, SetFitBaseline, Setting
from benchmarks.fewshot.setfit_judge import FoldJudge, Options
from metaglot.adapting import adapt
from metaglot.artifact import Artifact
from metaglot.cli.options import split_names
from metaglot.config import Recipe, TrainSettings
from metaglot.encoders import load_encoder
from metaglot.errors import SettingsError
from metaglot.predicting import predict
from metaglot.progress import progress, silent
from metaglot.space import Task, draw_support, find_language, generator
from metaglot.storage import write_json
from metaglot.training import train
from metaglot.types import Example

OURS = "metaglot"
_STEPS = 60  # outer steps, the demo's


@dataclass(frozen=True)
class Timing:
    """One method adapted to one support set.

    Attributes:
        method: `metaglot`, `setfit` or `setfit-tuned`.
        seconds: from texts to the adapted model.
        cpu_seconds: of the processor, over all threads: other work on the machine does not count.
        whole_seconds: `seconds`, if SetFit had made all of its steps.
        accuracy: on the language's test split.
        steps: SetFit's steps; 0 for metaglot.
        planned: the steps that SetFit's setting asks for.
        language: the code.
        round: of the repetition, which has a support set of its own.
        examples: size of the support set.
        labels: how many labels it has.
    """

    method: str
    seconds: float
    cpu_seconds: float
    whole_seconds: float
    accuracy: float
    steps: int = 0
    planned: int = 0
    _: KW_ONLY
    language: str
    round: int
    examples: int
    labels: int


def command(
    corpus: Annotated[str, typer.Option(help=f"One of {', '.join(corpora.CORPORA)}.")] = "home-assistant",
    data: Annotated[Path | None, typer.Option(help="The folder that holds the corpora's folders.")] = None,
    fold: Annotated[str | None, typer.Option(help="The corpus's first one by default.")] = None,
    languages: Annotated[
        str | None, typer.Option(help="Held-out languages; the fold's first three by default.")
    ] = None,
    shots: Annotated[int, typer.Option(help="Examples per label.")] = 8,
    labels: Annotated[int, typer.Option(help="So many labels, drawn by chance; 0 for all.")] = 0,
    rounds: Annotated[int, typer.Option(help="Support sets per language.")] = 1,
    max_minutes: Annotated[float, typer.Option(help="The most that a fit's steps may take.")] = 3.0,
    tuned: Annotated[
        bool, typer.Option(help="SetFit's tuned setting too, chosen first as setfit_baseline does.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the result here, as it grows.")] = None,
) -> None:
    """Time SetFit and metaglot on the same support sets."""
    if shots < 1 or rounds < 1 or max_minutes <= 0 or labels < 0 or labels == 1:
        raise SettingsError(
            "expected --shots and --rounds ≥ 1, --max-minutes > 0 and --labels 0 or ≥ 2, "
            f"found {shots}, {rounds}, {max_minutes} and {labels}."
        )
    benchmark = corpora.load(corpus, data)
    folds = {found.name: found for found in benchmark.folds}
    if fold is not None and fold not in folds:
        raise SettingsError(f"expected a fold ({', '.join(folds)}), found {fold!r}.")
    chosen = folds[fold] if fold is not None else benchmark.folds[0]
    codes = [find_language(benchmark.corpus, name) for name in split_names(languages) or chosen.held_out[:3]]
    if wrong := [code for code in codes if code not in chosen.held_out]:
        raise SettingsError(
            f"expected languages that the fold {chosen.name!r} holds out ({', '.join(chosen.held_out)}), "
            f"found {wrong[0]!r}."
        )
    recipe = Recipe(
        corpus=corpus,
        held_out=chosen.held_out,
        sources=chosen.sources,
        train=TrainSettings(steps=_STEPS),
    )
    artifact = uncached(train(benchmark.corpus, recipe))
    setfit = SetFitBaseline(artifact.model.encoder)
    options = Options(max_minutes=max_minutes)
    judge = FoldJudge(benchmark, chosen, options, setfit)
    settings = {"setfit": DEFAULTS} | ({"setfit-tuned": judge.tuned} if tuned else {})
    said = facts(Settings(methods=(OURS, *settings), folds=(chosen.name,), languages=tuple(codes)))
    said["versions"] |= {name: version(name) for name in PACKAGES}
    given = {"corpus": corpus, "shots": shots, "labels": labels, "rounds": rounds, "max_minutes": max_minutes}
    timings: list[Timing] = []
    with progress("SetFit beside metaglot", rounds * len(codes) * (1 + len(settings))) as advance:
        for number in range(rounds):
            for code in codes:
                for timing in turns(
                    artifact, setfit, judge.tasks[code], settings, shots, labels, number, max_minutes
                ):
                    timings.append(timing)
                    advance(1, f"{timing.method}, {code}: {timing.seconds:.1f} s")
                if json is not None:
                    write_json(json, {"options": given, **said, **summary(timings)})
    Console().print(_table(summary(timings)))


def uncached(artifact: Artifact) -> Artifact:
    """Return the artifact with an encoder that neither reads nor writes the feature cache."""
    encoder = load_encoder(artifact.model.encoder.name, cache=False)
    return replace(artifact, model=replace(artifact.model, encoder=encoder))


def turns(
    artifact: Artifact,
    setfit: SetFitBaseline,
    task: Task,
    settings: dict[str, Setting],
    shots: int,
    labels: int,
    number: int,
    max_minutes: float,
) -> list[Timing]:
    """Adapt every method to one support set of a language, in an order that rotates with `number`."""
    own = task.labels
    if labels and labels < len(own):
        order = generator("setfit time", task.language, number).permutation(len(own))
        own = tuple(sorted(own[place] for place in order[:labels]))
    rows = draw_support(task.pool, own, shots, 0, task.language, number)
    support = [task.pool[row] for row in rows.tolist()]
    test = [e for e in task.test if e.label in own]
    # Not timed: both have worked on such texts before the clock starts, and SetFit's pace is known.
    max_steps = setfit.steps_within(max_minutes, support)
    with silent():
        adapt(artifact, task.language, support, estimate=False)

    timing = partial(Timing, language=task.language, round=number, examples=len(support), labels=len(own))

    def ours() -> Timing:
        with silent():
            start, cpu_start = time.perf_counter(), time.process_time()
            adapted = adapt(artifact, task.language, support, estimate=False)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            found = predict(
                artifact, [e.text for e in test], task.language, top=1, adaptation=adapted.adaptation
            )
        right = [p.labels[0][0] == e.label for p, e in zip(found, test, strict=True)]
        return timing(OURS, seconds, cpu_seconds, seconds, sum(right) / len(right))

    def theirs(method: str, setting: Setting) -> Timing:
        fit = setfit.fit(support, setting, max_steps=max_steps, seed=number)
        accuracy = _accuracy(setfit.logits(fit, [e.text for e in test], own), test, own)
        whole = fit.seconds + (fit.planned - fit.steps) * fit.pace
        return timing(method, fit.seconds, fit.cpu_seconds, whole, accuracy, fit.steps, fit.planned)

    runs: list[Callable[[], Timing]] = [ours, *(lambda m=m, s=s: theirs(m, s) for m, s in settings.items())]
    start = number % len(runs)
    return [run() for run in (*runs[start:], *runs[:start])]


def summary(timings: Sequence[Timing]) -> dict[str, Any]:
    """Return all timings, each method's medians and mean accuracy, and its ratios to metaglot's.

    Ratios of times are medians of the ratios on single support sets, of accuracies the ratio of means.
    """
    by_method: defaultdict[str, list[Timing]] = defaultdict(list)
    for timing in timings:
        by_method[timing.method].append(timing)
    base = {(t.language, t.round): t for t in by_method[OURS]}
    accuracy = {method: statistics.mean(t.accuracy for t in found) for method, found in by_method.items()}
    methods = {}
    for method, found in by_method.items():
        pairs = [(t, base[t.language, t.round]) for t in found]
        methods[method] = {
            "seconds": statistics.median(t.seconds for t in found),
            "cpu_seconds": statistics.median(t.cpu_seconds for t in found),
            "whole_seconds": statistics.median(t.whole_seconds for t in found),
            "accuracy": accuracy[method],
            "complete": all(t.steps == t.planned for t in found),
            "times_as_long": statistics.median(t.seconds / o.seconds for t, o in pairs),
            "times_as_much_cpu": statistics.median(t.cpu_seconds / o.cpu_seconds for t, o in pairs),
            "times_as_long_whole": statistics.median(t.whole_seconds / o.seconds for t, o in pairs),
            "accuracy_ratio": accuracy[method] / accuracy[OURS] if accuracy[OURS] else None,
        }
    return {"methods": methods, "timings": [asdict(t) for t in timings]}


def _accuracy(logits: torch.Tensor, examples: Sequence[Example], labels: Sequence[str]) -> float:
    found = [labels[place] == e.label for place, e in zip(logits.argmax(-1).tolist(), examples, strict=True)]
    return sum(found) / len(found)


def _table(result: dict[str, Any]) -> Table:
    count = len({(t["language"], t["round"]) for t in result["timings"]})
    table = Table(title=f"from texts to an adapted model: {count} support set(s)")
    columns = ("", "seconds", "ratio", "CPU seconds", "ratio", "all steps, s", "ratio", "accuracy, %")
    for column in columns:
        table.add_column(column, justify="right")
    for method, m in result["methods"].items():
        whole = (
            ("", "") if m["complete"] else (f"{m['whole_seconds']:.0f}", f"{m['times_as_long_whole']:.0f}")
        )
        pairs = ("seconds", "times_as_long"), ("cpu_seconds", "times_as_much_cpu")
        shown = [text for value, ratio in pairs for text in (f"{m[value]:.2f}", f"{m[ratio]:.0f}")]
        table.add_row(method, *shown, *whole, f"{100 * m['accuracy']:.1f}")
    return table


if __name__ == "__main__":
    main(command)
