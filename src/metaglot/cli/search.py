"""The command that chooses among settings, by cross-validation over the source languages."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from metaglot.cli.console import out, print_json, say, show_notices
from metaglot.cli.options import (
    Columns,
    EncoderOption,
    Encoding,
    HeldOut,
    Json,
    KindOption,
    Mend,
    OptionalCorpus,
    Parallel,
    RecipeOption,
    Seed,
    Settings,
    SourcesOption,
    Steps,
    recipe_corpus,
    recipe_from,
    split_numbers,
)
from metaglot.errors import SettingsError, TrainingError


def search(
    corpus: OptionalCorpus = None,
    tried: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            help="SETTING=VALUE,VALUE… of the recipe, e.g. learner=auto,ridge or train.steps=60,120; may "
            "be repeated: all combinations are tried.",
            show_default=False,
        ),
    ] = None,
    held_out: HeldOut = None,
    sources: SourcesOption = None,
    folds: Annotated[int, typer.Option(help="How many times some source languages are left out.")] = 4,
    shots: Annotated[str, typer.Option(help="Examples per label.")] = "1,8",
    draws: Annotated[int, typer.Option(help="Random support sets per language and number of shots.")] = 5,
    random: Annotated[
        int | None, typer.Option(help="Try so many of the combinations, by chance.", show_default="all")
    ] = None,
    learner: Annotated[
        str | None, typer.Option(help="Of the recipe as it stands; auto by default.", show_default=False)
    ] = None,
    encoder: EncoderOption = None,
    kind: KindOption = None,
    column: Columns = None,
    mend: Mend = False,
    encoding: Encoding = None,
    parallel: Parallel = None,
    recipe: RecipeOption = None,
    seed: Seed = None,
    steps: Steps = None,
    settings: Settings = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="Write the best recipe to this TOML file.", show_default=False),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Keep what was judged in this file of JSON lines, and go on from it.",
            show_default="beside --out",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose settings by what they are worth on source languages that are left out in turn.

    The held-out languages are not touched. Stopped with Ctrl-C, or killed, the same command goes on
    where it was, given --out or --results.

    [dim]metaglot search home-assistant --held-out tha --try learner=auto,ridge --out best.toml[/dim]
    """
    from metaglot.config import write_recipe
    from metaglot.searching import combinations
    from metaglot.searching import search as run
    from metaglot.storage import write_text

    chosen = recipe_from(
        recipe,
        corpus=corpus,
        kind=kind,
        mend=mend,
        held_out=held_out,
        sources=sources,
        column=column,
        settings=settings,
        learner=learner,
        encoder=encoder,
        encoding=encoding,
        parallel=parallel,
        **{"train.seed": seed, "train.steps": steps},
    )
    choices = _choices(tried)
    counts = split_numbers(shots)
    # What is wrong is said before anything is read.
    combinations(chosen, choices, random=random)
    if out_file is not None and out_file.suffix != ".toml":
        raise SettingsError(f"expected --out to end in .toml, as recipes do, found {out_file.name!r}.")
    if out_file is not None and recipe is not None and out_file.resolve() == recipe.resolve():
        raise SettingsError("expected --out to be another file than --recipe, found the same.")
    if results is None and out_file is not None:
        results = out_file.with_suffix(".jsonl")
    elif results is not None and out_file is not None and results.resolve() == out_file.resolve():
        raise SettingsError("expected --results to be another file than --out, found the same.")
    found = run(
        recipe_corpus(chosen),
        chosen,
        choices,
        folds=folds,
        shots=counts,
        draws=draws,
        random=random,
        results=results,
        notices=show_notices,
    )
    if found.best.failed:
        raise TrainingError(found.verdict(), hint=f"{found.best.combination}: {found.best.failed}")
    if out_file is not None:
        write_text(out_file, write_recipe(found.best.combination.recipe))
    if as_json:
        print_json(found.as_dict() | {"file": None if out_file is None else str(out_file)})
        return
    out.print(found.table())
    show_notices([f"{one.combination}: {one.failed}" for one in found.ranked if one.failed])
    say(found.verdict())
    if out_file is not None:
        say(f"Saved in {out_file}. Next: metaglot train --recipe {out_file} --out MODEL")


def _choices(pairs: list[str] | None) -> dict[str, list[Any]]:
    """Read SETTING=VALUE,VALUE pairs, values as in TOML; quotes may be left out, inside of [] too."""
    found: dict[str, list[Any]] = {}
    for pair in pairs or ():
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name or not text:
            raise SettingsError(f"expected --try SETTING=VALUE,VALUE, found {pair!r}.")
        if name in found:
            raise SettingsError(f"expected every setting once, found --try {name}=… twice.")
        found[name] = _values(text)
    if not found:
        raise SettingsError("expected --try SETTING=VALUE,VALUE, such as train.steps=60,120, found none.")
    return found


def _values(text: str) -> list[Any]:
    """The values of a list without its brackets."""
    try:
        return list(tomllib.loads(f"values = [{text}]")["values"])
    except tomllib.TOMLDecodeError:
        return [_value(part) for part in _split(text)]


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return _values(text[1:-1]) if text[0] + text[-1] == "[]" else text


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts if part.strip()]
