"""Where the command line writes: results to the output, everything else to the error stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape

from metaglot.progress import silent

out = Console()
err = Console(stderr=True)

__all__ = ["err", "escape", "out", "print_json", "said_by", "say", "show_notices"]


@contextmanager
def said_by(first: bool) -> Iterator[None]:
    """Leave all but errors unsaid inside the block, unless this is the first process of a run."""
    if first:
        yield
        return
    before, out.quiet = out.quiet, True
    try:
        with silent():
            yield
    finally:
        out.quiet = before


def show_notices(notices: Sequence[str]) -> None:
    """Print what the user should know, a line each."""
    if out.quiet:  # another process of the run says it
        return
    for notice in notices:
        err.print(f"[yellow]note:[/yellow] {escape(notice)}", highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a sentence as it is, without markup."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
