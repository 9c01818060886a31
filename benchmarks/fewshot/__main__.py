"""The commands of the few-shot benchmark."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

# Threads that spin while they wait slow a busy machine down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from benchmarks.commands import start
from benchmarks.fewshot import corpora, tables
from benchmarks.fewshot.run import METHODS, SHOTS, Settings
from benchmarks.fewshot.run import run as judge
from benchmarks.markers import ROOT, renew
from metaglot.cli.options import split_names, split_numbers
from metaglot.kinds import KINDS
from metaglot.space import Shots

app = typer.Typer(
    name="python -m benchmarks.fewshot",
    help="Few-shot quality on public corpora, learners beside baselines on the same draws of examples.",
    epilog="Start with: python -m benchmarks.fewshot run --corpus home-assistant --shots 1,8 --draws 2 "
    "--methods auto,zero-shot,joint --out /tmp/first.jsonl",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    corpus: Annotated[str, typer.Option(help=f"One of {', '.join(corpora.CORPORA)}.")],
    out: Annotated[
        Path,
        typer.Option(
            help="The result file. What it has is not judged again: a stopped run goes on, and a "
            "method is added by naming it."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="The folder that holds injongo_intent/, masakhanews/ and sib200/.", show_default=False
        ),
    ] = None,
    encoder: Annotated[str, typer.Option(help="One encoder, or several joined by +.")] = Settings.encoder,
    methods: Annotated[str, typer.Option(help="Learners and baselines.")] = ",".join(METHODS),
    shots: Annotated[
        str | None,
        typer.Option(
            help="Examples per label, or sentences; 0 is zero-shot.",
            show_default="0,1,2,4,8,16,32, or 0,5,10,20,50",
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Random support sets per language and number of shots.")] = 10,
    seed: Annotated[int, typer.Option(help="Of training and draws.")] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Outer steps of every learner.", show_default="the learner's")
    ] = None,
    languages: Annotated[
        str | None, typer.Option(help="Judge these held-out languages alone.", show_default="all")
    ] = None,
    folds: Annotated[str | None, typer.Option(help="Run these folds alone.", show_default="all")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Judge the methods anew where they have results.")
    ] = False,
) -> None:
    """Judge methods on every held-out language of a corpus; write a line for each as it is done.

    Features are encoded once and kept in metaglot's cache. Two runs at a time need two files: the tables
    take all files of a folder together.

    [dim]python -m benchmarks.fewshot run --data DIR --corpus injongo --out injongo.jsonl[/dim]
    """
    benchmark = corpora.load(corpus, data)
    by: Shots = KINDS[benchmark.corpus.kind]().shots
    settings = Settings(
        encoder=encoder,
        methods=split_names(methods) or (),
        shots=SHOTS[by] if shots is None else tuple(split_numbers(shots)),
        draws=draws,
        seed=seed,
        steps=steps,
        folds=split_names(folds) or (),
        languages=split_names(languages) or (),
        again=again,
    )
    judge(benchmark, settings, out)


@app.command("tables")
def make_tables(
    results: Annotated[Path, typer.Option(help="The folder of the result files.")] = tables.RESULTS,
    plots: Annotated[bool, typer.Option(help="Draw the plots too.")] = True,
) -> None:
    """Renew the tables of the documentation, and its plots, from the result files.

    A page says where a table goes by a pair of comments such as <!-- fewshot-injongo:start --> and
    <!-- fewshot-injongo:end -->; see benchmarks/fewshot/tables.py for the names.
    """
    found = tables.load(results)
    renew(lambda page: tables.filled(page, results))
    if plots:
        for path in tables.plots(found):
            print(f"{path.relative_to(ROOT)}: drawn")


@app.command()
def show(
    files: Annotated[list[Path], typer.Argument(help="Result files.")],
) -> None:
    """Print the tables of some result files, complete or not."""
    made = tables.tables(tables.load(*files))
    for name, table in made.items():
        print(f"\n{name}\n\n{table()}")


def main() -> None:
    """Run a command."""
    start(app)


if __name__ == "__main__":
    main()
