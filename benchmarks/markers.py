"""Tables in the documentation: a page says where one goes, and what stands there is replaced.

A pair of comments, `<!-- NAME:start -->` and `<!-- NAME:end -->`, is a table's place. A page without
the pair is left alone, and a table whose result file is missing is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from metaglot.evaluation.report import Cell
from metaglot.storage import write_text

ROOT = Path(__file__).parent.parent


def pages() -> list[Path]:
    """Return the pages that may have tables."""
    return [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]


def fill(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return a page's text with those of the tables that it has a place for made anew."""
    for name, table in tables.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if start in text:
            between = f"{start}\n\n{table()}\n{end}"
            text = re.sub(re.escape(start) + ".*?" + re.escape(end), lambda _, b=between: b, text, flags=re.S)
    return text


def renew(filled: Callable[[Path], str]) -> None:
    """Rewrite every page that `filled` gives another text for."""
    for page in pages():
        if (text := filled(page)) != page.read_text(encoding="utf-8"):
            write_text(page, text)
            print(f"{page.relative_to(ROOT)}: tables renewed")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, the first column to the left and the others to the right."""
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ruler, *rows])


def percent(cell: Cell | None, *, bold: bool) -> str:
    """Return a mean in percent with half of its interval, where draws make one."""
    if cell is None:
        return "–"
    half = 100 * (cell.high - cell.low) / 2
    text = f"{100 * cell.mean:.1f}" + (f" ±{half:.1f}" if cell.draws > 1 and half > 0 else "")
    return f"**{text}**" if bold else text
