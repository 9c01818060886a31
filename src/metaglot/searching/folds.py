"""Leave-languages-out: the sources' examples alone, divided for choosing among settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from metaglot.errors import DataError, SettingsError
from metaglot.languages import language_name
from metaglot.space import TaskSpace, generator
from metaglot.types import Corpus, Example

# Of every language's examples, the share that heads adapted to the others are judged on.
_JUDGED = 1 / 3


@dataclass(frozen=True)
class Folds:
    """A corpus to search on.

    Attributes:
        corpus: the sources' examples, a third of each language's as a dev split: sources learn from it too,
            languages that are left out are judged on it.
        parts: in each fold, the languages that are left out; no language is in two of them.
        notices: which languages are in none, and why.
    """

    corpus: Corpus
    parts: tuple[tuple[str, ...], ...]
    notices: tuple[str, ...] = ()


def language_folds(space: TaskSpace, count: int, seed: int = 0) -> Folds:
    """Divide the source languages of a task space into folds.

    Nothing of the held-out languages is in them, neither their examples nor, in a parallel corpus,
    their contents in other languages; and of the sources only what they are learned from.

    Args:
        space: the task space.
        count: how many folds; as many as there are languages where these are fewer.
        seed: of the division.

    Raises:
        SettingsError: fewer than two folds are asked for.
        DataError: fewer than two languages can be left out.
    """
    if count < 2:
        raise SettingsError(f"expected two folds of languages or more, found {count}.")
    split = _by_content if space.corpus.parallel else _by_group
    examples = tuple(e for task in space.sources for e in split(task.pool, seed))
    corpus = replace(space.corpus, examples=examples, notices=())
    able, notices = [], []
    for code in corpus.languages if len(corpus.languages) > 1 else ():
        try:
            TaskSpace.of(corpus, [code])
        except DataError as error:
            notices.append(f"{language_name(code)} ({code}) is in every fold a source: {error.problem}")
        else:
            able.append(code)
    if len(able) < 2:
        raise DataError(
            f"expected two source languages or more that can be left out in turn, found {len(able)}.",
            hint=" ".join(notices[:1]) or "Settings are judged on sources that are not learned from.",
        )
    order = [able[place] for place in generator(seed, "search", "folds").permutation(len(able))]
    parts = tuple(tuple(sorted(order[number::count])) for number in range(min(count, len(order))))
    return Folds(corpus, parts, tuple(notices))


def _by_group(pool: Iterable[Example], seed: int) -> list[Example]:
    """Put a third of each label's groups into the dev split, of all labels that they have; never all."""
    labels: dict[str, dict[str, None]] = {}
    pool = tuple(pool)
    for e in pool:
        labels.setdefault(e.label, {})[e.group or e.text] = None
    judged: dict[str, bool] = {}
    for label, names in sorted(labels.items()):
        free = [name for name in names if name not in judged]
        most = min(len(names) - 1, max(1, round(len(names) * _JUDGED)))
        aside = most - sum(judged.get(name, False) for name in names)
        order = generator(seed, "search", pool[0].language, label).permutation(len(free))
        judged |= {free[place]: number < aside for number, place in enumerate(order)}
    return [replace(e, split="dev" if judged[e.group or e.text] else "train") for e in pool]


def _by_content(pool: Iterable[Example], seed: int) -> list[Example]:
    """Put a third of a parallel corpus's contents into the dev split, the same in every language.

    They get ids of their own: by the old ones the task space has divided them already.
    """
    return [
        replace(
            e,
            id=f"search:{e.id}",
            split="dev" if generator(seed, "search", e.id).random() < _JUDGED else "train",
        )
        for e in pool
    ]
