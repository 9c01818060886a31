"""Texts in, labels out, with how sure they are; zero-shot where the language was never adapted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metaglot.adapting import language_code, logits
from metaglot.artifact import Adaptation, Artifact
from metaglot.calibration import Calibration
from metaglot.errors import SettingsError

TOP = 3
RECALL = 0.95


@dataclass(frozen=True)
class Prediction:
    """One text's most probable labels, and how sure they are.

    Attributes:
        text: the text.
        language: the code.
        adapted: whether the language has an adaptation; else the prediction is zero-shot.
        labels: (label, probability), the most probable first.
        sure: whether the first label is probable enough; None where nobody asked.
        scope: p-value of the text being like the examples, near 0 for a text of no known label; None
            where nothing is known of them (zero-shot, or one example per label).
        in_scope: whether that is enough for the recall that was asked for; None where `scope` is.
    """

    text: str
    language: str
    adapted: bool
    labels: tuple[tuple[str, float], ...]
    sure: bool | None = None
    scope: float | None = None
    in_scope: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as plain values, without those that are None."""
        rows = [{"label": label, "probability": round(p, 6)} for label, p in self.labels]
        found = {"text": self.text, "language": self.language, "adapted": self.adapted, "labels": rows}
        if self.sure is not None:
            found["sure"] = self.sure
        if self.scope is not None:
            found |= {"scope": round(self.scope, 6), "in_scope": self.in_scope}
        return found


def predict(
    artifact: Artifact,
    texts: Sequence[str],
    language: str,
    *,
    top: int | None = None,
    adaptation: Adaptation | None = None,
    precision: float | None = None,
    unsure_below: float | None = None,
    coverage: float | None = None,
    recall: float = RECALL,
) -> list[Prediction]:
    """Predict the labels of texts in one language, zero-shot where it was never adapted.

    Where a promise takes more examples than there are, the probabilities are believed instead:
    `Calibration.threshold(precision).doubt` and `Calibration.doubts(…)` say so.

    Args:
        artifact: the trained model.
        texts: what to classify.
        language: code or name.
        top: how many labels to return for each text, 3 by default.
        adaptation: what `adapt` made; by default what the artifact has for the language.
        precision: a prediction is sure where predictions as probable are right in this share of cases.
        unsure_below: a prediction is sure from this probability on.
        coverage: return as many labels as it takes for the true one to be among them in this share of
            texts, instead of `top`.
        recall: the share of texts of known labels that are to be found in scope.

    Raises:
        SettingsError: a number is out of its range, or two are given of which one is enough.
    """
    if top is not None and top < 1:
        raise SettingsError(f"expected --top to be 1 or more, found {top}.")
    check_choice(precision, unsure_below, coverage, top, recall)
    code, _ = language_code(artifact, language)
    adaptation = adaptation or artifact.adaptations.get(code)
    labels = artifact.model.labels if adaptation is None else adaptation.labels
    if not texts:
        return []
    calibration = calibration_of(adaptation)
    batch = artifact.model.batch(texts, labels, language=code)
    outputs = logits(artifact, None if adaptation is None else adaptation.head, batch)
    values, places = calibration.probabilities(outputs).sort(dim=-1, descending=True, stable=True)
    if coverage is None:
        counts = [min(top or TOP, len(labels))] * len(texts)
    else:
        counts = calibration.label_sets(outputs, coverage).sum(-1).tolist()
    least = unsure_below if precision is None else calibration.threshold(precision).value
    scopes = calibration.scope_of(outputs)
    found = []
    for row, text in enumerate(texts):
        chances, order = values[row, : counts[row]].tolist(), places[row, : counts[row]].tolist()
        scope = None if scopes is None else float(scopes[row])
        found.append(
            Prediction(
                text,
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
