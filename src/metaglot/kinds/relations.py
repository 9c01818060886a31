"""Relations: how two entities of a text stand to one another; its unit is the two together.

The entities are the spans "e1" and "e2", and the relation is the example's label. "e1" is the relation's
first argument wherever it stands in the text, so that labels may have a direction, `founder(e1,e2)` and
`founder(e2,e1)`.

Features are states of the encoder's inner layers: of each entity the mean over its tokens, and of the
words between them the mean less the text's, in columns of their own where "e2" stands first.

Chosen on RELX with a frozen e5-small: learned from 2,500 sentences of KBP-37, which is English, and judged
on German, French, Spanish and Turkish without an example of theirs; macro-F1, mean of the four:

    the text's mean state                          12.3
    entities, the last layer                       35.0
    entities, their first tokens, inner layers     42.1
    entities, inner layers                         45.5
    entities and what is between                   45.7 (of 5 examples a relation: 45.8 against 44.9)

Signs around the entities ("@ Ada @") make a frozen encoder worse, and n-grams of the words between add
nothing up to 5 examples a relation.

Köksal and Özgür, "The RELX dataset and matching the multilingual blanks for cross-lingual relation
classification", Findings of EMNLP 2020. Hendrickx et al., "SemEval-2010 task 8", SemEval 2010 (the measure).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from metaglot.encoders.base import Encoder
from metaglot.errors import DataError, Where
from metaglot.kinds.base import Stretch, Units
from metaglot.kinds.features import inner_layers, pooled, token_encoder
from metaglot.kinds.single import count_labels, decode_label, label_of, macro_f1
from metaglot.types import Answer, Example, Span

FIRST, SECOND = "e1", "e2"
"""The labels of the spans that are the entities."""

_DIRECTION = re.compile(r"\((?:e1, ?e2|e2, ?e1)\)$")
# Without case and whatever is no letter: "no_relation", "Other", "NOTA", "none of the above" …
_NONE = frozenset(("norelation", "none", "noneoftheabove", "nota", "na", "nil", "other", "unrelated"))


class Relations:
    """One label for two entities in a text."""

    shots = "label"
    metrics = ("macro_f1", "accuracy")

    count_labels = count_labels
    targets = label_of
    decode = decode_label

    def blocks(self, encoder: Encoder) -> Mapping[str, int]:
        """Return the blocks of the first entity, of the second one, and of what is between.

        Raises:
            SettingsError: the encoder has no states of single tokens.
        """
        part = token_encoder(encoder, "relations")
        width = next(iter(part.blocks.values())) * len(inner_layers(part))
        return {f"{part.name}:first": width, f"{part.name}:second": width, f"{part.name}:between": 2 * width}

    def lexical(self, encoder: Encoder) -> frozenset[str]:
        """Return no block: each is made of the encoder's states."""
        return frozenset()

    def encode(self, encoder: Encoder, examples: Sequence[Example], *, description: str) -> Units:
        """Return one unit for each text with its two entities, float16.

        Raises:
            DataError: an example has not one span "e1" and one "e2" that lie apart in its text.
            SettingsError: the encoder has no states of single tokens.
        """
        entities = [entities_of(example) for example in examples]
        widths = self.blocks(encoder)
        part = token_encoder(encoder, "relations")
        texts = [example.text for example in examples]
        every = part.token_states(texts, inner_layers(part), description=description)
        found = {name: np.zeros((len(examples), width), np.float16) for name, width in widths.items()}
        first, second, between = found.values()
        for row, (text, pair) in enumerate(zip(texts, entities, strict=True)):
            middle = _between(*pair)
            places = [*((span.start, span.end) for span in pair), middle, (0, len(text))]
            states = pooled(every[row], places)
            first[row], second[row] = states[:2]
            if text[slice(*middle)].strip():
                halves = np.split(between[row], 2)
                halves[pair[0].start > pair[1].start][:] = states[2] - states[3]
        return Units(found, tuple(((0, len(text)),) for text in texts))

    def judge(self, examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
        """Return macro-F1 over relations, and accuracy over labels.

        Macro-F1 is SemEval-2010 task 8's official one, by which KBP-37 and RELX are scored too: an answer
        is right where its direction is right as well, a relation's two directions are counted together,
        and "none of the above" is left out of the mean.
        """
        found = [(e.label, a.label) for e, a in zip(examples, answers, strict=True)]
        right = sum(wanted == given for wanted, given in found)
        return {"macro_f1": macro_f1(found, relation_of), "accuracy": right / len(found)}


def entities_of(example: Example) -> tuple[Span, Span]:
    """Return the spans "e1" and "e2" of an example; others are passed over.

    Raises:
        DataError: there is not one of each, or they overlap, or one is outside of the text or empty.
    """
    where, named = Where(field="spans"), f"in the example {example.id!r}"
    found = []
    for label in (FIRST, SECOND):
        spans = [span for span in example.spans if span.label == label]
        if len(spans) != 1:
            raise DataError(
                f"expected one entity {label!r}, found {len(spans) or 'none'} {named}.",
                where=where,
                hint=f"A relation stands between two spans of the text, labelled {FIRST!r} and {SECOND!r}.",
            )
        if not 0 <= spans[0].start < spans[0].end <= len(example.text):
            raise DataError(
                f"expected {label!r} within the text's {len(example.text)} characters, "
                f"found {spans[0].start} to {spans[0].end} {named}.",
                where=where,
                hint="Spans are given by characters: the start, and the end, which is exclusive.",
            )
        found.append(spans[0])
    first, second = found
    if first.start < second.end and second.start < first.end:
        raise DataError(
            f"expected entities apart from one another, found {FIRST!r} at {first.start} to {first.end} and "
            f"{SECOND!r} at {second.start} to {second.end} {named}.",
            where=where,
            hint="Of entities inside one another choose stretches that do not overlap.",
        )
    return first, second


def relation_of(label: str) -> str | None:
    """Return a label without its direction, or None for "none of the above"."""
    if "".join(filter(str.isalpha, label.casefold())) in _NONE:
        return None
    return _DIRECTION.sub("", label)


def _between(first: Span, second: Span) -> Stretch:
    """Return the stretch between two entities, in whichever order they stand."""
    return min(first.end, second.end), max(first.start, second.start)
