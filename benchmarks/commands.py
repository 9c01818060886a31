"""Starting a benchmark's commands: what the user can mend is said in one piece."""

from __future__ import annotations

import sys

import typer

from metaglot.cli.console import err, escape
from metaglot.errors import MetaglotError


def start(app: typer.Typer) -> None:
    """Run a command; exit with 2 where the fault is the user's."""
    try:
        app()
    except MetaglotError as error:
        err.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
