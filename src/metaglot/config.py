"""Settings: one recipe reproduces a run. Read from TOML, overridden by options, all errors at once."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from metaglot.errors import SettingsError, Where, suggestion

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegativeNumber = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
_Form = TypeVar("_Form", bound="Settings")


class Settings(BaseModel):
    """Named settings, none of which may be unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _validation(value: Any) -> Any:
    """Take one language for a list of it, and refuse what is neither languages nor a share."""
    if isinstance(value, str):
        return (value,)
    share = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
    if not share and not (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)):
        raise PydanticCustomError("validation", "Input should be languages or a share between 0 and 1")
    return value


class TrainSettings(Settings):
    """The outer loop.

    Attributes:
        steps: outer steps.
        episodes: episodes per step.
        tasks: `"sampled"`: every episode is of a task drawn by chance, the same chance for all;
            `"all"`: every step has every task, the sum over the whole set is what is minimised, and
            `episodes` is rounded up to a multiple of the number of tasks.
        weights: task → how much its loss counts beside the others', 1 where it is not named.
        balance: how alike the chances of sampled languages are: 1 all the same, 0 as their numbers of
            examples n; a language's is in proportion to n^(1 − balance).
        pool: draw this many distinct episodes and go through them in new orders; 0 draws fresh ones.
        shots: the numbers of examples per label that episodes have, or of sentences for kinds that count
            those; (1, 2, 4, 8, 16) and (2, 5, 10, 20, 50) where absent.
        queries: the most query examples per label.
        feature_dropout: the share of an episode's feature columns that are zero in support and query.
        prior_noise: how far the prior's scores are spoilt in half of the episodes, in their deviations;
            0.3 where k counts examples of a label, and 0 where it counts sentences, if absent.
        mixup: a of Beta(a, a), by which support examples of one label are mixed; 0 does not mix.
        accumulate: episodes whose gradient is worked out at once; by what memory allows where 0.
        memory: MiB that their graph may take; half of what is free where 0.
        rate: what every outer rate is multiplied by.
        optimizer: `"adam"`, `"adamw"` (decay apart from the gradient) or `"sgd"`.
        weight_decay: how strongly meta-parameters are drawn to zero.
        clip: the largest norm of the whole gradient; 0 does not clip.
        schedule: how rates go down: `"cosine"`, `"linear"` or `"constant"`.
        warmup: steps over which rates rise from zero, linearly, before that.
        precision: `"float32"` or `"bfloat16"` (autocast: matrix products in bfloat16).
        validation: source languages that are not trained on but judged on, by code, or their share;
            without any, training never stops early.
        validation_episodes: fixed episodes of each of them.
        validate_every: outer steps between two judgements.
        patience: judgements without a better one after which training stops.
        explode: a loss that is this many times what it was at first for three steps has diverged.
        curves_every: outer steps between two points of the tasks' learning curves; 0 keeps none.
        checkpoint_every: outer steps between two checkpoints.
        checkpoints: how many are kept: a damaged one is made up for by the one before.
        seed: of everything random.
    """

    steps: Positive = 120
    episodes: Positive = 6
    tasks: Literal["sampled", "all"] = "sampled"
    weights: dict[str, PositiveNumber] = {}
    balance: Share = 1.0
    pool: NotNegative = 120
    shots: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    queries: Positive = 8
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    prior_noise: NotNegativeNumber | None = None
    mixup: NotNegativeNumber = 0.0
    accumulate: NotNegative = 0
    memory: NotNegative = 0
    rate: PositiveNumber = 1.0
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: NotNegativeNumber = 0.0
    clip: NotNegativeNumber = 0.0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: NotNegative = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    validation: Annotated[float | tuple[str, ...], BeforeValidator(_validation)] = ()
    validation_episodes: Positive = 8
    validate_every: Positive = 10
    patience: Positive = 5
    explode: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 1000.0
    curves_every: NotNegative = 10
    checkpoint_every: Positive = 20
    checkpoints: Positive = 2
    seed: int = 0

    @model_validator(mode="after")
    def _warmup_ends(self) -> TrainSettings:
        if self.warmup >= self.steps:
            raise PydanticCustomError("warmup", "warmup should be less than steps")
        return self


def groups_of(value: Any) -> Any:
    """Refuse what is no grouping, in one sentence where the union of types would give several."""
    table = isinstance(value, dict) and value and all(isinstance(v, str) and v for v in value.values())
    if not table and value not in ("branch", "family", "none"):
        raise PydanticCustomError(
            "groups", "Input should be 'branch', 'family', 'none' or a table of language = \"group\""
        )
    return value


class Recipe(Settings):
    """Everything that a run depends on, but the data's content.

    Attributes:
        corpus: a built-in name, a path, or `hf:NAME[:config]`.
        kind: what is predicted, see `metaglot.kinds`; found out from the data where absent.
        mend: read what public corpora have instead of refusing it, see `load_corpus`.
        columns: field → the column (or columns joined by `+`) that holds it.
        encoding: of the corpus's text files.
        corpus_options: options of a built-in corpus, such as `per_intent`.
        parallel: whether one id has the same content in every language; found out where absent.
        encoder: one encoder or several joined by `+`.
        held_out: languages that are not learned from.
        sources: languages that are; every other one where absent.
        learner: a learner's name.
        learner_options: its own options.
        groups: what languages are grouped by, for learners that use groups: `"branch"` or `"family"` of
            their kin, `"none"`, or language → name of its group.
        augment: what makes changed copies of the sources' examples, each by name or `"name:strength"`.
        augment_copies: the most copies of an example.
        train: the outer loop.
    """

    corpus: str
    kind: str | None = None
    mend: bool = False
    columns: dict[str, str] = {}
    encoding: str = "utf-8"
    corpus_options: dict[str, Any] = {}
    parallel: bool | None = None
    encoder: str = "e5-small+ngrams"
    held_out: tuple[str, ...] = ()
    sources: tuple[str, ...] | None = None
    learner: str = "auto"
    learner_options: dict[str, Any] = {}
    groups: Annotated[Literal["branch", "family", "none"] | dict[str, str], BeforeValidator(groups_of)] = (
        "branch"
    )
    augment: tuple[str, ...] = ()
    augment_copies: Positive = 1
    train: TrainSettings = TrainSettings()


def read_recipe(path: Path | None, overrides: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a TOML file with options laid over it, see `read_settings`."""
    return read_settings(Recipe, path, overrides)


def read_values(path: Path | None) -> dict[str, Any]:
    """Return what a TOML file says; nothing without a file.

    Raises:
        SettingsError: the file cannot be read.
    """
    try:
        return {} if path is None else tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"expected a recipe, found none: {error.strerror}.", where=Where(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"expected TOML: {error}.", where=Where(path)) from error


def read_settings(form: type[_Form], path: Path | None, overrides: Mapping[str, Any]) -> _Form:
    """Return the settings of a TOML file with options laid over it; None is "not given".

    `overrides` may name a field of the table `train` as `train.steps`, or deeper: `train.weights.swh`.

    Raises:
        SettingsError: the file cannot be read, or fields are wrong; every one of them is named.
    """
    return _valid(form, read_values(path), overrides, path)


def changed_recipe(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """Return a recipe with options laid over it, named as for `read_recipe`.

    Raises:
        SettingsError: fields are wrong; every one of them is named.
    """
    return _valid(Recipe, recipe.model_dump(), overrides, None)


def _valid(
    form: type[_Form], values: dict[str, Any], overrides: Mapping[str, Any], path: Path | None
) -> _Form:
    """Lay options over settings' values, which are changed, and check them all."""
    for name, value in overrides.items():
        if value is None:
            continue
        *tables, field = name.split(".")
        place: Any = values
        for table in tables:
            place = place.setdefault(table, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[field] = value
    try:
        return form.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_all_errors(error, form), where=Where(path)) from error


def write_recipe(recipe: Settings) -> str:
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


def _all_errors(error: ValidationError, form: type[Settings]) -> str:
    fields = [*form.model_fields, *TrainSettings.model_fields]
    lines = [f"found {error.error_count()} wrong setting(s):"]
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            near = suggestion(str(fault["loc"][-1]), fields)
            lines.append(f"  {place}: no such setting. {near}".rstrip())
        else:
            # What is wrong with several settings together names them; all of them were found.
            found = fault.get("input")
            end = "." if isinstance(found, dict) else f", found {found!r}."
            lines.append(f"  {place or 'recipe'}: {fault['msg']}{end}")
    return "\n".join(lines)
