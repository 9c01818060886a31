"""Data sets of the Hugging Face hub, or on disk in its library's format → tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from metaglot.data.files import was_saved
from metaglot.data.problems import Problems
from metaglot.data.readers import Row, class_names
from metaglot.data.rows import SPLIT_NAMES, Table
from metaglot.errors import DataError, LanguageError, MetaglotError, MissingExtraError, suggestion
from metaglot.languages import parse_language

# Words for a subset that are also the code of some language.
_NOT_LANGUAGES = {"all", "raw", "default", "full", "nli", "ner", "pos"}


def find_tables(spec: str, notices: list[str]) -> list[Table]:
    """Find the tables of a data set: one for each split, and for each language that is a configuration.

    Args:
        spec: `NAME`, `NAME:CONFIG`, or a local folder (of data files, or written by `save_to_disk`).
        notices: is told of configurations and splits that are left out.

    Raises:
        DataError: there is no such data set, or it cannot be read.
        MissingExtraError: the library `datasets` is not installed.
    """
    try:
        import datasets  # noqa: PLC0415 - an optional extra, and slow to import
    except ImportError as error:
        raise MissingExtraError("datasets", "hub", f"Loading hf:{spec}") from error
    name, config = _name_and_config(spec)
    if not name:
        raise DataError(
            "expected the name of a data set after hf:, found none.", hint="For example hf:mteb/sib200."
        )
    with _explained(spec):
        if was_saved(Path(name)):
            return _by_split(f"hf:{spec}", datasets.load_from_disk(name), "", notices)
        known = datasets.get_dataset_config_names(name)
        languages = _language_configs(known)
        tables: list[Table] = []
        for each in _chosen(spec, config, known, languages, notices):
            loaded = datasets.load_dataset(name, each)
            place = f"hf:{name}:{each}" if len(known) > 1 else f"hf:{name}"
            tables += _by_split(place, loaded, each if each in languages else "", notices)
    return tables


def _name_and_config(spec: str) -> tuple[str, str]:
    if Path(spec).exists():
        return spec, ""
    name, _, config = spec.rpartition(":") if ":" in spec else (spec, "", "")
    return name, config


def _chosen(
    spec: str, config: str, known: list[str], languages: set[str], notices: list[str]
) -> Iterable[str]:
    """Return the configurations to load: the one named, the only one, or each that is a language."""
    if config and config not in known:
        raise DataError(
            f"expected a configuration of hf:{spec.removesuffix(':' + config)} ({', '.join(known[:20])}), "
            f"found {config!r}.",
            hint=suggestion(config, known),
        )
    if config or len(known) == 1:
        return [config or known[0]]
    if not languages:
        raise DataError(
            f"expected one configuration, or one a language, found {', '.join(known[:20])}.",
            hint=f"Name the one that you mean: hf:{spec}:{known[0]}.",
        )
    if others := [name for name in known if name not in languages]:
        notices.append(f"Configurations that are not called as languages were left out: {', '.join(others)}.")
    return [name for name in known if name in languages]


def _language_configs(names: list[str]) -> set[str]:
    """Return which configurations are languages: none, where most are not.

    Three letters are nearly always the code of some language, so a few that are prove nothing.
    """
    languages = set()
    for name in names:
        try:
            parse_language(name)
        except LanguageError:
            continue
        if name not in _NOT_LANGUAGES:
            languages.add(name)
    return languages if len(languages) * 2 > len(names) else set()


def _by_split(place: str, loaded: Any, language: str, notices: list[str]) -> list[Table]:
    splits: Mapping[str, Any] = loaded if isinstance(loaded, dict) else {str(loaded.split or ""): loaded}
    tables = []
    for name, rows in splits.items():
        split = SPLIT_NAMES.get(name.casefold(), "")
        if split or len(splits) == 1:
            tables.append(
                Table(f"{place} ({name})" if name else place, partial(_read, rows), language, split)
            )
        else:
            notices.append(f"The split {name!r} of {place} is not train, dev or test, and was left out.")
    return tables


def _read(rows: Any, problems: Problems) -> Iterator[Row]:
    """Yield a split's rows with the names of their classes; −1 stands for a label that is not given."""
    features = {key: getattr(f, "feature", f) for key, f in (rows.features or {}).items()}
    names = {key: f.names for key, f in features.items() if getattr(f, "names", None)}
    for number, row in enumerate(rows, 1):
        for key, classes in names.items():
            row[key] = class_names(classes, row[key])
        yield number, row


@contextmanager
def _explained(spec: str) -> Iterator[None]:
    try:
        yield
    except MetaglotError:
        raise
    except Exception as error:  # the library's own, of its dependencies, and of their network stacks
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"expected a data set hf:{spec}, found a fault: {type(error).__name__}: {reason}",
            hint="Check the name and the network; a data set on disk is named by its folder: hf:./folder.",
        ) from error
