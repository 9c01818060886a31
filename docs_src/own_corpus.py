"""A corpus in one file."""

from __future__ import annotations

from collections.abc import Iterable

from metaglot import Corpus, Example

GREETINGS = {
    "eng": ("good morning", "good night"),
    "spa": ("buenos días", "buenas noches"),
    "swh": ("habari za asubuhi", "usiku mwema"),
}


def load(*, languages: Iterable[str] | None = None) -> Corpus:
    """Greetings of the morning and of the night, in three languages."""
    chosen = GREETINGS if languages is None else {code: GREETINGS[code] for code in languages}
    examples = tuple(
        Example(
            id=f"{code}-{label}-{number}",
            text=f"{text}{'!' * number}",
            label=label,
            language=code,
            split="test" if number == 3 else "train",
        )
        for code, texts in chosen.items()
        for label, text in zip(("morning", "night"), texts, strict=True)
        for number in range(4)
    )
    return Corpus("greetings", examples, licence="CC0-1.0", source="written for this page")
