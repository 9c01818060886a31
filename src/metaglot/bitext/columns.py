"""Which columns of a table hold sentences, and of which languages."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaglot.errors import DataError, LanguageError, SettingsError, Where, suggestion
from metaglot.languages import parse_language

USUAL: dict[str, tuple[str, ...]] = {
    "source": ("source", "src", "source_text", "source_sentence", "src_text"),
    "target": ("target", "tgt", "target_text", "target_sentence", "tgt_text", "translation"),
    "source_language": ("source_language", "source_lang", "src_lang", "src_language"),
    "target_language": ("target_language", "target_lang", "tgt_lang", "tgt_language"),
    "id": ("id", "idx", "index", "guid", "tuid", "verse_id"),
    "split": ("split", "partition"),
    "group": ("group", "document", "doc_id", "doc"),
    "note": ("note", "context"),
}
"""Field → the names that a column with it may have, the likeliest first."""

_BY_LANGUAGE = ("translation", "translations")
_CODE = re.compile(r"[a-z]{2,3}(?:[_-][A-Za-z0-9]{2,8})*")


@dataclass(frozen=True)
class Columns:
    """The columns of one table; a field that it lacks is empty.

    A sentence is in `source` or `target`, or in one of `by_language` (column → the language that it is
    named after), or in the object that stands in `translation`.
    """

    source: str = ""
    target: str = ""
    source_language: str = ""
    target_language: str = ""
    id: str = ""
    split: str = ""
    group: str = ""
    note: str = ""
    translation: str = ""
    by_language: tuple[str, ...] = ()


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Check that a mapping maps fields that there are.

    Raises:
        SettingsError: a key is no field.
    """
    for field in mapping:
        if field not in USUAL:
            raise SettingsError(
                f"expected a field to map ({', '.join(USUAL)}), found {field!r}.",
                hint=suggestion(field, USUAL) or "Write the field first: source=english.",
            )


def find_columns(rows: Sequence[Mapping[str, Any]], mapping: Mapping[str, str], place: str | Path) -> Columns:
    """Tell a table's columns apart.

    Args:
        rows: its first ones.
        mapping: field → column, where the usual names do not fit; an empty name says that the field is to
            be taken from none.
        place: the table's file, for messages.

    Raises:
        DataError: there are no two columns of sentences, or a mapped column is absent.
    """
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name]
    folded = {name.casefold(): name for name in reversed(names)}
    for field, column in mapping.items():
        if column and column not in names:
            raise DataError(
                f"expected a column {column!r} for the field {field!r}, found {', '.join(names)}.",
                where=Where(place, field=column),
                hint=suggestion(column, names),
            )
    chosen: dict[str, Any] = {
        field: mapping[field]
        if field in mapping
        else next((folded[name] for name in usual if name in folded), "")
        for field, usual in USUAL.items()
    }
    if not (mapping.get("source") or mapping.get("target")):
        found = _nested(rows, folded)
        if found:
            return Columns(**{**chosen, "source": "", "target": "", "translation": found})
        by_language = _languages(names, chosen, mapping)
        if not (chosen["source"] and chosen["target"]) and len(by_language) > 1:
            id_ = "" if chosen["id"] in by_language else chosen["id"]
            return Columns(**{**chosen, "source": "", "target": "", "id": id_, "by_language": by_language})
    for field in ("source", "target"):
        if not chosen[field]:
            raise DataError(
                f"expected two columns of sentences: source and target, two that are called as their "
                f"languages are (en, sw), or a translation such as {{'en': …, 'sw': …}}; found the columns "
                f"{', '.join(map(repr, names)) or 'none'}.",
                where=Where(place),
                hint=f"Say which it is: columns={{{field!r}: …}} (`--column {field}=…`).",
            )
    return Columns(**chosen)


def names_languages(names: Collection[str]) -> bool:
    """Tell whether the cells of a first row are names of columns, and not sentences."""
    usual = {name for each in USUAL.values() for name in each}
    return sum(name.casefold() in usual or _is_code(name) for name in names) == len(names)


def _nested(rows: Sequence[Mapping[str, Any]], folded: Mapping[str, str]) -> str:
    for name in _BY_LANGUAGE:
        column = folded.get(name, "")
        if column and any(isinstance(row.get(column), Mapping) for row in rows):
            return column
    return ""


def _languages(
    names: Sequence[str], chosen: Mapping[str, str], mapping: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the columns that are named after languages. `id` is Indonesian only beside one other."""
    taken = {column for field, column in chosen.items() if column and (field != "id" or field in mapping)}
    found = [name for name in names if name not in taken and _is_code(name)]
    if len(found) > 2 and "id" in found:
        found.remove("id")
    return tuple(found)


def _is_code(name: str) -> bool:
    return bool(_CODE.fullmatch(name)) and language_of(name) is not None


def language_of(name: str) -> str | None:
    """Return the code of the language that a column or a file is named after, or None."""
    try:
        return parse_language(name, region=True)
    except LanguageError:
        return None
