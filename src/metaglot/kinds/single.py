"""What kinds share whose examples are one unit with one label.

A kind takes one of these for its own by naming it in its class body (`decode = decode_label`): nothing is
inherited, and what a class does stands in the class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from metaglot.kinds.base import Stretch
from metaglot.types import Answer, Example

if TYPE_CHECKING:
    from torch import Tensor


def count_labels(kind: object, examples: Sequence[Example], known: Iterable[str] = ()) -> Counter[str]:
    """Return each label with the number of its examples."""
    return Counter(example.label for example in examples)


def label_of(kind: object, example: Example, places: Sequence[Stretch], labels: Collection[str]) -> list[str]:
    """Return the example's label, its only unit's."""
    return [example.label]


def decode_label(
    kind: object, scores: Tensor, example: Example, places: Sequence[Stretch], labels: Sequence[str]
) -> Answer:
    """Return the label of the highest score; of equals, the first."""
    return Answer(label=labels[int(scores[0].argmax())])


def judge_labels(kind: object, examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
    """Return accuracy and macro-F1.

    Macro-F1 is the mean over labels, of those that occur or are predicted, of 2 TP / (2 TP + FP + FN).
    """
    found = [(e.label, a.label) for e, a in zip(examples, answers, strict=True)]
    right = Counter(wanted for wanted, given in found if wanted == given)
    both = Counter(label for pair in found for label in pair)
    return {
        "accuracy": right.total() / len(found),
        "macro_f1": sum(2 * right[label] / count for label, count in both.items()) / len(both),
    }
