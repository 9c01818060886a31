"""What a kind is: how examples become units, units features, and scores an answer.

A *unit* is what gets one label: a text, a pair of texts, two entities in a text, a token, a stretch of
tokens. Learners see units and nothing else: rows of features, a target each. So every learner that fits
one kind fits all, and what a kind adds is before (features) and after (decoding) the learner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from numpy.typing import NDArray

from metaglot.encoders.base import Encoder
from metaglot.types import Answer, Example

if TYPE_CHECKING:
    from torch import Tensor

Stretch: TypeAlias = tuple[int, int]
"""Characters of a text, start and end (exclusive)."""

NOTHING = ""
"""The label of a unit that has none: no part of a span, no node of a tree."""


@dataclass(frozen=True)
class Units:
    """The units of some examples, one example's after the other's.

    Attributes:
        inputs: block name → features `[U, d]`, float32 or float16, U the number of all units.
        places: for each example the stretches that its units cover, in their order.
    """

    inputs: dict[str, NDArray[Any]]
    places: tuple[tuple[Stretch, ...], ...]


class Kind(Protocol):
    """One kind of task.

    Attributes:
        shots: what the k of "k shots" counts: examples of each label, or examples.
        metrics: what `judge` returns; the first is what counts.
    """

    @property
    def shots(self) -> Literal["label", "example"]: ...  # noqa: D102 - above

    @property
    def metrics(self) -> tuple[str, ...]: ...  # noqa: D102

    def count_labels(self, examples: Sequence[Example], known: Iterable[str] = ()) -> Counter[str]:
        """Return the labels that the examples' units need, each with the number of examples that have it.

        They make the inventory of a task. A label that is part of the scheme (such as the I- of a B-)
        is in it even where no example has it.

        Args:
            examples: one language's.
            known: the inventory that a model has already, which tells the scheme.
        """
        ...

    def blocks(self, encoder: Encoder) -> Mapping[str, int]:
        """Return the units' blocks of features: name → width d.

        Raises:
            SettingsError: the encoder has not what the kind needs.
        """
        ...

    def lexical(self, encoder: Encoder) -> frozenset[str]:
        """Return those of the blocks that mean nothing across languages."""
        ...

    def encode(self, encoder: Encoder, examples: Sequence[Example], *, description: str) -> Units:
        """Return the units of examples; their labels and spans are not looked at."""
        ...

    def targets(self, example: Example, places: Sequence[Stretch], labels: Collection[str]) -> list[str]:
        """Return the label of each of an example's units, by the scheme of the inventory `labels`."""
        ...

    def decode(
        self, scores: Tensor, example: Example, places: Sequence[Stretch], labels: Sequence[str]
    ) -> Answer:
        """Return the best well-formed answer.

        Args:
            scores: the units' log-probabilities (or logits) `[U, C]`.
            example: its text, tokens and what else was given; its label and spans are not looked at,
                except where they are part of what is asked (a relation's entities).
            places: its units' stretches.
            labels: the inventory, C of them.
        """
        ...

    def judge(self, examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
        """Return every metric of `metrics`, from 0 to 1, of answers for examples with their labels."""
        ...
