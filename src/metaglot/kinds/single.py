"""What kinds share whose examples are one unit with one label.

A kind takes one of these for its own by naming it in its class body (`decode = decode_label`): nothing is
inherited, and what a class does stands in the class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
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
    """Return accuracy and macro-F1 over labels."""
    found = [(e.label, a.label) for e, a in zip(examples, answers, strict=True)]
    right = sum(wanted == given for wanted, given in found)
    return {"accuracy": right / len(found), "macro_f1": macro_f1(found)}


def macro_f1(found: Iterable[tuple[str, str]], class_of: Callable[[str], str | None] = str) -> float:
    """Return the mean over classes, of those that occur or are predicted, of 2 TP / (2 TP + FP + FN).

    Where there is no class at all, nothing was to be found and nothing was: 1.

    Args:
        found: each example's label and its answer's, which is right where they are equal.
        class_of: a label → the class that it counts for, or None where it counts for none. Labels of
            one class that are not equal are taken for one another wrongly.
    """
    right: Counter[str | None] = Counter()
    both: Counter[str | None] = Counter()
    for wanted, given in found:
        both.update((class_of(wanted), class_of(given)))
        right[class_of(wanted)] += wanted == given
    del both[None]
    return sum(2 * right[name] / count for name, count in both.items()) / len(both) if both else 1.0
