"""The command line. It reads options, calls public functions, and prints; nothing else happens here."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import metaglot
from metaglot.errors import MetaglotError, SettingsError

if TYPE_CHECKING:
    from metaglot.config import Recipe
    from metaglot.types import Corpus

# Threads that spin while they wait slow a busy machine down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    name="metaglot",
    help="Teach a model a new language from a handful of examples.",
    epilog="Start with: metaglot data inspect home-assistant    then: metaglot train --help",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at data before training on them.", no_args_is_help=True)
cache_app = typer.Typer(help="See and clear the features kept on disk.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
# What typer raises for wrong usage. Its newer versions carry a click of their own, so the class is
# taken from where both have it: BadParameter < UsageError < ClickException.
_Usage: Any = typer.BadParameter.__mro__[2]
out = Console()
err = Console(stderr=True)

_CORPUS = typer.Argument(
    help="A built-in corpus (`metaglot list corpora`); a CSV, TSV, JSONL or Parquet file with a language "
    "column; a folder <language>/{train,dev,test}.jsonl; or hf:NAME[:config].",
    show_default=False,
)
CorpusArgument = Annotated[str, _CORPUS]
OptionalCorpus = Annotated[str | None, _CORPUS]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="FIELD=COLUMN, e.g. text=headline+text or label=intent; may be repeated.",
        show_default=False,
    ),
]
HeldOut = Annotated[
    str | None,
    typer.Option(help="Languages not to learn from, by code or name: swh,yor", show_default=False),
]
SourcesOption = Annotated[
    str | None,
    typer.Option(
        "--sources", help="Languages to learn from; every other one by default.", show_default=False
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", help="One or several joined by +; by default e5-small+ngrams.", show_default=False
    ),
]
Parallel = Annotated[
    bool | None,
    typer.Option(
        "--parallel/--no-parallel",
        help="Whether one id has the same content in every language; found out by default.",
        show_default=False,
    ),
]
RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", help="A TOML recipe; options override it.", show_default=False)
]
Seed = Annotated[int | None, typer.Option(help="Of everything random; 0 by default.", show_default=False)]
Steps = Annotated[int | None, typer.Option(help="Outer steps.", show_default=False)]
Encoding = Annotated[str | None, typer.Option(help="Of text files; UTF-8 by default.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


@data_app.command("inspect")
def data_inspect(
    corpus: CorpusArgument,
    column: Columns = None,
    parallel: Parallel = None,
    encoding: Encoding = "utf-8",
    as_json: Json = False,
) -> None:
    """Show languages × labels × splits, lengths, scripts, duplicates and leaks, and what to beware of."""
    from metaglot.data.inspect import inspect, render

    loaded = _corpus(corpus, _mapping(column), parallel, encoding=encoding or "utf-8")
    inspection = inspect(loaded)
    if as_json:
        _print_json(inspection.to_dict())
    else:
        out.print(render(inspection))


@app.command()
def train(
    corpus: OptionalCorpus = None,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write the trained model to.", show_default=False),
    ] = None,
    held_out: HeldOut = None,
    sources: SourcesOption = None,
    learner: Annotated[
        str | None, typer.Option(help="See `metaglot list learners`; auto by default.", show_default=False)
    ] = None,
    encoder: EncoderOption = None,
    column: Columns = None,
    encoding: Encoding = None,
    parallel: Parallel = None,
    recipe: RecipeOption = None,
    seed: Seed = None,
    steps: Steps = None,
    rate: Annotated[
        float | None, typer.Option(help="What the outer rates are multiplied by.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an artifact and its adaptations.")] = False,
) -> None:
    """Learn from the source languages how to learn another one.

    Stopped with Ctrl-C, the same command goes on where it was.

    [dim]metaglot train home-assistant --held-out tha,eus --out assistant[/dim]
    """
    from metaglot import artifact
    from metaglot.training import fit
    from metaglot.training import train as run

    if out_dir is None:
        raise SettingsError("expected --out DIR, a folder to write the trained model to, found none.")
    chosen = _recipe(
        recipe,
        corpus=corpus,
        held_out=_names(held_out),
        sources=_names(sources),
        learner=learner,
        encoder=encoder,
        columns=_mapping(column),
        encoding=encoding,
        parallel=parallel,
        **{"train.seed": seed, "train.steps": steps, "train.rate": rate},
    )
    artifact.check_free(out_dir, overwrite=overwrite)
    loaded = _recipe_corpus(chosen)
    fitted = fit(loaded, chosen)
    _notices(fitted.space.notices)
    made = run(
        loaded, chosen, fitted=fitted, checkpoint=out_dir.with_name(f".{out_dir.name}.checkpoint.safetensors")
    )
    artifact.save(made, out_dir, overwrite=overwrite)
    facts = made.facts
    _say(
        f"Learned from {len(facts['sources'])} languages and {len(made.model.labels)} labels with "
        f"{chosen.learner}. On a source language, a head learned from the others is right in "
        f"{facts['metrics']['cross_fitted_accuracy']:.1%} of the cases.\nSaved in {out_dir}. Next: "
        f"metaglot adapt {out_dir} --language CODE --examples FILE"
    )


@app.command()
def adapt(
    folder: Annotated[Path, typer.Argument(help="A trained model's folder.", show_default=False)],
    language: Annotated[str, typer.Option(help="Code or name of the new language.", show_default=False)],
    examples: Annotated[
        Path, typer.Option(help="CSV, TSV, JSONL or Parquet with text and label.", show_default=False)
    ],
    column: Columns = None,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="Also predict the model's labels that have no example here.")
    ] = False,
    new_labels: Annotated[
        bool, typer.Option("--new-labels", help="Take labels that look misspelt for new ones.")
    ] = False,
    encoding: Encoding = "utf-8",
    as_json: Json = False,
) -> None:
    """Adapt a trained model to a language from a few examples per label, and save the adaptation.

    [dim]metaglot adapt assistant --language swh --examples swahili.csv[/dim]
    """
    import time

    from metaglot import adapting, artifact
    from metaglot.data import load_examples
    from metaglot.languages import language_name

    loaded = artifact.load(folder)
    code, _ = adapting.language_code(loaded, language)
    rows = load_examples(examples, language=code, columns=_mapping(column), encoding=encoding or "utf-8")
    loaded.model.features([e.text for e in rows], f"encoding {language_name(code)}")
    start = time.perf_counter()
    made = adapting.adapt(
        loaded, language, rows, all_labels=all_labels, new_labels=new_labels, estimate=False
    )
    seconds = time.perf_counter() - start
    made = adapting.adapt(loaded, language, rows, all_labels=all_labels, new_labels=new_labels)
    file = artifact.save_adaptation(made.adaptation, folder)
    estimate = made.adaptation.estimate
    if as_json:
        _print_json(
            {
                "language": code,
                "labels": made.adaptation.labels,
                "examples": len(rows),
                "seconds": round(seconds, 4),
                "bytes": file.stat().st_size,
                "estimate": estimate,
                "notices": made.notices,
                "file": str(file),
            }
        )
        return
    _notices(made.notices)
    _say(
        f"Adapted to {language_name(code)} ({code}): {len(rows)} examples, {len(made.adaptation.labels)} "
        f"labels, {seconds:.2f} s, {file.stat().st_size / 1024:.0f} KB in {file}."
    )
    if estimate is not None:
        _say(f"Estimated by cross-validation on the examples: {adapting.Estimate(**estimate)}.")


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="A trained model's folder.", show_default=False)],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.", show_default=False)] = None,
    language: Annotated[str, typer.Option(help="Code or name.", show_default=False)] = "",
    source: Annotated[
        Path | None,
        typer.Option(
            "--input", help="A text file, a line each, or a table with a text column.", show_default=False
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="How many labels to show for a text.")] = 3,
    column: Columns = None,
    encoding: Encoding = "utf-8",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Predict labels with calibrated probabilities; zero-shot in a language that was never adapted.

    [dim]metaglot predict assistant --language swh "washa taa jikoni"[/dim]
    """
    from metaglot import adapting, artifact
    from metaglot.data import read_texts
    from metaglot.languages import language_name

    if not language:
        raise SettingsError("expected --language, the code or name of the texts' language, found none.")
    if bool(texts) == (source is not None):
        raise SettingsError(
            "expected either texts or --input FILE, found " + ("both." if texts else "neither.")
        )
    loaded = artifact.load(folder)
    code, notices = adapting.language_code(loaded, language)
    text_column = (_mapping(column) or {}).get("text")
    rows = texts or list(
        read_texts(source, column=text_column, encoding=encoding or "utf-8") if source else ()
    )
    found = adapting.predict(loaded, rows, language, top=top)
    if as_json:
        for prediction in found:
            sys.stdout.write(json.dumps(prediction.as_dict(), ensure_ascii=False) + "\n")
        return
    if code not in loaded.adaptations:
        notices = [
            *notices,
            f"{language_name(code)} ({code}) was never adapted: these are zero-shot predictions, "
            "from the other languages alone.",
        ]
    _notices(notices)
    table = Table(box=None, pad_edge=False)
    table.add_column("text", overflow="fold")
    for number in range(min(top, max((len(p.labels) for p in found), default=1))):
        table.add_column("label" if number == 0 else "", overflow="fold")
    for prediction in found:
        labels = [
            Text(f"{label} {chance:.0%}", style="dim" if place else "bold")
            for place, (label, chance) in enumerate(prediction.labels)
        ]
        table.add_row(Text(prediction.text), *labels)
    out.print(table)


@app.command()
def evaluate(
    corpus: OptionalCorpus = None,
    held_out: HeldOut = None,
    sources: SourcesOption = None,
    learners: Annotated[str, typer.Option(help="Names, or 'all'.")] = "auto",
    baselines: Annotated[str, typer.Option(help="Names, 'all' or 'none'.")] = "all",
    shots: Annotated[str, typer.Option(help="Examples per label.")] = "0,1,4,8,16",
    draws: Annotated[int, typer.Option(help="Random support sets per language and number of shots.")] = 10,
    encoder: EncoderOption = None,
    column: Columns = None,
    encoding: Encoding = None,
    parallel: Parallel = None,
    recipe: RecipeOption = None,
    seed: Seed = None,
    steps: Steps = None,
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
    from metaglot.evaluation.baselines import BASELINES, default_baselines
    from metaglot.evaluation.grid import check_grid, run_grid
    from metaglot.evaluation.report import Report, check_plot
    from metaglot.learners import LEARNERS
    from metaglot.training import evaluation_facts, fit, train_learners

    chosen = _recipe(
        recipe,
        corpus=corpus,
        held_out=_names(held_out),
        sources=_names(sources),
        encoder=encoder,
        columns=_mapping(column),
        encoding=encoding,
        parallel=parallel,
        **{"train.seed": seed, "train.steps": steps},
    )
    names = list(LEARNERS) if learners == "all" else list(_names(learners) or ())
    for name in names:
        LEARNERS[name]
    named = () if baselines in {"all", "none"} else _names(baselines) or ()
    for name in named:
        BASELINES[name]
    counts = _numbers(shots)
    check_grid([*names, *(["all"] if baselines == "all" else named)], counts, draws)
    if not chosen.held_out:
        raise SettingsError("expected --held-out LANGUAGES to evaluate on, found none.")
    if plot is not None:
        check_plot(plot)
    fitted = fit(_recipe_corpus(chosen), chosen)
    _notices(fitted.space.notices)
    trained = train_learners(fitted, chosen, names)
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
    report = Report(records)
    out.print(report.table())
    for line in report.difference_lines():
        _say(line)
    if json_file is not None:
        from metaglot.storage import write_json

        facts = evaluation_facts(fitted, chosen)
        write_json(
            json_file, facts | {"summary": report.summary(), "records": [r.as_dict() for r in records]}
        )
    if plot is not None:
        report.plot(plot)


@app.command("list")
def list_names(
    what: Annotated[
        str, typer.Argument(help="learners, kinds, encoders, corpora or baselines", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """List what there is by name."""
    from metaglot.data import CORPORA
    from metaglot.encoders import ENCODERS
    from metaglot.errors import UnknownNameError, suggestion
    from metaglot.evaluation.baselines import BASELINES
    from metaglot.kinds import KINDS
    from metaglot.learners import LEARNERS

    registries = {
        "learners": LEARNERS,
        "kinds": KINDS,
        "encoders": ENCODERS,
        "corpora": CORPORA,
        "baselines": BASELINES,
    }
    if what not in registries:
        raise UnknownNameError(
            f"expected one of {', '.join(registries)}, found {what!r}.", hint=suggestion(what, registries)
        )
    described = registries[what].describe()
    if as_json:
        _print_json(described)
        return
    table = Table("name", "", box=None, pad_edge=False)
    for name, text in described.items():
        table.add_row(Text(name, style="bold"), Text(text))
    out.print(table)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where to put the demo's files.")] = Path(
        "demo-output"
    ),
    draws: Annotated[int, typer.Option(help="Random support sets per language and number of shots.")] = 5,
) -> None:
    """Run the main job on real data, offline: 20 languages teach how to learn 6 others."""
    from metaglot.demo import run

    run(folder, draws=draws, console=out)


@cache_app.command("show")
def cache_show(as_json: Json = False) -> None:
    """Show what is kept, and where."""
    from metaglot.encoders.cache import features_root, limit_bytes, usage

    rows = usage()
    if as_json:
        found = [{"encoder": u.encoder, "texts": u.texts, "bytes": u.bytes} for u in rows]
        _print_json({"folder": str(features_root()), "limit": limit_bytes(), "encoders": found})
        return
    table = Table("encoder", "texts", "size", title=Text(f"features in {features_root()}"))
    for u in rows:
        table.add_row(Text(u.encoder), f"{u.texts:,}", f"{u.bytes / 2**20:.1f} MB")
    out.print(table)
    out.print(f"limit {limit_bytes() / 2**30:.1f} GB (METAGLOT_CACHE_LIMIT)")


@cache_app.command("clear")
def cache_clear(
    encoder: Annotated[str | None, typer.Option(help="Only this encoder's.", show_default=False)] = None,
) -> None:
    """Remove kept features; they are made again when they are needed."""
    from metaglot.encoders.cache import clear

    out.print(f"freed {clear(encoder) / 2**20:.1f} MB")


def _version(shown: bool) -> None:
    if shown:
        out.print(f"metaglot {metaglot.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 0, or 2 for the user's faults, 130 after Ctrl-C, 1 for ours."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Halves of characters and other letters than the stream's are shown as \ud83d, as in JSON.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except MetaglotError as error:
        err.print(f"[bold red]error:[/bold red] {_escape(str(error))}", highlight=False, soft_wrap=True)
        code = 2
    except _Usage as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except SystemExit as error:
        # The command line's library ends so once the reader of our output has left (`| head`).
        code = 0 if isinstance(error.__context__, BrokenPipeError) else error.code
    except BrokenPipeError:
        # The reader of our output has left (`| head`): nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # the last resort: a bug is said to be one
        if os.environ.get("METAGLOT_DEBUG"):
            traceback.print_exc()
        err.print(
            f"[bold red]unexpected error:[/bold red] {type(error).__name__}: {_escape(str(error))}\n"
            "This is a bug of metaglot. METAGLOT_DEBUG=1 shows where; please report it with that.",
            highlight=False,
        )
        code = 1
    if code == 130:  # which newer versions of typer return, and older ones raise
        err.print("stopped; nothing that was saved is lost. The same command goes on where it can.")
    sys.exit(code if isinstance(code, int) else 0)


def _recipe(path: Path | None, **overrides: Any) -> Recipe:
    from metaglot.config import read_recipe

    if path is None and overrides.get("corpus") is None:
        raise SettingsError("expected CORPUS or --recipe FILE, found neither.")
    return read_recipe(path, overrides)


def _recipe_corpus(recipe: Recipe) -> Corpus:
    return _corpus(
        recipe.corpus,
        recipe.columns,
        recipe.parallel,
        encoding=recipe.encoding,
        options=recipe.corpus_options,
    )


def _corpus(spec: str, columns: dict[str, str] | None, parallel: bool | None, **options: Any) -> Corpus:
    from metaglot.data import load_corpus

    loaded = load_corpus(spec, columns=columns, parallel=parallel, **options)
    _notices(loaded.notices)
    return loaded


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in _names(text) or ()]
    except ValueError as error:
        raise SettingsError(f"expected numbers such as 0,1,4,8,16, found {text!r}.") from error


def _mapping(pairs: list[str] | None) -> dict[str, str] | None:
    if not pairs:
        return None
    found = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or not field:
            raise SettingsError(f"expected --column FIELD=COLUMN, such as text=utterance, found {pair!r}.")
        found[field.strip()] = column.strip()
    return found


def _notices(notices: Sequence[str]) -> None:
    for notice in notices:
        err.print(f"[yellow]note:[/yellow] {_escape(notice)}", highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    main()
