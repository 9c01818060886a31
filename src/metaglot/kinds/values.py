"""Canonical values: what a stretch of text means in the corpus's own words ("blau" is `blue`, "fifty" 50).

They are looked up in counts of which text meant which value under which label: nothing is trained. A text of
a label is, in this order and each time as it is written but for case, width and spaces,

    1. what the language's own examples say of it, under the label or, if it is a value that the label can
       have, under any other: "fifty" is 50 for hours as for minutes;
    2. what the source languages' examples say of it, alike: names and numbers are often written the same;
    3. what the own examples say under the label of a text that is nearly the same ("blauen" of "blau"),
       unless that is a number: a number word nearly the same is mostly another number.

Where none knows it there is no value, and the copied text is the answer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any, TypeAlias

from metaglot.types import Example, Span

Counts: TypeAlias = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Label → folded text → value → number of spans; an empty value says that the text itself is meant."""

NEAR = 0.85
"""The least similarity of texts that are nearly the same: Ratcliff and Obershelp's, 1 for equal texts.

Chosen on the source languages of the home-assistant corpus, with 20 and 100 sentences of one and all of the
others: from 0.7 up to here there is ever more that is right for each that is wrong (4.5 here, with 100), and
above it little is found.
"""

_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")


@dataclass(frozen=True)
class Values:
    """Which text meant which value in some examples, by label; false where no span has a value.

    Attributes:
        counts: of the labels that have values. Their texts without one are in it too, as known to mean
            themselves.
    """

    counts: Counts = field(default_factory=dict)

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Values:
        """Return the values of all examples' spans."""
        found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for example in examples:
            for span in example.spans:
                found[span.label][folded(example.text[span.start : span.end])][span.value] += 1
        return cls(
            {
                label: {text: dict(sorted(values.items())) for text, values in sorted(texts.items())}
                for label, texts in sorted(found.items())
                if any(value for values in texts.values() for value in values)
            }
        )

    def to_json(self) -> str:
        """Return the counts in one line."""
        return json.dumps(self.counts, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Values:
        """Return what `to_json` has written.

        Raises:
            ValueError: it is something else.
        """
        counts: Any = json.loads(text)
        levels = [counts]
        for depth in range(3):
            if not all(isinstance(level, dict) and (level or depth == 0) for level in levels):
                raise ValueError("expected values by label and text")
            levels = [below for level in levels for below in level.values()]
        if not all(type(count) is int and count > 0 for count in levels):
            raise ValueError("expected how often each value occurs, a whole number from 1 on")
        return cls(counts)

    def __bool__(self) -> bool:
        """Return whether any span has a value."""
        return bool(self.counts)

    @cached_property
    def by_label(self) -> dict[str, frozenset[str]]:
        """Every label's values."""
        return {
            label: frozenset(value for values in texts.values() for value in values if value)
            for label, texts in self.counts.items()
        }

    def exact(self, label: str, text: str, allowed: frozenset[str]) -> str | None:
        """Return what a folded text means, empty for itself; None where it was not seen.

        Args:
            label: the text's; other labels are asked if it is not seen under this one.
            text: folded.
            allowed: the values that may be taken from other labels.
        """
        if values := self.counts.get(label, {}).get(text):
            return _most(values)
        others: Counter[str] = Counter()
        for texts in self.counts.values():
            others.update({value: n for value, n in texts.get(text, {}).items() if value in allowed})
        return _most(others) if others else None

    def near(self, label: str, text: str) -> str:
        """Return what the most similar folded text of the label means; empty for none, and for a number.

        Of equally similar ones the more frequent counts, then the first in the alphabet.
        """
        matcher = SequenceMatcher(None, b=text, autojunk=False)
        found = []
        for known, values in self.counts.get(label, {}).items():
            matcher.set_seq1(known)
            bounds = (matcher.real_quick_ratio, matcher.quick_ratio)  # cheap ones first
            if all(bound() >= NEAR for bound in bounds) and (ratio := matcher.ratio()) >= NEAR:
                value = _most(values)
                found.append((-ratio, -values[value], value))
        value = min(found)[-1] if found else ""
        return "" if _NUMBER.fullmatch(value) else value


def value_of(label: str, text: str, own: Values, sources: Values) -> str:
    """Return what a stretch of text means, empty where the text itself is meant or nothing is known.

    Args:
        label: the stretch's.
        text: its characters.
        own: of the language's own examples.
        sources: of the source languages' examples.
    """
    allowed = own.by_label.get(label, frozenset()) | sources.by_label.get(label, frozenset())
    if not allowed:
        return ""
    key = folded(text)
    found = (known.exact(label, key, allowed) for known in (own, sources))
    value = next((value for value in found if value is not None), None)
    if value is None:
        value = own.near(label, key)
    return "" if value == text else value


def with_values(spans: Sequence[Span], text: str, own: Values, sources: Values) -> tuple[Span, ...]:
    """Return spans of a text with the values that `value_of` finds."""
    return tuple(
        replace(span, value=value_of(span.label, text[span.start : span.end], own, sources)) for span in spans
    )


def folded(text: str) -> str:
    """Return a text without what does not change its meaning: case, width, more than one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _most(values: Mapping[str, int]) -> str:
    """Return the most frequent value, the first in the alphabet where several are."""
    return min(values, key=lambda value: (-values[value], value))
