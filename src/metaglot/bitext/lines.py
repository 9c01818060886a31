"""Sentences by their lines: tables without a header, and files that go in step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from metaglot.bitext.columns import names_languages
from metaglot.data.encodings import read_lines
from metaglot.data.problems import Problems
from metaglot.data.readers import Row, read_rows
from metaglot.errors import Where

_SHOWN = 3


def has_header(path: Path, encoding: str) -> bool:
    """Tell whether a TSV begins with its columns' names: of sentences, fields or languages."""
    first = next(read_lines(path, encoding, Problems()), "")
    return names_languages([cell.strip().strip('"') for cell in first.split("\t")])


def read_two_columns(path: Path, encoding: str, problems: Problems) -> Iterator[Row]:
    """Yield the rows of a table as `source` and `target`: of a TSV without a header, or of any other file.

    In a table without a header a quote is a character like any other.
    """
    if path.suffix.lower() != ".tsv" or has_header(path, encoding):
        yield from read_rows(path, encoding, problems)
        return
    for number, line in enumerate(read_lines(path, encoding, problems), 1):
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) == 2:
            yield number, {"source": cells[0], "target": cells[1]}
        elif line.strip():
            problems.add(
                f"expected a sentence, a tab and its translation, found {len(cells)} cells.",
                Where(path, number),
                "A TSV with more columns needs a header that names them.",
            )


def read_in_step(files: Mapping[str, Path], encoding: str, problems: Problems) -> Iterator[Row]:
    """Yield the lines of several files side by side, as `{'translation': {language: line}}`.

    Args:
        files: language, as it is written in the file's name → the file.
        encoding: of all of them.
        problems: is told where one has more lines than another.
    """
    readers = {name: read_lines(path, encoding, problems) for name, path in files.items()}
    number = 0
    while True:
        before = problems.total
        lines = {name: next(reader, None) for name, reader in readers.items()}
        if problems.total > before or all(line is None for line in lines.values()):
            return
        if any(line is None for line in lines.values()):
            counts = {
                files[name].name: number + (line is not None) + sum(1 for _ in readers[name])
                for name, line in lines.items()
            }
            shown = ", ".join(f"{count:,} in {name}" for name, count in list(counts.items())[:_SHOWN])
            short = next(name for name, line in lines.items() if line is None)
            problems.add(
                f"expected as many lines in each file, found {shown}.",
                Where(files[short], number + 1),
                "A sentence and its translation stand on the same line of two files; one is cut short, or "
                "has a line too many before this.",
            )
            return
        number += 1
        yield number, {"translation": {name: str(line).rstrip("\r\n") for name, line in lines.items()}}
