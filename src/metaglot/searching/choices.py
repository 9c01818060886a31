"""What is tried: combinations of settings, each a whole recipe."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from metaglot.config import Recipe, changed_recipe, write_recipe
from metaglot.errors import SettingsError
from metaglot.learners import LEARNERS
from metaglot.space import generator
from metaglot.training import make_learner

# More than so many are never tried one by one, and their order by chance is not written down.
_MANY = 10_000

# What the folds are made from, and so the same for all.
FIXED = ("corpus", "columns", "encoding", "corpus_options", "parallel", "held_out", "sources")
_OPTIONS = "learner_options."


@dataclass(frozen=True)
class Combination:
    """One choice for every setting that is tried.

    Attributes:
        values: setting → value, as far as they apply; none for the recipe as it stands.
        recipe: the recipe with them.
    """

    values: Mapping[str, Any]
    recipe: Recipe

    def __str__(self) -> str:
        named = (f"{name}={_text(value)}" for name, value in self.values.items())
        return ", ".join(named) or "the recipe as it stands"


def combinations(
    recipe: Recipe, choices: Mapping[str, Sequence[Any]], *, random: int | None = None
) -> list[Combination]:
    """Return the recipe as it stands, and every combination of choices that differs from it.

    An option of a learner applies to the learners that have it; what is then the same is tried once. A
    learner that is not the recipe's has its defaults, but for what is tried.

    Args:
        recipe: what the choices are laid over.
        choices: setting, such as `learner`, `train.steps` or `learner_options.steps` → values.
        random: try so many of the combinations, drawn by the recipe's seed; all where None.

    Raises:
        SettingsError: a setting that is not there or cannot be tried, or a value that makes no sense.
    """
    for name, listed in choices.items():
        if name.partition(".")[0] in FIXED:
            raise SettingsError(
                f"expected settings that have nothing to do with which data are read, found {name!r}.",
                hint="The languages are divided by the search itself; the rest is the recipe's.",
            )
        if not listed:
            raise SettingsError(f"expected values to try for {name!r}, found none.")
    if not choices or (random is not None and random < 1):
        raise SettingsError(
            "expected settings to try, found none."
            if not choices
            else f"expected random ≥ 1, found {random}."
        )
    if random is None and (total := prod(map(len, choices.values()))) > _MANY:
        raise SettingsError(
            f"expected {_MANY:,} combinations or fewer, found {total:,}.",
            hint="Try some of them: --random N, or random=N in Python.",
        )
    make_learner(recipe)
    found = {write_recipe(recipe): Combination({}, recipe)}
    for values in _ordered(choices, random, recipe.train.seed):
        if random is not None and len(found) > random:
            break
        made = _combination(recipe, values, choices.get("learner", (recipe.learner,)))
        found.setdefault(write_recipe(made.recipe), made)
    if len(found) == 1:
        raise SettingsError("expected something to try that is not in the recipe already, found nothing.")
    return list(found.values())


def _ordered(choices: Mapping[str, Sequence[Any]], random: int | None, seed: int) -> Iterator[dict[str, Any]]:
    """Every combination of values, the last setting's turning fastest, or in an order by chance.

    Of very many, some by chance, each setting's value apart.
    """
    total, chance = prod(map(len, choices.values())), generator(seed, "search")
    if random is not None and total > _MANY:
        for _ in range(20 * random):  # some may come to the same
            yield {name: values[int(chance.integers(len(values)))] for name, values in choices.items()}
        return
    for number in range(total) if random is None else chance.permutation(total).tolist():
        found: dict[str, Any] = {}
        for name, values in reversed(list(choices.items())):
            number, place = divmod(number, len(values))  # noqa: PLW2901 - its digits, the last first
            found[name] = values[place]
        yield {name: found[name] for name in choices}


def _combination(recipe: Recipe, values: Mapping[str, Any], learners: Sequence[str]) -> Combination:
    learner = values.get("learner", recipe.learner)
    applied = {name: value for name, value in values.items() if _applies(name, learner, learners)}
    base = recipe if learner == recipe.learner else recipe.model_copy(update={"learner_options": {}})
    made = changed_recipe(base, applied)
    make_learner(made)
    return Combination(applied, made)


def _applies(name: str, learner: str, learners: Sequence[str]) -> bool:
    """Tell whether a setting is one of a learner's, where it is one of some of those that are tried."""
    if not name.startswith(_OPTIONS):
        return True
    option = name.removeprefix(_OPTIONS).partition(".")[0]
    having = [other for other in learners if option in inspect.signature(LEARNERS[other]).parameters]
    return learner in having or not having


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
