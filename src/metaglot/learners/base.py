"""The contract of every learner: how parameters adapt, and how the adapting itself is learned.

Meta-parameters ω are what the outer loop learns across languages; an adaptation θ is what one
language's support set makes of them. With episodes e of support Sₑ and query Qₑ, every learner
minimises

    Σₑ L(forward(adapt(ω, Sₑ), Qₑ))    over ω

A learner sees a `TaskModel`, batches of tensors and nothing else: no dataset, no tokenizer, no
language's name. Its functions are pure: they change none of their arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from metaglot.errors import DataError, SettingsError
from metaglot.types import Batch, Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


@runtime_checkable
class Learner(Protocol):
    """A meta-learning algorithm.

    Attributes:
        needs: what the model's `outputs` must be for this learner to work.
    """

    @property
    def needs(self) -> frozenset[str]: ...  # noqa: D102 - above

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the meta-parameters to start from."""
        ...

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate (Adam's step size) for the meta-parameter `name`."""
        ...

    def adapt(self, model: TaskModel, meta: Params, support: Batch) -> Params:
        """Return parameters of `model` for the support set's labels, differentiable in `meta`."""
        ...

    def predict(self, model: TaskModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`."""
        ...

    def prepare(self, model: TaskModel, episode: Episode) -> Any:
        """Return whatever of an episode no meta-parameter enters, worked out once."""
        ...

    def meta_loss(self, model: TaskModel, meta: Params, episodes: Sequence[Any]) -> Tensor:
        """Return the mean loss, a scalar, over prepared episodes, differentiable in `meta`."""
        ...


def check_support(support: Batch) -> None:
    """Raise a `DataError` unless a support set has two labels and targets in their range."""
    n_labels = len(support.classes)
    if len(support) == 0:
        raise DataError("expected a support set, found no example.")
    low, high = int(support.targets.min()), int(support.targets.max())
    if low < 0 or high >= n_labels:
        raise DataError(f"expected label numbers from 0 to {n_labels - 1}, found {low} to {high}.")
    if low == high:
        raise DataError(
            "expected examples of at least two labels, found one label only.",
            hint="Add examples of the other labels: from one alone there is nothing to tell apart.",
        )


def check_pair(learner_name: str, learner: Learner, kind_name: str, outputs: str) -> None:
    """Raise a `SettingsError` naming both unless the learner can work on what the kind outputs."""
    if outputs not in learner.needs:
        raise SettingsError(
            f"the learner {learner_name!r} needs {' or '.join(sorted(learner.needs))}, "
            f"and the kind {kind_name!r} gives {outputs}.",
            hint="`metaglot list learners` shows which learner fits which kind.",
        )


def shots_of(support: Batch) -> float:
    """Return the mean number of support examples per label."""
    return len(support) / max(1, len(support.classes))


# What most learners share. A learner takes one of these for its own by naming it in its class body
# (`predict = by_head`): nothing is inherited, and what a class does stands in the class.


def by_head(
    learner: Learner,
    model: TaskModel,
    meta: Params,
    adapted: Params,
    batch: Batch,
) -> Tensor:
    """Return the logits `[n, C]` of the adapted head."""
    return model.forward(adapted, batch)


def as_it_is(learner: Learner, model: TaskModel, episode: Episode) -> Episode:
    """Return the episode: meta-parameters enter all that is worked out of it."""
    return episode


def mean_query_loss(learner: Learner, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
    """Return the mean over episodes of the query loss after adapting, a scalar."""
    losses = []
    for episode in episodes:
        adapted = learner.adapt(model, meta, episode.support)
        logits = learner.predict(model, meta, adapted, episode.query)
        losses.append(model.loss(logits, episode.query.targets))
    return torch.stack(losses).mean()
