r"""SetFit as a baseline, on the harness's own draws, in the harness's format.

    pip install 'metaglot[setfit]'
    python -m benchmarks.fewshot.setfit_baseline --data DIR --corpus injongo --languages swh,hau \
        --shots 1,8 --draws 3 --max-minutes 3 --out benchmarks/results/fewshot/injongo-setfit.jsonl

Every support set starts from a fresh copy of the encoder's weights (see `setfit_fit.py`).

    setfit        the support set alone, SetFit's defaults
    setfit-tuned  the support set alone; pairs and learning rate are chosen once a fold, by accuracy on
                  episodes of 8 shots of a few of its source languages
    setfit-joint  a language-balanced sample of the sources beside the support set, which is repeated
                  until it counts as much; SetFit's defaults. With 0 shots the sources alone.

SetFit's default makes every pair of the support set: 93,000 for 39 intents × 8 examples, 5,900 steps,
hours on two cores. `--max-minutes` becomes a number of steps, by the measured pace of each language's texts,
which SetFit is given as its own `max_steps`, so that its learning rate is at its end when it stops.
Lines say the steps made, the steps that the setting asks for, and the seconds, of every fit.

Every fit is kept in metaglot's cache, so a run that was killed goes on with the next fit. One that
differs in anything (texts, encoder, setting, minutes) is another fit.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands import start
from benchmarks.fewshot import corpora
from benchmarks.fewshot.folds import Benchmark
from benchmarks.fewshot.results import ResultFile, Unit
from benchmarks.fewshot.run import Settings, facts
from benchmarks.fewshot.setfit_fit import SetFitBaseline
from benchmarks.fewshot.setfit_judge import METHODS, FoldJudge, Options
from metaglot.cli.options import split_names, split_numbers
from metaglot.encoders import load_encoder
from metaglot.errors import SettingsError, UnknownNameError, suggestion
from metaglot.evaluation.grid import check_grid
from metaglot.progress import progress

PACKAGES = ("setfit", "sentence-transformers", "accelerate")


def run(benchmark: Benchmark, options: Options, path: Path, setfit: SetFitBaseline) -> None:
    """Judge what has no line yet in the result file.

    Raises:
        MetaglotError: the options make no sense, or do not fit the results that are there.
    """
    corpus = benchmark.corpus
    _check(benchmark, options)
    chosen = ("max_minutes", "tuning_languages", "joint_examples")
    shared = Settings(
        encoder=options.encoder, methods=options.methods, folds=options.folds, languages=options.languages
    )
    file = ResultFile(
        path,
        {
            "corpus": corpus.name,
            "fingerprint": corpus.fingerprint,
            "shots": sorted(set(options.shots)),
            "draws": options.draws,
            "seed": options.seed,
            "setfit": {name: getattr(options, name) for name in chosen},
        },
    )
    left = [
        (fold, language, unit)
        for fold in benchmark.folds
        if fold.name in options.folds or not options.folds
        for language in fold.held_out
        if language in options.languages or not options.languages
        for method in options.methods
        if (unit := Unit(corpus.name, fold.name, shared.encoder_name, method, language)) not in file.done()
    ]
    if not left:
        return
    said = facts(shared)
    said["versions"] |= {name: version(name) for name in PACKAGES}
    file.add({"run": said})
    judge: FoldJudge | None = None
    with progress(f"SetFit on {corpus.name}", len(left)) as advance:
        for fold, language, unit in left:
            if judge is None or judge.fold is not fold:
                judge = FoldJudge(benchmark, fold, options, setfit)
            if unit.method == "setfit-tuned" and judge.trials is None:
                file.add({"run": {"setfit-tuned": {"fold": fold.name, "trials": judge.tune()}}})
            file.add(judge.row(unit, judge.tasks[language]))
            advance(1, f"fold {fold.name}: {unit.method}, {language}")


def _check(benchmark: Benchmark, options: Options) -> None:
    for names, known, what in (
        (options.methods, METHODS, "a way to use SetFit"),
        (options.folds, [fold.name for fold in benchmark.folds], "a fold"),
        (options.languages, [code for f in benchmark.folds for code in f.held_out], "a held-out language"),
    ):
        for name in names:
            if name not in known:
                raise UnknownNameError(
                    f"expected {what} ({', '.join(known)}), found {name!r}.", hint=suggestion(name, known)
                )
    check_grid(options.methods, options.shots, options.draws)
    if not any(options.shots) and set(options.methods) != {"setfit-joint"}:
        raise SettingsError("expected a number of shots above 0, found none: setfit-joint alone needs none.")
    if options.max_minutes <= 0 or options.tuning_languages < 1:
        raise SettingsError(
            "expected --max-minutes > 0 and --tuning-languages ≥ 1, "
            f"found {options.max_minutes} and {options.tuning_languages}."
        )


def command(
    corpus: Annotated[str, typer.Option(help=f"One of {', '.join(corpora.CORPORA)}.")],
    out: Annotated[Path, typer.Option(help="The result file; what it has already is not judged again.")],
    data: Annotated[Path | None, typer.Option(help="The folder that holds the corpora's folders.")] = None,
    encoder: Annotated[str, typer.Option(help="Of the results to stand beside.")] = Options.encoder,
    methods: Annotated[str, typer.Option(help="Ways to use SetFit.")] = ",".join(METHODS),
    shots: Annotated[str, typer.Option(help="Examples per label; 0 is for setfit-joint.")] = "1,8",
    draws: Annotated[int, typer.Option(help="The harness's first so many support sets.")] = Options.draws,
    seed: Annotated[int, typer.Option(help="Of the draws: the harness's.")] = Options.seed,
    languages: Annotated[str | None, typer.Option(help="Held-out languages; all by default.")] = None,
    folds: Annotated[str | None, typer.Option(help="Folds to run; all by default.")] = None,
    max_minutes: Annotated[
        float, typer.Option(help="The most that a fit's steps may take.")
    ] = Options.max_minutes,
    tuning_languages: Annotated[
        int, typer.Option(help="Source languages that a fold's setting is chosen on.")
    ] = Options.tuning_languages,
    joint_examples: Annotated[
        int, typer.Option(help="Examples of the sources for setfit-joint.")
    ] = Options.joint_examples,
) -> None:
    """Judge SetFit on held-out languages; write a line for each as it is done."""
    options = Options(
        encoder=encoder,
        methods=split_names(methods) or (),
        shots=tuple(split_numbers(shots)),
        draws=draws,
        seed=seed,
        folds=split_names(folds) or (),
        languages=split_names(languages) or (),
        max_minutes=max_minutes,
        tuning_languages=tuning_languages,
        joint_examples=joint_examples,
    )
    run(corpora.load(corpus, data), options, out, SetFitBaseline(load_encoder(encoder)))


def main(command: Callable[..., None]) -> None:
    """Run a function as a command."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    start(app)


if __name__ == "__main__":
    main(command)
