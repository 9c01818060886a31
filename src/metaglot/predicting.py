"""Texts in, answers out, with how sure they are; zero-shot where the language was never adapted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from metaglot.adapting import language_code
from metaglot.artifact import Adaptation, Artifact
from metaglot.calibration import Calibration
from metaglot.cross_validation import logits
from metaglot.errors import SettingsError
from metaglot.kinds.base import Stretch
from metaglot.kinds.values import Values, with_values
from metaglot.model import Model, Table, target_table
from metaglot.space import Task
from metaglot.types import Example, Span

if TYPE_CHECKING:
    from torch import Tensor

TOP = 3
RECALL = 0.95


@dataclass(frozen=True)
class Prediction:
    """What is predicted for one text, and how sure it is.

    Attributes:
        text: the text.
        language: the code.
        adapted: whether the language has an adaptation; else the prediction is zero-shot.
        labels: (label, probability), the most probable first; of kinds whose labels are of stretches, the
            whole text's alone, or none.
        spans: (labelled stretch, probability) of the answer, in the order of the text, the outer first;
            empty for kinds without. Each has its canonical value, where one is known.
        sure: whether the first label, or the least probable stretch, is probable enough; None where
            nobody asked.
        scope: p-value of the text being like the examples, near 0 for a text of no known label; None
            where nothing is known of them (zero-shot, or one example per label).
        in_scope: whether that is enough for the recall that was asked for; None where `scope` is.
    """

    text: str
    language: str
    adapted: bool
    labels: tuple[tuple[str, float], ...]
    spans: tuple[tuple[Span, float], ...] = ()
    sure: bool | None = None
    scope: float | None = None
    in_scope: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as plain values, without those that are None."""
        rows = [{"label": label, "probability": round(p, 6)} for label, p in self.labels]
        found: dict[str, Any] = {"text": self.text, "language": self.language, "adapted": self.adapted}
        if rows or not self.spans:
            found["labels"] = rows
        if self.spans:
            found["spans"] = [
                {
                    "start": span.start,
                    "end": span.end,
                    "label": span.label,
                    "text": self.text[span.start : span.end],
                    **({"value": span.value} if span.value else {}),
                    "probability": round(p, 6),
                }
                for span, p in self.spans
            ]
        if self.sure is not None:
            found["sure"] = self.sure
        if self.scope is not None:
            found |= {"scope": round(self.scope, 6), "in_scope": self.in_scope}
        return found


def predict(
    artifact: Artifact,
    texts: Sequence[str | Example],
    language: str,
    *,
    top: int | None = None,
    adaptation: Adaptation | None = None,
    precision: float | None = None,
    unsure_below: float | None = None,
    coverage: float | None = None,
    recall: float = RECALL,
) -> list[Prediction]:
    """Predict what the artifact's kind predicts of texts in one language, zero-shot if never adapted.

    Where a promise takes more examples than there are, the probabilities are believed instead:
    `Calibration.threshold(precision).doubt` and `Calibration.doubts(…)` say so.

    Args:
        artifact: the trained model.
        texts: what to predict for; `Example`s where a text alone does not say it: a pair of texts, the two
            entities of a relation, the data's own tokens. Their labels are not looked at.
        language: code or name.
        top: how many labels to return for each text, 3 by default.
        adaptation: what `adapt` made; by default what the artifact has for the language.
        precision: a prediction is sure where predictions as probable are right in this share of cases.
        unsure_below: a prediction is sure from this probability on.
        coverage: return as many labels as it takes for the true one to be among them in this share of
            texts, instead of `top`.
        recall: the share of texts of known labels that are to be found in scope.

    Raises:
        SettingsError: a number is out of its range, two are given of which one is enough, or one is for
            kinds whose examples have one label.
        DataError: an example has not what the kind needs.
    """
    if top is not None and top < 1:
        raise SettingsError(f"expected --top to be 1 or more, found {top}.")
    check_choice(precision, unsure_below, coverage, top, recall)
    code, _ = language_code(artifact, language)
    model = artifact.model
    adaptation = adaptation or artifact.adaptations.get(code)
    labels = model.labels if adaptation is None else adaptation.labels
    by_label = model.kind.shots == "label"
    for name, value in (("top", top), ("precision", precision), ("coverage", coverage)):
        if value is not None and not by_label:
            raise SettingsError(
                f"--{name} is for kinds whose examples have one label; this model's kind is "
                f"{model.kind_name!r}.",
                hint="--unsure-below 0.6 marks answers with a part that is less probable.",
            )
    if not texts:
        return []
    examples = tuple(
        Example(str(row), text, "", code) if isinstance(text, str) else text for row, text in enumerate(texts)
    )
    calibration = calibration_of(adaptation)
    table = target_table(model, Task(code, labels, examples, shots=model.kind.shots), examples, "encoding")
    batch = table.batch(model, range(len(examples)), labels)
    outputs = logits(artifact, None if adaptation is None else adaptation.head, batch)
    if not by_label:
        answers = _structured(
            model, table, outputs, labels, calibration, adaptation is not None, unsure_below
        )
        own = Values() if adaptation is None else adaptation.values
        return [_canonical(answer, own, artifact.values) for answer in answers]
    values, places = calibration.probabilities(outputs).sort(dim=-1, descending=True, stable=True)
    if coverage is None:
        counts = [min(top or TOP, len(labels))] * len(texts)
    else:
        counts = calibration.label_sets(outputs, coverage).sum(-1).tolist()
    least = unsure_below if precision is None else calibration.threshold(precision).value
    scopes = calibration.scope_of(outputs)
    found = []
    for row, example in enumerate(examples):
        chances, order = values[row, : counts[row]].tolist(), places[row, : counts[row]].tolist()
        scope = None if scopes is None else float(scopes[row])
        found.append(
            Prediction(
                example.text,
                code,
                adaptation is not None,
                tuple((labels[place], chance) for place, chance in zip(order, chances, strict=True)),
                sure=None if least is None else chances[0] >= least,
                scope=scope,
                # As in `_rank`: a share such as 1 − 0.95 is not exact.
                in_scope=None if scope is None else scope > 1 - recall + 1e-9,
            )
        )
    return found


def _structured(
    model: Model,
    table: Table,
    outputs: Tensor,
    labels: Sequence[str],
    calibration: Calibration,
    adapted: bool,
    unsure_below: float | None,
) -> list[Prediction]:
    """Predictions of a kind whose answers are of several units; a part is as sure as its units are."""
    rows = range(len(table.examples))
    sure = torch.split(calibration.probabilities(outputs).max(-1).values, table.units_in(rows).tolist())
    found = []
    for row, answer in enumerate(model.answers(table, rows, outputs, labels)):
        example, places, chances = table.examples[row], table.places[row], sure[row].tolist()
        spans = tuple((span, _sureness(span, places, chances)) for span in answer.spans)
        whole = ((answer.label, chances[0]),) if answer.label else ()
        least = min([chance for _, chance in (*spans, *whole)], default=min(chances, default=1.0))
        found.append(
            Prediction(
                example.text,
                table.task.language,
                adapted,
                whole,
                spans,
                sure=None if unsure_below is None else least >= unsure_below,
            )
        )
    return found


def _canonical(prediction: Prediction, own: Values, sources: Values) -> Prediction:
    """Return a prediction whose stretches have the values that are known for them."""
    spans = with_values([span for span, _ in prediction.spans], prediction.text, own, sources)
    chances = [chance for _, chance in prediction.spans]
    return replace(prediction, spans=tuple(zip(spans, chances, strict=True)))


def _sureness(span: Span, places: Sequence[Stretch], chances: Sequence[float]) -> float:
    """The probability of the unit that is the stretch, or the least of the units inside it."""
    same = [
        c for (start, end), c in zip(places, chances, strict=True) if (start, end) == (span.start, span.end)
    ]
    inside = [
        c for (start, end), c in zip(places, chances, strict=True) if span.start <= start < end <= span.end
    ]
    return same[-1] if same else min(inside, default=0.0)


def calibration_of(adaptation: Adaptation | None) -> Calibration:
    """Return an adaptation's calibration; that of zero-shot knows nothing and changes nothing."""
    return Calibration() if adaptation is None else adaptation.calibration


def check_choice(
    precision: float | None, below: float | None, coverage: float | None, top: int | None, recall: float
) -> None:
    """Raise a `SettingsError` for a share that is none, or for two settings that exclude one another."""
    for name, value in (
        ("precision", precision),
        ("unsure-below", below),
        ("coverage", coverage),
        ("recall", recall),
    ):
        if value is not None and not 0 < value < 1:
            raise SettingsError(f"expected --{name} between 0 and 1, such as 0.9, found {value}.")
    for one, two, names in (
        (precision, below, "--precision or --unsure-below"),
        (coverage, top, "--coverage or --top"),
    ):
        if one is not None and two is not None:
            raise SettingsError(f"expected either {names}, found both.")
