"""The application: its commands by name, and what becomes of an error."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import metaglot
from metaglot.cli import learn, look, search, tune, use, writing
from metaglot.cli.console import err, escape, out
from metaglot.errors import MetaglotError

# Threads that spin while they wait slow a busy machine down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What typer raises for wrong usage. Its newer versions carry a click of their own, so the class is
# taken from where both have it: BadParameter < UsageError < ClickException.
_Usage: Any = typer.BadParameter.__mro__[2]

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
app.command()(tune.tune)
app.command()(learn.train)
app.command()(search.search)
app.command()(use.adapt)
app.command()(use.predict)
app.command()(writing.translate)
app.command()(writing.generate)
app.command()(learn.evaluate)
app.command("list")(look.list_names)
app.command()(learn.demo)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
data_app.command("inspect")(look.data_inspect)
cache_app.command("show")(look.cache_show)
cache_app.command("clear")(look.cache_clear)


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
        err.print(f"[bold red]error:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
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
            f"[bold red]unexpected error:[/bold red] {type(error).__name__}: {escape(str(error))}\n"
            "This is a bug of metaglot. METAGLOT_DEBUG=1 shows where; please report it with that.",
            highlight=False,
        )
        code = 1
    if code == 130:  # which newer versions of typer return, and older ones raise
        err.print("stopped; nothing that was saved is lost. The same command goes on where it can.")
    sys.exit(code if isinstance(code, int) else 0)
