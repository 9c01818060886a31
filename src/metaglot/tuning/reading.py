"""What of an example the encoder reads, and the features that its vectors make: one text, or two compared.

    classification  u, of length 1
    pairs           [u, v, |u − v|, u · v]

For pairs both texts go through the one encoder (siamese), and only their vectors meet: Conneau et al.
(2017), "Supervised learning of universal sentence representations"; Reimers & Gurevych (2019),
"Sentence-BERT". So a text's features do not depend on what it is compared with, as after tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from metaglot.errors import DataError, Where
from metaglot.types import Example

if TYPE_CHECKING:
    from torch import Tensor

# By kind: how many texts an example has, and of how many examples a label a few-shot judgement learns.
# Four pairs of a label say next to nothing.
_PARTS = {"classification": 1, "pairs": 2}
_SHOTS = {"classification": 4, "pairs": 16}


@dataclass(frozen=True)
class Reading:
    """How examples of one kind are read.

    Attributes:
        kind: `classification` or `pairs`.
    """

    kind: str = "classification"

    @property
    def parts(self) -> int:
        """How many texts an example has."""
        return _PARTS[self.kind]

    @property
    def shots(self) -> int:
        """Examples a label that a few-shot judgement learns from."""
        return _SHOTS[self.kind]

    def texts(self, examples: Sequence[Example]) -> list[str]:
        """Return the texts of each example, one example after the other.

        Raises:
            DataError: a pair lacks its second text.
        """
        if self.parts == 1:
            return [e.text for e in examples]
        for example in examples:
            if not example.pair.strip():
                raise DataError(
                    f"expected two texts, found no second one in the example {example.id!r} "
                    f"({example.language}).",
                    where=Where(field="pair"),
                    hint="Name the column of the second text, or choose the kind 'classification'.",
                )
        return [text for e in examples for text in (e.text, e.pair)]

    def places(self, rows: Sequence[int]) -> list[int]:
        """Return where the texts of the examples at `rows` are among all texts."""
        return [row * self.parts + part for row in rows for part in range(self.parts)]

    def features(self, vectors: Tensor) -> Tensor:
        """Return features `[n, d]`, or `[n, 4 d]` of pairs, of the texts' vectors, of length 1."""
        if self.parts == 1:
            return vectors
        # Entries of about 1, so that products are neither tiny nor taken for constant.
        u, v = (vectors * vectors.shape[1] ** 0.5).unflatten(0, (-1, 2)).unbind(1)
        return torch.cat([u, v, (u - v).abs(), u * v], 1)
