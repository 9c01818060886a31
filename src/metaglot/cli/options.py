"""The options that several commands share, and how they are read."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaglot.cli.console import show_notices
from metaglot.errors import SettingsError

if TYPE_CHECKING:
    from metaglot.config import Recipe
    from metaglot.types import Corpus

_CORPUS = typer.Argument(
    help="A built-in corpus (`metaglot list corpora`); a CSV, TSV, JSONL or Parquet file with a language "
    "column; a folder <language>/{train,dev,test}.jsonl; or hf:NAME[:config]. With --kind translation: "
    "django, sentence pairs (TSV, JSONL, Moses) or catalogues; with --kind language-modelling: a folder of "
    "texts.",
    show_default=False,
)
CorpusArgument = Annotated[str, _CORPUS]
OptionalCorpus = Annotated[str | None, _CORPUS]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="FIELD=COLUMN, e.g. text=headline+text or label=intent; may be repeated.",
        show_default=False,
    ),
]
HeldOut = Annotated[
    str | None,
    typer.Option(help="Languages not to learn from, by code or name: swh,yor", show_default=False),
]
SourcesOption = Annotated[
    str | None,
    typer.Option(
        "--sources", help="Languages to learn from; every other one by default.", show_default=False
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="One or several joined by +; by default e5-small+ngrams. Of translation: one, whose states are "
        "what is translated (e5-small@9: of its ninth layer); subwords of their own by default.",
        show_default=False,
    ),
]
KindOption = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="What is predicted (`metaglot list kinds`), where the data allow several.",
        show_default="found out from the data",
    ),
]
Into = Annotated[
    str | None,
    typer.Option(
        "--into", help="Of translation: the language that others are translated into.", show_default=False
    ),
]
OutOf = Annotated[
    str | None,
    typer.Option(
        "--out-of", help="Of translation: the one that others are translated from.", show_default=False
    ),
]
Mend = Annotated[
    bool,
    typer.Option(
        "--mend",
        help="Read what public corpora have instead of refusing it (tags that begin inside a span, spans "
        "that overlap, rows that are of no use), and say how often.",
    ),
]
Parallel = Annotated[
    bool | None,
    typer.Option(
        "--parallel/--no-parallel",
        help="Whether one id has the same content in every language; found out by default.",
        show_default=False,
    ),
]
RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", help="A TOML recipe; options override it.", show_default=False)
]
Seed = Annotated[int | None, typer.Option(help="Of everything random; 0 by default.", show_default=False)]
Steps = Annotated[int | None, typer.Option(help="Outer steps.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="SETTING=VALUE of the recipe's table \\[train], e.g. clip=1.0 or validation=swh,yor; of models "
        "that write, of the recipe too: width=256, joint.steps=500. May be repeated.",
        show_default=False,
    ),
]
Encoding = Annotated[str | None, typer.Option(help="Of text files; UTF-8 by default.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


def recipe_from(
    path: Path | None,
    *,
    corpus: str | None,
    kind: str | None,
    mend: bool,
    held_out: str | None,
    sources: str | None,
    column: list[str] | None,
    settings: list[str] | None,
    **overrides: Any,
) -> Recipe:
    """Return the recipe of a file with the options laid over it, as they stand on the command line."""
    from metaglot.config import read_recipe

    if path is None and corpus is None:
        raise SettingsError("expected CORPUS or --recipe FILE, found neither.")
    given = {
        "corpus": corpus,
        "kind": kind,
        "mend": mend or None,
        "held_out": split_names(held_out),
        "sources": split_names(sources),
        "columns": mapping(column),
    }
    return read_recipe(path, given | train_settings(settings) | overrides)


def recipe_corpus(recipe: Recipe) -> Corpus:
    """Load the corpus that a recipe names."""
    return load(
        recipe.corpus,
        recipe.columns,
        recipe.parallel,
        kind=recipe.kind,
        mend=recipe.mend,
        encoding=recipe.encoding,
        options=recipe.corpus_options,
    )


def load(spec: str, columns: dict[str, str] | None, parallel: bool | None, **options: Any) -> Corpus:
    """Load a corpus and print its notices."""
    from metaglot.data import load_corpus

    loaded = load_corpus(spec, columns=columns, parallel=parallel, **options)
    show_notices(loaded.notices)
    return loaded


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Split names at commas."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def split_numbers(text: str) -> list[int]:
    """Split numbers at commas."""
    try:
        return [int(part) for part in split_names(text) or ()]
    except ValueError as error:
        raise SettingsError(f"expected numbers such as 0,1,4,8,16, found {text!r}.") from error


def train_settings(pairs: list[str] | None) -> dict[str, Any]:
    """Read SETTING=VALUE pairs, values as in TOML; quotes and brackets may be left out."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name:
            raise SettingsError(f"expected --set SETTING=VALUE, such as clip=1.0, found {pair!r}.")
        found[f"train.{name}"] = _value(text)
    return found


def set_values(pairs: list[str] | None, fields: Collection[str]) -> dict[str, Any]:
    """Read SETTING=VALUE pairs of a recipe whose own settings are `fields`; others are of its table train."""
    found = {name.removeprefix("train."): value for name, value in train_settings(pairs).items()}
    return {
        name if name.partition(".")[0] in fields else f"train.{name}": value for name, value in found.items()
    }


def _value(text: str) -> Any:
    for written in (text, f"[{text}]"):
        try:
            return tomllib.loads(f"value = {written}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return text if "," not in text else list(split_names(text) or ())


def mapping(pairs: list[str] | None) -> dict[str, str] | None:
    """Read FIELD=COLUMN pairs."""
    if not pairs:
        return None
    found = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or not field:
            raise SettingsError(f"expected --column FIELD=COLUMN, such as text=utterance, found {pair!r}.")
        found[field.strip()] = column.strip()
    return found
