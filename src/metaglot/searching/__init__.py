"""Cross-validation over languages: settings that are good for a language that was not learned from.

The source languages are divided into folds. In turn one fold is left out; every combination of settings
learns from the others, adapts to a few examples of the languages left out, and is judged on the rest of
theirs. The languages that the recipe holds out are never touched: what is chosen on a language says
nothing about new ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaglot.config import Recipe
from metaglot.distributed import processes
from metaglot.drawing import with_codes
from metaglot.encoders import Encoder, load_encoder
from metaglot.errors import SettingsError, TrainingError
from metaglot.evaluation.grid import check_grid, run_grid
from metaglot.learners.base import Learner
from metaglot.progress import progress
from metaglot.searching.choices import Combination, combinations
from metaglot.searching.folds import language_folds
from metaglot.searching.ledger import Ledger
from metaglot.searching.outcome import Gain, Judged, SearchResult
from metaglot.space import TaskSpace
from metaglot.storage import text_hash
from metaglot.training import Fitted, code_hash, fit, train_learners
from metaglot.types import Corpus, Params

__all__ = ["Combination", "Gain", "Judged", "SearchResult", "combinations", "search"]

# Combinations that are judged together, since the languages left out are encoded once for all of them; a
# kill costs what has been judged of so many.
_TOGETHER = 8


def search(
    corpus: Corpus,
    recipe: Recipe,
    choices: Mapping[str, Sequence[Any]],
    *,
    folds: int = 4,
    shots: Sequence[int] = (1, 8),
    draws: int = 5,
    random: int | None = None,
    results: Path | None = None,
    notices: Callable[[Sequence[str]], None] | None = None,
) -> SearchResult:
    """Judge combinations of settings on source languages that are left out in turn.

    All combinations have the same folds and the same draws of examples, so that differences are paired.
    One whose training diverges is said to have failed, and the others go on.

    Args:
        corpus: the examples.
        recipe: what the choices are laid over; it is judged as it stands, too.
        choices: setting, such as `train.steps` → values; see `metaglot.searching.combinations`.
        folds: how many times some languages are left out.
        shots: numbers of examples per label.
        draws: support sets per language and number of shots.
        random: try so many combinations by chance; all where None.
        results: a file that has a line for each combination and fold once it is judged; what it has is
            not judged again.
        notices: takes what the user should know.

    Raises:
        SettingsError: a choice makes no sense, `results` is of another search, or several processes run it.
        DataError: there are not two source languages to leave out.
    """
    if processes().size > 1:
        raise SettingsError(f"expected one process to search, found {processes().size}.")
    tried = combinations(recipe, choices, random=random)
    check_grid(["learner"], shots, draws)
    space = TaskSpace.of(corpus, recipe.held_out, sources=recipe.sources)
    for combination in tried:
        with_codes([task.language for task in space.sources], combination.recipe.train)
    seed = recipe.train.seed
    divided = language_folds(space, folds, seed)
    if notices is not None:
        notices((*space.notices, *divided.notices))
    header = {
        "corpus": corpus.name,
        "fingerprint": divided.corpus.fingerprint,
        "folds": divided.parts,
        "shots": sorted(set(shots)),
        "draws": draws,
        "seed": seed,
        "code": code_hash(),
    }
    ledger = Ledger(results, header)
    encoders = {name: load_encoder(name) for name in dict.fromkeys(one.recipe.encoder for one in tried)}
    keys = {_key(one, encoders[one.recipe.encoder]): one for one in tried}
    with progress("searching", len(keys) * len(divided.parts)) as advance:
        for number, part in enumerate(divided.parts):
            left = {key: one for key, one in keys.items() if (key, number) not in ledger}
            advance(len(keys) - len(left))
            for same in _fitted_alike(left):
                recipes = {
                    key: _without(one.recipe, divided.corpus.languages, part) for key, one in same.items()
                }
                first = next(iter(recipes.values()))
                fitted = fit(divided.corpus, first, encoder=encoders[first.encoder])
                for key, reached in _judge(fitted, recipes, shots=shots, draws=draws, seed=seed):
                    line = {"combination": key, "values": dict(keys[key].values), "fold": number}
                    ledger.add(line | reached)
                    advance(1, f"fold {number + 1} of {len(divided.parts)}")
    judged = [
        _judged(one, [ledger[key, number] for number in range(len(divided.parts))])
        for key, one in keys.items()
    ]
    return SearchResult(judged, shots)


def _judge(
    fitted: Fitted, recipes: Mapping[str, Recipe], *, shots: Sequence[int], draws: int, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Judge recipes on one fold's languages; yield each one's key and what it reached, or why it failed."""
    keys = list(recipes)
    for start in range(0, len(keys), _TOGETHER):
        together = keys[start : start + _TOGETHER]
        learners: dict[str, tuple[Learner, Params]] = {}
        reached: dict[str, dict[str, Any]] = {}
        for key in together:
            name = recipes[key].learner
            try:
                learner, result = train_learners(fitted, recipes[key], [name])[name]
            except TrainingError as error:
                reached[key] = {"failed": str(error)}
            else:
                learners[key] = (learner, result.meta)
                reached[key] = {"accuracy": {}}
        if learners:
            records = run_grid(
                fitted.sources, fitted.space, learners, baselines=(), shots=shots, draws=draws, seed=seed
            )
            for r in records:
                of_language = reached[r.method]["accuracy"].setdefault(r.language, {})
                of_language.setdefault(r.shots, []).append(r.metrics["accuracy"])
        yield from reached.items()


def _fitted_alike(left: Mapping[str, Combination]) -> list[dict[str, Combination]]:
    """Combinations that need the sources fitted once for all of them, together.

    Of the outer loop's settings only the seed has a part in it: the sources' changed copies are drawn by it.
    """
    found: dict[str, dict[str, Combination]] = {}
    for key, one in left.items():
        parts = one.recipe.model_dump(mode="json", exclude={"learner", "learner_options", "train"})
        parts["seed"] = one.recipe.train.seed
        found.setdefault(json.dumps(parts, sort_keys=True), {})[key] = one
    return list(found.values())


def _without(recipe: Recipe, languages: Sequence[str], part: Sequence[str]) -> Recipe:
    """Return a recipe that holds a fold out, and whose loop names none of its languages."""
    train = with_codes(languages, recipe.train)
    validation = recipe.train.validation
    if isinstance(validation, tuple):
        assert isinstance(train.validation, tuple)
        validation = tuple(code for code in train.validation if code not in part)
    weights = {code: weight for code, weight in train.weights.items() if code not in part}
    train = train.model_copy(update={"validation": validation, "weights": weights})
    return recipe.model_copy(update={"held_out": tuple(part), "sources": None, "train": train})


def _judged(one: Combination, lines: Sequence[Mapping[str, Any]]) -> Judged:
    """Put together what a combination reached in all folds."""
    failed = next((str(line["failed"]) for line in lines if "failed" in line), "")
    accuracy = {
        language: {int(k): sum(values) / len(values) for k, values in found.items()}
        for line in lines
        for language, found in line.get("accuracy", {}).items()
    }
    return Judged(one, {} if failed else accuracy, failed)


def _key(one: Combination, encoder: Encoder) -> str:
    """A name for a recipe and the encoder that it names, which may be a folder of changed content."""
    return text_hash(json.dumps(one.recipe.model_dump(mode="json"), sort_keys=True), encoder.fingerprint)[:16]
