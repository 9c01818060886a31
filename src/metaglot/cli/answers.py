"""Predictions as people and programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from metaglot.predicting import Prediction
    from metaglot.types import Span

PARSING = "parsing"
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def as_dict(prediction: Prediction, kind: str) -> dict[str, Any]:
    """Return a prediction as plain values; a tree also as brackets."""
    found = prediction.as_dict()
    if kind == PARSING and prediction.spans:
        from metaglot.kinds.trees import write_tree

        found["tree"] = write_tree(prediction.text, [span for span, _ in prediction.spans])
    return found


def shown(predictions: Sequence[Prediction], kind: str) -> RenderableType:
    """Return what is printed of predictions: labels in a table, spans in their texts, or trees."""
    if kind == PARSING:
        return Group(*(part for prediction in predictions for part in _tree(prediction)))
    if kind in ("tagging", "frames"):
        return _spans_table(predictions, whole="frame" if kind == "frames" else "")
    return _table(predictions)


def _tree(prediction: Prediction) -> list[RenderableType]:
    """The text, and its tree below."""
    from metaglot.kinds.trees import draw_tree

    line = Text(prediction.text)
    if mark := _marks(prediction):
        line.append(f"  {mark}", style="yellow")
    if not prediction.spans:
        return [line]
    return [line, draw_tree(prediction.text, [span for span, _ in prediction.spans])]


def _spans_table(predictions: Sequence[Prediction], whole: str) -> Table:
    """Texts with their spans in brackets, `[kitchen]area 98%` or `[blau]color=blue 97%`.

    `whole` heads a column with what they say together, `LightSet(color=blue, area=Küche) 95%`, and is empty
    for a kind whose texts have spans alone.
    """
    labels = list(dict.fromkeys(span.label for p in predictions for span, _ in p.spans))
    colours = {label: _COLOURS[place % len(_COLOURS)] for place, label in enumerate(labels)}
    marks = [_marks(prediction) for prediction in predictions]
    table = Table(box=None, pad_edge=False)
    for name in ([whole] if whole else []) + ["text"] + ([""] if any(marks) else []):
        table.add_column(name, overflow="fold")
    for prediction, mark in zip(predictions, marks, strict=True):
        row = [_bracketed(prediction.text, prediction.spans, colours)]
        if whole:
            row.insert(0, _frame(prediction))
        table.add_row(*row, *([Text(mark, style="yellow")] if any(marks) else []))
    return table


def _frame(prediction: Prediction) -> Text:
    """The intent and its slots, `LightSet(color=blue, area=Küche)`, and how probable the intent is."""
    made = Text(overflow="fold")
    for label, chance in prediction.labels:
        slots = (f"{s.label}={s.value or prediction.text[s.start : s.end]}" for s, _ in prediction.spans)
        made.append(label, style="bold").append(f"({', '.join(slots)})").append(f" {chance:.0%}", style="dim")
    return made


def _bracketed(text: str, spans: Sequence[tuple[Span, float]], colours: dict[str, str]) -> Text:
    made, at = Text(), 0
    for span, chance in spans:
        made.append(text[at : span.start])
        made.append(f"[{text[span.start : span.end]}]", style=colours[span.label])
        meant = f"{span.label}={span.value}" if span.value else span.label
        made.append(f"{meant} {chance:.0%}", style=f"dim {colours[span.label]}")
        at = span.end
    made.append(text[at:])
    return made


def _table(predictions: Sequence[Prediction]) -> Table:
    """Texts, their labels and what is to be doubted of them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("text", overflow="fold")
    width = max((len(p.labels) for p in predictions), default=1)
    for number in range(width):
        table.add_column("label" if number == 0 else "", overflow="fold")
    marks = [_marks(prediction) for prediction in predictions]
    if any(marks):
        table.add_column("", overflow="fold")
    for prediction, mark in zip(predictions, marks, strict=True):
        labels = [
            Text(f"{label} {chance:.0%}", style="dim" if place else "bold")
            for place, (label, chance) in enumerate(prediction.labels)
        ]
        labels += [Text()] * (width - len(labels))
        table.add_row(Text(prediction.text), *labels, *([Text(mark, style="yellow")] if any(marks) else []))
    return table


def _marks(prediction: Prediction) -> str:
    """Say what is to be doubted."""
    unsure = ["unsure"] if prediction.sure is False else []
    return ", ".join(unsure + (["unlike the examples"] if prediction.in_scope is False else []))
