"""How models that write are learned: jointly on all languages, then by episodes; and how they adapt.

    1. joint      min over θ of the mean loss on batches of all languages: what every method starts from
    2. meta       episodes of one language each, from there: a learner's meta-loss by the outer loop
    3. adapt      U inner steps on minibatches of a new language, from the learner's start

The third is the learner's own inner loop, of as many steps as the new language is worth, with the inner
optimizer, the choice of what adapts and the learned rates that it has been trained with. Joint training
followed by fine-tuning is the same with the learner `multitask`, whose start is the joint one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch

from metaglot.errors import SettingsError, TrainingError
from metaglot.generation.drawing import untagged
from metaglot.generation.material import Material, in_order
from metaglot.learners import LEARNERS
from metaglot.learners.base import Learner
from metaglot.learners.gradient import GradientLearner
from metaglot.learners.inner_loop import RATE, check_finite
from metaglot.learners.stacking import Stack
from metaglot.sequences.loss import total_nats
from metaglot.space import generator
from metaglot.types import Batch, Params, TaskModel

INNER: dict[str, Any] = {"steps": 5, "rate": 1e-3, "optimizer": "adam", "batch": 8, "outer_rate": 3e-4}
"""What learners of models that write begin with, unless told otherwise: their own defaults are for heads."""
OWN: dict[str, dict[str, Any]] = {
    "maml": {"learn_rates": "parameter"},
    "fomaml": {"learn_rates": "parameter"},
    "hierarchical": {"learn_rates": "parameter", "first_order": True},
    "cavia": {"learn_rates": "parameter", "first_order": True, "adapt": "context"},
}
WRITING_LEARNERS = ("fomaml", "maml", "reptile", "hierarchical", "cavia", "meta-sgd", "multitask")
"""The learners that models that write can have: those that adapt by an inner loop of gradient steps.

Not `anil`: output weights are the embeddings, and the last layer by itself is a normalisation.
"""


@dataclass(frozen=True)
class Updates:
    """How long and how fast to adapt.

    Attributes:
        steps: inner steps U.
        batch: sequences of each.
        multiple: of the learner's inner rates.
    """

    steps: int = 50
    batch: int = 8
    multiple: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch < 1 or not self.multiple > 0:
            raise SettingsError(
                f"expected steps ≥ 0, batch ≥ 1 and multiple > 0, found {self.steps}, {self.batch} and "
                f"{self.multiple:g}."
            )


def make_learner(name: str, options: Mapping[str, Any]) -> Learner:
    """Return a learner of a model that writes, with its options over the defaults of such models.

    `cavia` adapts the model's own context, which is added to what comes in: that is the algorithm of
    Zintgraf et al. (2019) where context is an input of the network.

    Raises:
        SettingsError: the learner has no inner loop of steps, or no such option.
    """
    LEARNERS[name]
    if name not in WRITING_LEARNERS:
        raise SettingsError(
            f"expected a learner that adapts by gradient steps ({', '.join(WRITING_LEARNERS)}), "
            f"found {name!r}.",
            hint="What a model writes is not linear in any features: only these can adapt it.",
        )
    given = INNER | OWN.get(name, {}) | dict(options)
    factory = LEARNERS["maml" if name == "cavia" else name]
    try:
        learner: Learner = factory(**given)
    except TypeError as error:
        raise SettingsError(f"the options of the learner {name!r} are wrong: {error}.") from error
    return learner


def adapt(
    model: TaskModel,
    learner: GradientLearner,
    meta: Params,
    material: Material,
    updates: Updates,
    *key: int | str,
) -> Params:
    """Return a language's own parameters after so many inner steps on minibatches of its material.

    Args:
        model: the model.
        learner: whose inner loop it is.
        meta: its meta-parameters.
        material: the language's sequences.
        updates: how long and how fast; no step gives what the language would start from.
        key: the seed of the minibatches.

    Raises:
        TrainingError: the steps have diverged.
    """
    return adapt_through(model, learner, meta, material, updates, (), *key)[updates.steps]


def adapt_through(
    model: TaskModel,
    learner: GradientLearner,
    meta: Params,
    material: Material,
    updates: Updates,
    stops: Collection[int],
    *key: int | str,
) -> dict[int, Params]:
    """Return what `adapt` does, and the same after fewer steps on the way: number of steps → parameters."""
    chance = generator(*key, "untagged")
    drawn = islice(material.batches(updates.batch, *key), updates.steps)
    known = [untagged(batch, float(material.tagged), chance) for batch in drawn]
    some = known or [material.batch([0])]
    begin, common = learner.begin(model, meta, [some[0]])
    begin = {n: v.detach() for n, v in begin.items()}
    if not known:
        return {0: {n: v.squeeze(0) for n, v in begin.items()}}
    inner = replace(learner.inner, steps=updates.steps, batch=0, rate=learner.inner.rate * updates.multiple)
    shift = math.log(updates.multiple)
    meta = {n: v.detach() + shift if n.startswith(RATE) else v.detach() for n, v in meta.items()}
    first, *rest = (Stack.of([batch]) for batch in known)
    stops = sorted({*(stop for stop in stops if 0 < stop < updates.steps), updates.steps})
    ways = inner.run(model, meta, begin, common, first, learning=False, turns=rest, kept=stops)
    found = {
        stop: {n: v.squeeze(0) for n, v in own.items()}
        for stop, own in zip(stops, ways[-len(stops) :], strict=True)
    }
    check_finite(found[updates.steps], inner)
    return found


def whole(model: TaskModel, learner: Learner, meta: Params, adapted: Params, batch: Batch) -> Params:
    """Return all of a model's parameters with a language's own in their places."""
    _, common = learner.begin(model, meta, [batch])  # type: ignore[attr-defined]
    return {n: v.detach() for n, v in common.items()} | adapted


def nats(model: TaskModel, params: Params, material: Material, batch: int = 64) -> float:
    """Return −log p of all of a material's sequences, in nats."""
    total, chance = 0.0, generator("nats")
    with torch.no_grad():
        for tagged in in_order(material, batch):
            each = untagged(tagged, float(material.tagged), chance)
            outputs = model.forward(params, each)
            total += float(total_nats(outputs.float(), each.targets))
    if not math.isfinite(total):
        raise TrainingError("expected a finite loss, found one that is not a number: the model has diverged.")
    return total
