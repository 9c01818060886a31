"""Which column of a table holds what: by its usual names, or as the user maps it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from metaglot.errors import DataError, SettingsError, Where, suggestion

USUAL: dict[str, tuple[str, ...]] = {
    "text": (
        "text", "sentence", "utterance", "utt", "query", "content", "review", "tweet", "headline", "title",
        "question", "example",
    ),
    "label": (
        "label_text", "label_name", "label", "intent", "category", "class", "topic", "sentiment", "target",
        "tag",
    ),
    "language": ("language", "lang", "locale", "language_code", "lang_code"),
    "id": ("id", "idx", "index", "index_id", "guid", "uid"),
    "split": ("split", "partition"),
    "spans": ("spans",),
    "group": ("group",),
}  # fmt: skip
"""Field → the names that a column with it may have, the likeliest first."""

_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("question1", "question2"),
)


@dataclass(frozen=True)
class Columns:
    """The columns of one table; a field that it lacks is empty. `text` may join several."""

    text: tuple[str, ...]
    label: str = ""
    language: str = ""
    id: str = ""
    split: str = ""
    spans: str = ""
    group: str = ""


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Check that a mapping maps fields that there are.

    Raises:
        SettingsError: a key is no field.
    """
    for field in mapping:
        if field not in USUAL:
            raise SettingsError(
                f"expected a field to map ({', '.join(USUAL)}), found {field!r}.",
                hint=suggestion(field, USUAL) or "Write the field first: text=utt.",
            )


def find_columns(
    found: Collection[str], mapping: Mapping[str, str], place: str | Path, *, labelled: bool = True
) -> Columns:
    """Tell a table's columns apart.

    Args:
        found: the names of its columns.
        mapping: field → column, where the usual names do not fit; `a+b` joins two columns by a space,
            and an empty name says that the field is to be taken from none.
        place: the table's file, for messages.
        labelled: whether a label is needed.

    Raises:
        DataError: there is no column for the text or the label, or a mapped one is absent.
    """
    names = [name for name in found if name]
    folded = {name.casefold(): name for name in reversed(names)}
    chosen: dict[str, str] = {}
    for field, usual in USUAL.items():
        if field in mapping:
            chosen[field] = mapping[field]
        else:
            chosen[field] = next((folded[name] for name in usual if name in folded), "")
    text = (chosen["text"],) if chosen["text"] in names else tuple(chosen["text"].split("+"))
    for field in mapping:
        for column in text if field == "text" else (chosen[field],):
            if column and column not in names:
                raise DataError(
                    f"expected the column {column!r} for the {field}, found {_listed(names)}.",
                    where=Where(place),
                    hint=suggestion(column, names) or "Map the field to one of the columns that are there.",
                )
    if not chosen["text"]:
        raise DataError(*_no_text(names), where=Where(place), hint=_text_hint(names))
    if labelled and not chosen["label"]:
        raise DataError(
            f"expected a column for the label ({', '.join(USUAL['label'])}), found {_listed(names)}.",
            where=Where(place),
            hint=_hint("label", next((name for name in names if name not in text), names[0])),
        )
    return Columns(text=text, **{field: name for field, name in chosen.items() if field != "text"})


def _no_text(names: Collection[str]) -> tuple[str]:
    pair = _pair(names)
    if pair:
        return (
            f"expected a column for the text, found pairs of texts ({pair[0]}, {pair[1]}): {_listed(names)}.",
        )
    return (f"expected a column for the text ({', '.join(USUAL['text'])}), found {_listed(names)}.",)


def _text_hint(names: Collection[str]) -> str:
    pair = _pair(names)
    if pair:
        return f"To classify the two as one text, join them. {_hint('text', '+'.join(pair))}"
    if {"tokens", "tags"} <= set(names):
        return "These look like tagged tokens, one label a token; here one text has one label."
    return (
        _hint("text", next(iter(names), "utt")) + " The first line of a CSV or TSV has to name the columns."
    )


def _pair(names: Collection[str]) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if set(pair) <= set(names)), None)


def _listed(names: Collection[str]) -> str:
    return f"the columns {', '.join(repr(name[:40]) for name in names)}" if names else "no columns"


def _hint(field: str, column: str) -> str:
    return f"Map it: columns={{{field!r}: {column[:40]!r}}} (`--column {field}={column[:40]}`)."
