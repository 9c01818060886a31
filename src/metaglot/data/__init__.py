"""Anything → `Corpus`: built-in corpora, files, folders and the Hugging Face hub.

Every function here raises `DataError` for data that cannot be read, with all the faults that were
found: the file, the line and the field of each, what was expected and what was found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from metaglot.data import files, hub
from metaglot.data.assemble import language_codes, make_corpus, read_tables
from metaglot.data.columns import check_kind, check_mapping
from metaglot.data.inputs import examples_to_predict, read_examples_to_predict, read_texts
from metaglot.data.problems import Problems
from metaglot.data.rows import Intake, Table
from metaglot.errors import DataError, SettingsError, Where, suggestion
from metaglot.languages import language_name
from metaglot.registry import Registry
from metaglot.types import SPLITS, Corpus, Example

__all__ = [
    "CORPORA",
    "examples_to_predict",
    "load_corpus",
    "load_examples",
    "read_examples_to_predict",
    "read_texts",
]

CORPORA = Registry("corpus", {"home-assistant": "metaglot.data.home_assistant:load"}, plural="corpora")


def load_corpus(
    spec: str | Path,
    *,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    language: str | None = None,
    split: str | None = None,
    parallel: bool | None = None,
    encoding: str = "utf-8",
    mend: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Corpus:
    """Load labelled texts in any number of languages.

    Args:
        spec: a built-in corpus's name (`CORPORA`); a CSV, TSV, JSON-lines, CoNLL or Parquet file; a
            folder `<language>/{train,dev,test}.jsonl` (or another of these formats); or
            `hf:NAME[:CONFIG]`, a data set of the Hugging Face hub or one on disk.
        kind: what is to be predicted: classification, pairs, relations, tagging, frames or parsing;
            told from the columns if left out (a built-in corpus then is of its own kind).
        columns: field (`columns.USUAL`) → the data's own name for it, where it is not a usual one;
            `text="premise+hypothesis"` joins two columns by a space, and an empty name takes the
            field from no column.
        language: of data that do not say it.
        split: load this split alone; rows that do not say their split count as of this one, or of
            train if it is left out.
        parallel: whether an id names the same content in every language; found out if left out.
        encoding: of text files.
        mend: read what public corpora have instead of refusing it, with a notice that counts: an I- tag
            that goes on with no span begins one, of spans that overlap the longer is kept, and a row
            is left out whose tree cannot be found in its text, or whose entities are empty or overlap.
        options: a built-in corpus's own options, such as `languages` or `per_intent`.

    Raises:
        DataError: the data cannot be read.
        SettingsError: an option does not fit the data.
        MissingExtraError: an optional package is needed.
    """
    mapping = dict(columns or {})
    check_mapping(mapping)
    check_kind(kind)
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
        return _narrowed(_of_kind(_built_in(name, dict(options or {})), kind), split, parallel)
    if options:
        raise SettingsError(
            f"corpus options ({', '.join(options)}) are for built-in corpora; {name!r} is none."
        )
    notices: list[str] = []
    tables = _tables(name, encoding, notices)
    intake = Intake(mapping, language, split, kind, mend)
    items = read_tables(tables, intake)
    notices += intake.notices()
    return make_corpus(
        _title(name),
        items,
        kind=intake.kind or "classification",
        notices=notices,
        parallel=parallel,
        source=name,
    )


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


def _of_kind(corpus: Corpus, kind: str | None) -> Corpus:
    """Return a built-in corpus as one of another kind, which its examples have to have what it takes for.

    Raises:
        SettingsError: they have not.
    """
    if kind in (None, corpus.kind):
        return corpus
    labelled = any(example.label for example in corpus.examples)
    spans = any(example.spans for example in corpus.examples)
    # Entities and trees are spans too, but of another meaning.
    known = [corpus.kind]
    if corpus.kind in {"classification", "tagging", "frames"}:
        known = ["classification"] * labelled + ["tagging"] * spans + ["frames"] * (labelled and spans)
    if kind not in known:
        raise SettingsError(
            f"expected a kind of the corpus {corpus.name!r} ({', '.join(known)}), found {kind!r}.",
            hint=suggestion(str(kind), known),
        )
    examples = corpus.examples
    if kind == "tagging":
        examples = tuple(dataclasses.replace(example, label="") for example in examples)
    return dataclasses.replace(corpus, examples=examples, kind=str(kind))


def load_examples(
    path: str | Path,
    *,
    language: str,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    mend: bool = False,
) -> tuple[Example, ...]:
    """Load the few examples of one language that a model is adapted on.

    Args:
        path: a file with the columns that the kind takes; a language column is not needed.
        language: the code that the examples get, as it is.
        kind: the model's; told from the columns if left out.
        columns: as for `load_corpus`.
        encoding: of a text file.
        mend: as for `load_corpus`.

    Raises:
        DataError: the file cannot be read, or has other languages' rows too.
    """
    mapping = dict(columns or {})
    check_mapping(mapping)
    check_kind(kind)
    file = files.existing(str(path), CORPORA)
    if not file.is_file():
        raise DataError("expected a file of examples, found a folder.", where=Where(file))
    (table,) = files.find_tables(file, encoding, [])
    intake = Intake(mapping, split="train", kind=kind, mend=mend)
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


def _tables(name: str, encoding: str, notices: list[str]) -> list[Table]:
    if name.startswith("hf:"):
        return hub.find_tables(name.removeprefix("hf:"), notices)
    return files.find_tables(files.existing(name, CORPORA), encoding, notices)


def _title(name: str) -> str:
    if name.startswith("hf:"):
        return name
    path = Path(name).expanduser().resolve()
    return path.name if path.is_dir() else path.stem


def _narrowed(corpus: Corpus, split: str | None, parallel: bool | None) -> Corpus:
    examples = tuple(e for e in corpus.examples if split in (None, e.split))
    known = corpus.parallel if parallel is None else parallel
    return dataclasses.replace(corpus, examples=examples, parallel=known)
