"""Classification: one label for a text; its unit is the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metaglot.encoders.base import Encoder
from metaglot.kinds.base import Units
from metaglot.kinds.single import count_labels, decode_label, judge_labels, label_of
from metaglot.types import Example


class Classification:
    """One label for a text: the encoder's features as they are."""

    shots = "label"
    metrics = ("accuracy", "macro_f1")

    count_labels = count_labels
    targets = label_of
    decode = decode_label
    judge = judge_labels

    def blocks(self, encoder: Encoder) -> Mapping[str, int]:
        """Return the encoder's own blocks."""
        return encoder.blocks

    def lexical(self, encoder: Encoder) -> frozenset[str]:
        """Return the encoder's own lexical blocks."""
        return encoder.lexical

    def encode(self, encoder: Encoder, examples: Sequence[Example], *, description: str) -> Units:
        """Return one unit for each text."""
        texts = [example.text for example in examples]
        return Units(
            dict(encoder.encode(texts, description=description)),
            tuple(((0, len(text)),) for text in texts),
        )
