"""Where the command line writes: results to the output, everything else to the error stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

out = Console()
err = Console(stderr=True)

__all__ = ["err", "escape", "out", "print_json", "say", "show_notices"]


def show_notices(notices: Sequence[str]) -> None:
    """Print what the user should know, a line each."""
    for notice in notices:
        err.print(f"[yellow]note:[/yellow] {escape(notice)}", highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a sentence as it is, without markup."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
