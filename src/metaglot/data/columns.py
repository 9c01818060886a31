"""Which column of a table holds what: by its usual names, or as the user maps it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from metaglot.errors import DataError, SettingsError, Where, suggestion

USUAL: dict[str, tuple[str, ...]] = {
    "text": (
        "text", "sentence", "utterance", "utt", "query", "content", "review", "tweet", "headline", "title",
        "question", "example",
    ),
    "label": (
        "label_text", "label_name", "label", "intent", "category", "class", "topic", "sentiment", "target",
        "tag", "relation", "gold_label",
    ),
    "pair": ("hypothesis", "sentence2", "text2", "question2"),
    "tokens": ("tokens", "words", "token", "forms"),
    "tags": (
        "tags", "ner_tags", "slot_tags", "pos_tags", "upos_tags", "upos", "ner", "pos", "slots",
        "slot_labels", "token_labels", "labels",
    ),
    "spans": ("spans",),
    "e1": ("e1", "head", "h"),
    "e2": ("e2", "tail", "t"),
    "meaning": (
        "mr", "meaning", "meaning_representation", "decoupled", "decoupled_logical_form", "decoupled_form",
        "logical_form", "semantic_parse", "parse", "seq_out",
    ),
    "language": ("language", "lang", "locale", "language_code", "lang_code"),
    "id": ("id", "idx", "index", "index_id", "guid", "uid", "sent_id"),
    "split": ("split", "partition"),
    "group": ("group",),
}  # fmt: skip
"""Field → the names that a column with it may have, the likeliest first."""

_FIRST_OF = {
    "hypothesis": "premise",
    "sentence2": "sentence1",
    "text2": "text1",
    "question2": "question1",
}

_NEEDS = {
    "classification": (("text",), ("label",)),
    "pairs": (("text",), ("pair",), ("label",)),
    "relations": (("text", "tokens"), ("label",)),
    "tagging": (("text", "tokens"), ("tags", "spans")),
    "frames": (("text", "tokens"), ("label",), ("tags", "spans")),
    "parsing": (("text",), ("meaning",)),
}
READABLE = tuple(_NEEDS)
"""The kinds whose examples can be read."""

_ANSWERS = {"label", "tags", "spans", "meaning"}


@dataclass(frozen=True)
class Columns:
    """The columns of one table; a field that it lacks is empty. `text` may join several."""

    text: tuple[str, ...] = ()
    label: str = ""
    language: str = ""
    id: str = ""
    split: str = ""
    pair: str = ""
    tokens: str = ""
    tags: str = ""
    spans: str = ""
    e1: str = ""
    e2: str = ""
    meaning: str = ""
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


def check_kind(kind: str | None) -> None:
    """Check that examples of a kind can be read.

    Raises:
        SettingsError: they cannot.
    """
    if kind is not None and kind not in READABLE:
        raise SettingsError(
            f"expected a kind of examples ({', '.join(READABLE)}), found {kind!r}.",
            hint=suggestion(kind, READABLE),
        )


def find_columns(found: Collection[str], mapping: Mapping[str, str], place: str | Path) -> Columns:
    """Tell a table's columns apart. Of two columns with a pair's usual names the first is the text.

    Args:
        found: the names of its columns.
        mapping: field → column, where the usual names do not fit; `a+b` joins two columns by a space,
            and an empty name says that the field is to be taken from none.
        place: the table's file, for messages.

    Raises:
        DataError: a mapped column is absent.
    """
    names = [name for name in found if name]
    folded = {name.casefold(): name for name in reversed(names)}
    chosen = {
        field: mapping[field]
        if field in mapping
        else next((folded[name] for name in usual if name in folded), "")
        for field, usual in USUAL.items()
    }
    if "text" not in mapping:
        first = folded.get(_FIRST_OF.get(chosen["pair"].casefold(), ""), "")
        if first:
            chosen["text"] = first
        elif "pair" not in mapping:
            chosen["pair"] = ""
    elif "pair" not in mapping and _of_pair(chosen["pair"], folded) != mapping["text"]:
        chosen["pair"] = ""  # it is part of another text, as in text=premise+hypothesis
    text = (chosen["text"],) if chosen["text"] in names else tuple(chosen["text"].split("+"))
    for field in mapping:
        for column in text if field == "text" else (chosen[field],):
            if column and column not in names:
                raise DataError(
                    f"expected the column {column!r} for the {field}, found {_listed(names)}.",
                    where=Where(place),
                    hint=suggestion(column, names) or "Map the field to one of the columns that are there.",
                )
    return Columns(
        text=text if chosen["text"] else (),
        **{field: name for field, name in chosen.items() if field != "text"},
    )


def require(
    columns: Columns, kind: str, found: Collection[str], place: str | Path, *, answered: bool = True
) -> Columns:
    """Return the columns that a kind takes; what it has no use for is left out.

    Args:
        columns: the table's.
        kind: of the examples.
        found: the names of all columns.
        place: the table's file, for messages.
        answered: whether labels, tags, spans and meanings are needed.

    Raises:
        DataError: there is no column for what the kind needs; the message names the kind.
    """
    names = [name for name in found if name]
    if kind == "classification":
        columns = _alone(columns, names)
    for fields in _NEEDS[kind]:
        if not answered and _ANSWERS.issuperset(fields):
            continue
        if not any(_has(columns, field) for field in fields):
            raise DataError(
                f"expected a column for {_wanted(fields, kind)}, found {_listed(names)}.",
                where=Where(place),
                hint=_hint(fields[0], names, columns, kind),
            )
    return columns


def _alone(columns: Columns, names: Collection[str]) -> Columns:
    """Return the columns of one text: a pair's first text is none."""
    if not columns.pair or columns.text != (_of_pair(columns.pair, {n.casefold(): n for n in names}),):
        return columns
    folded = {name.casefold(): name for name in names}
    text = next((folded[name] for name in USUAL["text"] if name in folded), "")
    return replace(columns, text=(text,) if text else ())


def _has(columns: Columns, field: str) -> bool:
    if field == "tags":
        return bool(columns.tokens and columns.tags)
    return bool(getattr(columns, field))


def _of_pair(second: str, folded: Mapping[str, str]) -> str:
    """Return the usual column beside a pair's second text, or an empty string."""
    return folded.get(_FIRST_OF.get(second.casefold(), ""), "")


def _wanted(fields: Collection[str], kind: str) -> str:
    """Say which columns a kind looks for; classification, the usual one, is not named."""
    said = {
        "tags": "the tokens' tags (tokens and tags)",
        "spans": "the text's spans (spans)",
        "meaning": f"the meaning in brackets ({', '.join(USUAL['meaning'])})",
        "pair": "the second text of a pair (hypothesis beside premise, sentence2 beside sentence1 …)",
        "tokens": f"its tokens ({', '.join(USUAL['tokens'])})",
    }
    wanted = " or ".join(said.get(field) or f"the {field} ({', '.join(USUAL[field])})" for field in fields)
    return wanted if kind == "classification" else f"{wanted}, which {kind} needs"


def _hint(field: str, names: Collection[str], columns: Columns, kind: str) -> str:
    folded = {name.casefold(): name for name in names}
    pair = next((f"{folded[a]}+{folded[b]}" for b, a in _FIRST_OF.items() if {a, b} <= folded.keys()), "")
    if field == "text" and pair and kind == "classification":
        return f"To classify the two as one text, join them. {_mapped('text', pair)} As pairs: kind='pairs'."
    if field == "tags":
        tagged = "tokens and tags, or text and spans as {'start': …, 'end': …, 'label': …} in characters"
        return f"Give {tagged}; other columns are mapped: columns={{'tags': …}} (`--column tags=…`)."
    own = {*columns.text, *(value for value in vars(columns).values() if isinstance(value, str))}
    free = next((name for name in names if name not in own), "")
    if field == "text":
        column = free or next(iter(names), "utt")
        return _mapped(field, column) + " The first line of a CSV or TSV has to name the columns."
    return _mapped(field, free) if free else f"No column is left for it: is this a corpus for {kind}?"


def _listed(names: Collection[str]) -> str:
    return f"the columns {', '.join(repr(name[:40]) for name in names)}" if names else "no columns"


def _mapped(field: str, column: str) -> str:
    return f"Map it: columns={{{field!r}: {column[:40]!r}}} (`--column {field}={column[:40]}`)."
