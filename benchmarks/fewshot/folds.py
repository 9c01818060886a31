"""Which languages are learned from and which are judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from metaglot.errors import SettingsError
from metaglot.space import generator
from metaglot.types import Corpus


@dataclass(frozen=True)
class Fold:
    """Languages to learn from, and languages to be judged on."""

    name: str
    sources: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """A corpus and its folds; no language is held out in two of them."""

    corpus: Corpus
    folds: tuple[Fold, ...]

    def __post_init__(self) -> None:
        judged = [language for fold in self.folds for language in fold.held_out]
        if twice := sorted({language for language in judged if judged.count(language) > 1}):
            raise SettingsError(f"expected every language to be held out once, found {twice[0]!r} twice.")


def leave_some_out(
    languages: Iterable[str], folds: int, key: str, *, always: tuple[str, ...] = ()
) -> tuple[Fold, ...]:
    """Return folds of nearly equal size over languages in an order that is a function of `key`.

    Args:
        languages: the corpus's.
        folds: how many.
        key: of the shuffle.
        always: languages that are sources in every fold.
    """
    names = sorted(set(languages) - set(always))
    order = [names[place] for place in generator(key, "folds").permutation(len(names)).tolist()]
    parts = [sorted(order[number::folds]) for number in range(folds)]
    return tuple(
        Fold(str(number + 1), tuple(sorted({*names, *always} - set(part))), tuple(part))
        for number, part in enumerate(parts)
    )
