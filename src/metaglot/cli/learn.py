"""Commands that learn: train, evaluate, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from metaglot.cli import writing
from metaglot.cli.console import out, said_by, say, show_notices
from metaglot.cli.options import (
    Columns,
    EncoderOption,
    Encoding,
    HeldOut,
    Into,
    KindOption,
    Mend,
    OptionalCorpus,
    OutOf,
    Parallel,
    RecipeOption,
    Seed,
    Settings,
    SourcesOption,
    Steps,
    recipe_corpus,
    recipe_from,
    split_names,
    split_numbers,
)
from metaglot.errors import SettingsError

# At what k methods are judged, by what k counts.
SHOTS = {"label": "0,1,4,8,16", "example": "0,5,10,20,50"}


def train(
    corpus: OptionalCorpus = None,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write the trained model to.", show_default=False),
    ] = None,
    held_out: HeldOut = None,
    sources: SourcesOption = None,
    learner: Annotated[
        str | None,
        typer.Option(help="See `metaglot list learners`.", show_default="auto; fomaml for models that write"),
    ] = None,
    encoder: EncoderOption = None,
    kind: KindOption = None,
    column: Columns = None,
    mend: Mend = False,
    encoding: Encoding = None,
    parallel: Parallel = None,
    recipe: RecipeOption = None,
    seed: Seed = None,
    steps: Steps = None,
    rate: Annotated[
        float | None, typer.Option(help="What the outer rates are multiplied by.", show_default=False)
    ] = None,
    settings: Settings = None,
    log: Annotated[
        Path | None,
        # Not `--log`, which torchrun takes for an option of its own.
        typer.Option("--log-folder", help="Log every step to log.jsonl in this folder.", show_default=False),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(help="Log to this too: tensorboard or wandb; needs --log-folder.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write every language's learning curve to this file.", show_default=False),
    ] = None,
    into: Into = None,
    out_of: OutOf = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an artifact and its adaptations.")] = False,
) -> None:
    """Learn from the source languages how to learn another one.

    Stopped with Ctrl-C, or killed, the same command goes on where it was.

    [dim]metaglot train home-assistant --held-out tha,eus --out assistant[/dim]
    [dim]metaglot train django --kind translation --out-of eng --held-out swh --out drafts[/dim]
    """
    from metaglot import artifact
    from metaglot.checkpoint import Checkpoint
    from metaglot.distributed import processes
    from metaglot.evaluation.report import check_plot
    from metaglot.history import plot_curves
    from metaglot.run_log import RunLog
    from metaglot.training import fit, make_learner
    from metaglot.training import train as run

    if out_dir is None:
        raise SettingsError("expected --out DIR, a folder to write the trained model to, found none.")
    if track is not None and log is None:
        raise SettingsError("expected --log-folder DIR with --track, found none.")
    if plot is not None:
        check_plot(plot)
    run_log = None if log is None else RunLog(log, track)
    first = processes().first
    given: dict[str, Any] = {
        "corpus": corpus,
        "kind": kind,
        "held_out": held_out,
        "sources": sources,
        "column": column,
        "settings": settings,
        "learner": learner,
        "encoding": encoding,
        "train.seed": seed,
        "train.steps": steps,
        "train.rate": rate,
    }
    if writing.is_writing(kind, recipe):
        if mend or parallel is not None:
            raise SettingsError(f"--mend and --parallel are not for the kind {kind!r}.")
        with said_by(first):
            wanted = writing.recipe_from(recipe, source=encoder, into=into, out_of=out_of, **given)
            writing.train(wanted, out_dir, log=run_log, plot=plot, overwrite=overwrite)
        return
    if into is not None or out_of is not None:
        raise SettingsError("--into and --out-of are for --kind translation.")
    chosen = recipe_from(recipe, mend=mend, encoder=encoder, parallel=parallel, **given)
    # What is wrong is said before anything is read.
    make_learner(chosen)
    artifact.check_free(out_dir, overwrite=overwrite)
    with said_by(first):
        loaded = recipe_corpus(chosen)
        fitted = fit(loaded, chosen)
        show_notices(fitted.space.notices)
        checkpoint = out_dir.with_name(f".{out_dir.name}.checkpoint.safetensors")
        made = run(loaded, chosen, fitted=fitted, checkpoint=checkpoint, log=run_log)
    if not first:
        return
    artifact.save(made, out_dir, overwrite=overwrite)
    Checkpoint(checkpoint).remove()
    if plot is not None:
        plot_curves(made.facts["training"], plot)
    facts = made.facts
    say(
        f"Learned from {len(facts['sources'])} languages and {len(made.model.labels)} labels with "
        f"{chosen.learner}. On a source language, a head learned from the others has "
        f"{facts['metrics']['metric'].replace('_', ' ')} {facts['metrics']['cross_fitted']:.1%}.\n"
        f"Saved in {out_dir}. Next: metaglot adapt {out_dir} --language CODE --examples FILE"
    )


def evaluate(
    corpus: OptionalCorpus = None,
    held_out: HeldOut = None,
    sources: SourcesOption = None,
    learners: Annotated[
        str | None,
        typer.Option(help="Names, or 'all'.", show_default="auto; fomaml for models that write"),
    ] = None,
    baselines: Annotated[str, typer.Option(help="Names, 'all' or 'none'.")] = "all",
    shots: Annotated[
        str | None,
        typer.Option(
            help="Examples per label, sentences, pairs of sentences, or kilobytes of text.",
            show_default="0,1,4,8,16, or 0,5,10,20,50 sentences, 0,100,500 pairs, 0,1,4,16 kilobytes",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Random support sets per language and number of shots.",
            show_default="10; 1 for models that write",
        ),
    ] = None,
    into: Into = None,
    out_of: OutOf = None,
    encoder: EncoderOption = None,
    kind: KindOption = None,
    column: Columns = None,
    mend: Mend = False,
    encoding: Encoding = None,
    parallel: Parallel = None,
    recipe: RecipeOption = None,
    seed: Seed = None,
    steps: Steps = None,
    settings: Settings = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every record to this file.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a plot (png, svg, pdf) to this file.", show_default=False)
    ] = None,
) -> None:
    """Judge learners beside baselines on held-out languages, at every number of examples.

    [dim]metaglot evaluate home-assistant --held-out tha,eus,vie --learners auto,maml --json grid.json[/dim]
    """
    from metaglot.distributed import processes
    from metaglot.evaluation.baselines import BASELINES, default_baselines
    from metaglot.evaluation.grid import check_grid, run_grid
    from metaglot.evaluation.report import UNITS, Report, check_plot
    from metaglot.learners import LEARNERS
    from metaglot.training import evaluation_facts, fit, fitting_learners, train_learners

    given: dict[str, Any] = {
        "corpus": corpus,
        "kind": kind,
        "held_out": held_out,
        "sources": sources,
        "column": column,
        "settings": settings,
        "encoding": encoding,
        "train.seed": seed,
        "train.steps": steps,
    }
    if plot is not None:
        check_plot(plot)
    if writing.is_writing(kind, recipe):
        if mend or parallel is not None:
            raise SettingsError(f"--mend and --parallel are not for the kind {kind!r}.")
        wanted = writing.recipe_from(recipe, source=encoder, into=into, out_of=out_of, **given)
        writing.evaluate(wanted, learners, baselines, shots, draws=draws, json_file=json_file, plot=plot)
        return
    if into is not None or out_of is not None:
        raise SettingsError("--into and --out-of are for --kind translation.")
    chosen = recipe_from(recipe, mend=mend, encoder=encoder, parallel=parallel, **given)
    learners, draws = "auto" if learners is None else learners, 10 if draws is None else draws
    names = fitting_learners() if learners == "all" else list(split_names(learners) or ())
    for name in names:
        LEARNERS[name]
    named = () if baselines in {"all", "none"} else split_names(baselines) or ()
    for name in named:
        BASELINES[name]
    counts = split_numbers(SHOTS["label"] if shots is None else shots)
    check_grid([*names, *(["all"] if baselines == "all" else named)], counts, draws)
    if not chosen.held_out:
        raise SettingsError("expected --held-out LANGUAGES to evaluate on, found none.")
    first = processes().first
    with said_by(first):
        fitted = fit(recipe_corpus(chosen), chosen)
        show_notices(fitted.space.notices)
        counts = split_numbers(SHOTS[fitted.sources.model.kind.shots] if shots is None else shots)
        trained = train_learners(fitted, chosen, names)
    if not first:
        return
    compared = default_baselines(fitted.sources.model) if baselines == "all" else named
    records = run_grid(
        fitted.sources,
        fitted.space,
        {name: (learner, result.meta) for name, (learner, result) in trained.items()},
        baselines=compared,
        shots=counts,
        draws=draws,
        seed=chosen.train.seed,
    )
    report = Report(records, unit=UNITS[fitted.sources.model.kind.shots])
    out.print(report.table())
    for line in report.difference_lines():
        say(line)
    if json_file is not None:
        from metaglot.storage import write_json

        facts = evaluation_facts(fitted, chosen)
        write_json(
            json_file, facts | {"summary": report.summary(), "records": [r.as_dict() for r in records]}
        )
    if plot is not None:
        report.plot(plot)


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where to put the demo's files.")] = Path(
        "demo-output"
    ),
    draws: Annotated[int, typer.Option(help="Random support sets per language and number of shots.")] = 5,
) -> None:
    """Run the main job on real data, offline: 20 languages teach how to learn 6 others."""
    from metaglot.demo import run

    run(folder, draws=draws, console=out)
