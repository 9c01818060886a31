"""Changed copies of examples, for a model to meet more ways of writing than its corpus has.

An augmentation is a function of a text, a random generator and how the language is written, and its
strength, from 0 (nothing changes) to 1, is the chance that a place that it could change is changed.
It knows no language: what it does is said in terms of letters, marks, words and scripts.

    Belinkov & Bisk 2018, Synthetic and natural noise both break neural machine translation.
    Aepli & Sennrich 2022, Improving zero-shot cross-lingual transfer between closely related languages
    by injecting character-level noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from metaglot.augmentation.writing import Writing
from metaglot.errors import SettingsError
from metaglot.registry import Registry
from metaglot.space import TaskSpace, generator
from metaglot.types import Example

if TYPE_CHECKING:
    import numpy as np

AUGMENTATIONS = Registry(
    "augmentation",
    {
        "case": "metaglot.augmentation.characters:case",
        "diacritics": "metaglot.augmentation.characters:diacritics",
        "noise": "metaglot.augmentation.characters:noise",
        "romanise": "metaglot.augmentation.romanisation:romanise",
        "spelling": "metaglot.augmentation.spelling:spelling",
        "words": "metaglot.augmentation.word_order:words",
    },
)

# How often each is tried until a copy is like no other.
_TRIES = 3

Augmentation: TypeAlias = "Callable[[str, np.random.Generator, Writing], str]"


def find_augmentation(name: str) -> Augmentation:
    """Return an augmentation by its name, `"noise"`, or by name and strength, `"noise:0.2"`.

    Raises:
        UnknownNameError: there is none of that name.
        SettingsError: the strength is no number above 0, or above 1.
    """
    base, colon, written = name.partition(":")
    function: Callable[..., str] = AUGMENTATIONS[base]
    if not colon:
        return function
    try:
        strength = float(written)
    except ValueError:
        strength = -1.0
    if not 0 < strength <= 1:
        raise SettingsError(
            f"expected the strength of the augmentation {base!r} above 0 and up to 1, found {written!r}.",
            hint=f"Write {base} for its usual strength, or {base}:0.2.",
        )
    return partial(function, strength=strength)


def copies_of(
    examples: Sequence[Example], names: Iterable[str], copies: int = 1, seed: int = 0
) -> list[tuple[int, Example]]:
    """Return changed copies of examples, each with the row of its original.

    Which augmentation makes a copy is drawn by chance, the same chance for all that change the text. A
    text that none of them changes has no copy, and no copy has the text of another example or copy.
    A copy has the id of its original, so that whatever is kept apart by ids stays so, and its group.

    Args:
        examples: in any number of languages; the letters that are put in are theirs.
        names: augmentations, as for `find_augmentation`.
        copies: the most copies of an example.
        seed: a copy is a function of it, the example and the copy's number.

    Raises:
        SettingsError: a name or a strength makes no sense, or `copies` is less than 1.
        MissingExtraError: an augmentation's package is not installed.
    """
    if copies < 1:
        raise SettingsError(f"expected a copy or more of each example, found {copies}.")
    chosen = [find_augmentation(name) for name in names]
    texts: dict[str, list[str]] = {}
    for e in examples:
        texts.setdefault(e.language, []).append(e.text)
    writings = {language: Writing.of(language, found) for language, found in texts.items()}
    taken = {language: set(found) for language, found in texts.items()}
    made = []
    for copy in range(copies):
        for row, e in enumerate(examples):
            chance = generator(seed, "augment", copy, e.language, e.id, e.text)
            for number in chance.permutation(len(chosen)).tolist() * _TRIES:
                text = chosen[number](e.text, chance, writings[e.language])
                if text.strip() and text not in taken[e.language]:
                    taken[e.language].add(text)
                    made.append((row, replace(e, text=text, group=_origin(e), spans=())))
                    break
    return made


def augment_examples(
    examples: Sequence[Example], names: Iterable[str], copies: int = 1, seed: int = 0
) -> tuple[Example, ...]:
    """Return examples followed by changed copies of them; see `copies_of`.

    An original and its copies are of one group, so that they never stand on two sides of a split:
    the original's, or its text where it has none.
    """
    made = copies_of(examples, names, copies, seed)
    if not made:
        return tuple(examples)
    return (*(replace(e, group=_origin(e)) for e in examples), *(copy for _, copy in made))


def augment_space(space: TaskSpace, names: Sequence[str], copies: int = 1, seed: int = 0) -> TaskSpace:
    """Return a task space whose sources have changed copies of their examples; the held-out tasks stay."""
    if not names:
        return space
    check_kind(space.corpus.kind)
    return replace(
        space,
        sources=tuple(
            replace(task, pool=augment_examples(task.pool, names, copies, seed)) for task in space.sources
        ),
    )


def check_kind(kind: str) -> None:
    """Raise a `SettingsError` unless a text's label stays when the text is changed.

    Of other kinds it does not: in a changed text nothing says where spans are.
    """
    if kind != "classification":
        raise SettingsError(
            f"expected examples of the kind 'classification' to make changed copies of, found {kind!r}.",
            hint="Leave the augmentation out.",
        )


def _origin(example: Example) -> str:
    return example.group or example.text
