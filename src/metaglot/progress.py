"""Progress bars on long work, on the error stream, so that what a program prints stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(stderr=True)
_current: ContextVar[Progress | None] = ContextVar("progress", default=None)
_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """Show no bars inside the block (programs that read `--json`, tests)."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs; yield `advance(steps=1, note="")`.

    Bars nest: one opened inside another is drawn below it. On a stream that is no terminal only
    the finished line is written.
    """
    if _silent.get():
        yield lambda steps=1, note="": None
        return
    outer = _current.get()
    bars = outer or Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        transient=False,
    )
    token = _current.set(bars)
    if outer is None:
        bars.start()
    row = bars.add_task(description, total=total, note="")

    def advance(steps: int = 1, note: str = "") -> None:
        bars.update(row, advance=steps)
        if note:
            bars.update(row, note=note)

    try:
        yield advance
    finally:
        _current.reset(token)
        if outer is None:
            bars.stop()
        else:
            bars.remove_task(row)
