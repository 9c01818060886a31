"""Settings: one recipe reproduces a run. Read from TOML, overridden by options, all errors at once."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metaglot.errors import SettingsError, Where, suggestion

Positive = Annotated[int, Field(ge=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainSettings(_Settings):
    """The outer loop.

    Attributes:
        steps: outer steps.
        episodes: episodes per step.
        pool: draw this many distinct episodes and go through them in new orders; 0 draws fresh ones.
        shots: the numbers of examples per label that episodes have.
        queries: the most query examples per label.
        rate: what every outer rate is multiplied by.
        checkpoint_every: outer steps between two checkpoints.
        seed: of everything random.
    """

    steps: Positive = 120
    episodes: Positive = 6
    pool: Annotated[int, Field(ge=0)] = 120
    shots: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    queries: Positive = 8
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    checkpoint_every: Positive = 20
    seed: int = 0


class Recipe(_Settings):
    """Everything that a run depends on, but the data's content.

    Attributes:
        corpus: a built-in name, a path, or `hf:NAME[:config]`.
        columns: field → the column (or columns joined by `+`) that holds it.
        encoding: of the corpus's text files.
        corpus_options: options of a built-in corpus, such as `per_intent`.
        parallel: whether one id has the same content in every language; found out where absent.
        encoder: one encoder or several joined by `+`.
        held_out: languages that are not learned from.
        sources: languages that are; every other one where absent.
        learner: a learner's name.
        learner_options: its own options.
        train: the outer loop.
    """

    corpus: str
    columns: dict[str, str] = {}
    encoding: str = "utf-8"
    corpus_options: dict[str, Any] = {}
    parallel: bool | None = None
    encoder: str = "e5-small+ngrams"
    held_out: tuple[str, ...] = ()
    sources: tuple[str, ...] | None = None
    learner: str = "auto"
    learner_options: dict[str, Any] = {}
    train: TrainSettings = TrainSettings()


def read_recipe(path: Path | None, overrides: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a TOML file with options laid over it; None is "not given".

    `overrides` may name a field of the table `train` as `train.steps`.

    Raises:
        SettingsError: the file cannot be read, or fields are wrong; every one of them is named.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text("utf-8-sig"))
        except OSError as error:
            raise SettingsError(
                f"expected a recipe, found none: {error.strerror}.", where=Where(path)
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"expected TOML: {error}.", where=Where(path)) from error
    for name, value in overrides.items():
        if value is None:
            continue
        table, _, field = name.rpartition(".")
        place = values.setdefault(table, {}) if table else values
        if isinstance(place, dict):
            place[field] = value
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_all_errors(error), where=Where(path)) from error


def write_recipe(recipe: Recipe) -> str:
    """Return a recipe as TOML that `read_recipe` reads back."""
    values = recipe.model_dump(exclude_none=True)
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if name not in tables]
    for name, table in tables.items():
        if table:
            lines += [
                "",
                f"[{name}]",
                *(f"{_toml_key(key)} = {_toml(value)}" for key, value in table.items()),
            ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL and lone surrogates, which TOML forbids.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _toml(key)


def _all_errors(error: ValidationError) -> str:
    fields = [*Recipe.model_fields, *TrainSettings.model_fields]
    lines = [f"found {error.error_count()} wrong setting(s):"]
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            near = suggestion(str(fault["loc"][-1]), fields)
            lines.append(f"  {place}: no such setting. {near}".rstrip())
        else:
            lines.append(f"  {place}: {fault['msg']}, found {fault.get('input')!r}.")
    return "\n".join(lines)
