"""What is to be predicted: examples without their answers, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from metaglot.data.columns import check_kind, check_mapping, find_columns, require
from metaglot.data.contents import Content, content_of
from metaglot.data.encodings import read_lines
from metaglot.data.entities import entities_of_text
from metaglot.data.fields import Fault
from metaglot.data.files import existing
from metaglot.data.problems import Problems
from metaglot.data.readers import read_rows
from metaglot.errors import DataError, Where
from metaglot.types import Example


def read_texts(path: str | Path, *, column: str | None = None, encoding: str = "utf-8") -> Iterator[str]:
    """Yield the texts of a file, one by one: a table's text column, or the lines of a `.txt` file.

    An empty line of a `.txt` file is an empty text, so that what is made of them lines up.

    Args:
        path: a CSV, TSV, JSON-lines, Parquet or `.txt` file.
        column: the text's, where it has no usual name.
        encoding: of a text file.

    Raises:
        DataError: the file cannot be read; texts before the fault have been given by then.
    """
    columns = {"text": column} if column else {}
    for example in read_examples_to_predict(path, "classification", columns=columns, encoding=encoding):
        yield example.text


def read_examples_to_predict(
    path: str | Path,
    kind: str,
    *,
    language: str = "",
    columns: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
) -> Iterator[Example]:
    """Yield the examples of a file, one by one, with all that is given of them and nothing that is asked.

    That is the text; a pair's second text; a relation's two entities; the tokens, where the data have
    some and the kind has use for them. Labels, tags, spans and meanings are neither needed nor looked at.
    A `.txt` file has a text on each line (a relation's with its entities marked), and an empty line is
    an empty text. Ids are numbers, from 1.

    Args:
        path: a file of any format of `load_corpus`, or a `.txt` file.
        kind: of the examples.
        language: the code that they get, as it is.
        columns: as for `load_corpus`.
        encoding: of a text file.

    Raises:
        DataError: the file cannot be read; examples before the fault have been given by then.
        SettingsError: an option makes no sense.
    """
    check_kind(kind)
    mapping = dict(columns or {})
    check_mapping(mapping)
    file = existing(str(path))
    problems = Problems()
    read = _lines if file.suffix.lower() == ".txt" else _rows
    for number, (text, _, pair, spans, tokens, *_) in enumerate(
        read(file, kind, mapping, encoding, problems), 1
    ):
        yield Example(str(number), text, "", language, spans=spans, tokens=tokens, pair=pair)
    problems.raise_any()


def examples_to_predict(texts: Sequence[str], kind: str, *, language: str = "") -> list[Example]:
    """Return what is to be predicted of texts, as `read_examples_to_predict` does of a file's rows.

    Args:
        texts: of pairs the first and the second in turn; of relations with their entities marked.
        kind: of the examples.
        language: the code that they get, as it is.

    Raises:
        DataError: an odd number of texts for pairs, or a text without its two entities.
    """
    if kind == "pairs":
        if len(texts) % 2:
            raise DataError(
                f"expected two texts for each pair, found {len(texts)}.",
                hint='Give the first and the second in turn: "premise" "hypothesis".',
            )
        both = list(zip(texts[::2], texts[1::2], strict=True))
        return [Example(str(n), one, "", language, pair=other) for n, (one, other) in enumerate(both, 1)]
    if kind != "relations":
        return [Example(str(n), text, "", language) for n, text in enumerate(texts, 1)]
    contents = [_marked(text, Where("the texts", n)) for n, text in enumerate(texts, 1)]
    return [Example(str(n), c.text, "", language, spans=c.spans) for n, c in enumerate(contents, 1)]


def _marked(text: str, where: Where) -> Content:
    """Return a text of a relation without the marks of its entities."""
    try:
        plain, entities = entities_of_text(text, "")
    except Fault as fault:
        raise DataError(fault.problem, where=where, hint=fault.hint) from fault
    return Content(plain, spans=entities)


def _lines(
    file: Path, kind: str, mapping: Mapping[str, str], encoding: str, problems: Problems
) -> Iterator[Content]:
    """Yield what the lines of a `.txt` file say."""
    if kind == "pairs":
        raise DataError(
            "expected a table with two texts in each row, found a file of lines.",
            where=Where(file),
            hint="Give a CSV, TSV or JSON-lines file with the columns premise and hypothesis.",
        )
    for number, line in enumerate(read_lines(file, encoding, problems), 1):
        text = line.rstrip("\r\n")
        yield _marked(text, Where(file, number)) if kind == "relations" else Content(text)


def _rows(
    file: Path, kind: str, mapping: Mapping[str, str], encoding: str, problems: Problems
) -> Iterator[Content]:
    """Yield what the rows of a table say; the first row's columns are those of all."""
    rows = iter(read_rows(file, encoding, problems))
    for first in rows:
        names = list(first[1])
        columns = require(find_columns(names, mapping, file), kind, names, file, answered=False)
        for line, row in chain([first], rows):
            problems.raise_any()
            try:
                yield content_of(row, columns, kind, answered=False)
            except Fault as fault:
                raise DataError(
                    fault.problem, where=Where(file, line, fault.field or None), hint=fault.hint
                ) from fault
