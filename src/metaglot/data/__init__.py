"""Anything → `Corpus`: built-in corpora, files, folders and the Hugging Face hub.

Every function here raises `DataError` for data that cannot be read, with all the faults that were
found: the file, the line and the field of each, what was expected and what was found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from metaglot.data import files, hub
from metaglot.data.assemble import language_codes, make_corpus, read_tables
from metaglot.data.columns import check_mapping, find_columns
from metaglot.data.problems import Problems
from metaglot.data.readers import read_lines, read_rows
from metaglot.data.rows import Fault, Intake, Table, text_of
from metaglot.errors import DataError, SettingsError, Where, suggestion
from metaglot.languages import language_name
from metaglot.registry import Registry
from metaglot.types import SPLITS, Corpus, Example

CORPORA = Registry("corpus", {"home-assistant": "metaglot.data.home_assistant:load"}, plural="corpora")


def load_corpus(
    spec: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    language: str | None = None,
    split: str | None = None,
    parallel: bool | None = None,
    encoding: str = "utf-8",
    options: Mapping[str, Any] | None = None,
) -> Corpus:
    """Load labelled texts in any number of languages.

    Args:
        spec: a built-in corpus's name (`CORPORA`); a CSV, TSV, JSON-lines or Parquet file; a folder
            `<language>/{train,dev,test}.jsonl` (or another of these formats); or `hf:NAME[:CONFIG]`,
            a data set of the Hugging Face hub or one on disk.
        columns: field (text, label, language, id, split, spans, group) → the data's own name for it,
            where it is not a usual one; `text="premise+hypothesis"` joins two columns by a space,
            and an empty name takes the field from no column.
        language: of data that do not say it.
        split: load this split alone; rows that do not say their split count as of this one, or of
            train if it is left out.
        parallel: whether an id names the same content in every language; found out if left out.
        encoding: of text files.
        options: a built-in corpus's own options, such as `languages` or `per_intent`.

    Raises:
        DataError: the data cannot be read.
        SettingsError: an option does not fit the data.
        MissingExtraError: an optional package is needed.
    """
    mapping = dict(columns or {})
    check_mapping(mapping)
    if split is not None and split not in SPLITS:
        raise SettingsError(
            f"expected a split ({', '.join(SPLITS)}), found {split!r}.", hint=suggestion(split, SPLITS)
        )
    name = str(spec)
    if name in CORPORA:
        if mapping or language is not None:
            raise SettingsError(
                f"columns and language are options for files; {name!r} is a built-in corpus.",
                hint=f"If you mean a file of that name, write ./{name}.",
            )
        return _narrowed(_built_in(name, dict(options or {})), split, parallel)
    if options:
        raise SettingsError(
            f"corpus options ({', '.join(options)}) are for built-in corpora; {name!r} is none."
        )
    notices: list[str] = []
    tables = _tables(name, encoding, notices)
    intake = Intake(mapping, language, split)
    items = read_tables(tables, intake)
    notices += intake.notices()
    return make_corpus(_title(name), items, notices=notices, parallel=parallel, source=name)


def _built_in(name: str, options: dict[str, Any]) -> Corpus:
    load = CORPORA[name]
    known = list(signature(load).parameters)
    for option in options:
        if option not in known:
            raise SettingsError(
                f"expected an option of the corpus {name!r} ({', '.join(known)}), found {option!r}.",
                hint=suggestion(option, known),
            )
    try:
        corpus: Corpus = load(**options)
    except TypeError as error:
        if not options:
            raise
        raise SettingsError(f"the options of the corpus {name!r} are wrong: {error}.") from error
    return corpus


def load_examples(
    path: str | Path, *, language: str, columns: Mapping[str, str] | None = None, encoding: str = "utf-8"
) -> tuple[Example, ...]:
    """Load the few examples of one language that a model is adapted on.

    Args:
        path: a file with a text and a label column; a language column is not needed.
        language: the code that the examples get, as it is.
        columns: as for `load_corpus`.
        encoding: of a text file.

    Raises:
        DataError: the file cannot be read, or has other languages' rows too.
    """
    mapping = dict(columns or {})
    check_mapping(mapping)
    file = _existing(str(path))
    if not file.is_file():
        raise DataError("expected a file of examples, found a folder.", where=Where(file))
    (table,) = files.find_tables(file, encoding, [])
    intake = Intake(mapping, split="train")
    items = read_tables([dataclasses.replace(table, language=language, split="")], intake)
    problems = Problems()
    codes = language_codes(dict.fromkeys([language, *(item.language for item in items)]), [])
    for item in items:
        if codes[item.language] != codes[language]:
            problems.add(
                f"expected examples in {language_name(codes[language])} alone, found {item.language!r}.",
                Where(item.place, item.line, "language"),
                "Keep each language's examples in a file of its own.",
            )
    problems.raise_any()
    corpus = make_corpus(_title(str(path)), items, parallel=False, source=str(path))
    return tuple(dataclasses.replace(example, language=language) for example in corpus.examples)


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
    file = _existing(str(path))
    problems = Problems()
    if file.suffix.lower() == ".txt":
        for line in read_lines(file, encoding, problems):
            yield line.rstrip("\r\n")
    else:
        yield from _table_texts(file, {"text": column} if column else {}, encoding, problems)
    problems.raise_any()


def _table_texts(file: Path, mapping: Mapping[str, str], encoding: str, problems: Problems) -> Iterator[str]:
    found = None
    for line, row in read_rows(file, encoding, problems):
        problems.raise_any()
        found = found or find_columns(row, mapping, file, labelled=False)
        try:
            text = text_of(row, found)
        except Fault as fault:
            raise DataError(fault.problem, where=Where(file, line, fault.field), hint=fault.hint) from fault
        yield text


def _tables(name: str, encoding: str, notices: list[str]) -> list[Table]:
    if name.startswith("hf:"):
        return hub.find_tables(name.removeprefix("hf:"), notices)
    return files.find_tables(_existing(name), encoding, notices)


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    try:
        there = path.exists()
    except OSError as error:
        raise DataError(f"could not be read: {error.strerror or error}.", where=Where(path)) from error
    if not there:
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"expected a corpus ({', '.join(CORPORA)}), a file or a folder, found none called {name!r}.",
            hint=suggestion(name, CORPORA)
            or suggestion(path.name, beside)
            or "Data sets of the hub begin with hf:.",
        )
    return path


def _title(name: str) -> str:
    if name.startswith("hf:"):
        return name
    path = Path(name).expanduser().resolve()
    return path.name if path.is_dir() else path.stem


def _narrowed(corpus: Corpus, split: str | None, parallel: bool | None) -> Corpus:
    examples = tuple(e for e in corpus.examples if split in (None, e.split))
    known = corpus.parallel if parallel is None else parallel
    return dataclasses.replace(corpus, examples=examples, parallel=known)
