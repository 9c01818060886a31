"""The contract of every learner: how parameters adapt, and how the adapting itself is learned.

Meta-parameters ω are what the outer loop learns across languages; an adaptation θ is what one
language's support set makes of them. With episodes e of support Sₑ and query Qₑ, every learner
minimises

    Σₑ wₑ L(predict(ω, adapt(ω, Sₑ), Qₑ)) / Σₑ wₑ    over ω

(a few put a bound or a surrogate of the same purpose in its place, and say so). A learner sees a
model, batches of tensors and nothing else: no dataset, no tokenizer, no language's name. Its
functions are pure: they change none of their arguments.

What is shared and what is a task's own are kept apart: `adapt` returns the task's own parameters
alone, and `predict` puts them beside the shared ones, which stay among the meta-parameters. Over a
linear head on frozen features (`outputs` is "label-scores" and `body` is empty) the adaptation is the
whole head, so that it runs without the learner and without ω, for every learner whose predictions are
linear in the features. What the others adapt (`matching`, `laplace`) their own `predict` alone can run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from metaglot.errors import DataError, SettingsError
from metaglot.types import Batch, Episode, FeatureModel, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


@runtime_checkable
class Learner(Protocol):
    """A meta-learning algorithm.

    The models that it is given are `TaskModel`s, and `FeatureModel`s where it needs label scores.

    Attributes:
        needs: what the model's `outputs` may be for this learner to work.
    """

    @property
    def needs(self) -> frozenset[str]: ...  # noqa: D102 - above

    def init(self, model: Any, generator: Generator) -> Params:
        """Return the meta-parameters to start from."""
        ...

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate (Adam's step size) for the meta-parameter `name`.

        Zero is for what `write` alone changes: it is state, and no optimizer sees it.
        """
        ...

    def adapt(self, model: Any, meta: Params, support: Batch) -> Params:
        """Return the task's own parameters, differentiable in `meta` where gradients are enabled."""
        ...

    def predict(self, model: Any, meta: Params, adapted: Params, batch: Batch) -> Tensor:
        """Return the model's outputs for a batch: logits `[n, C]` where tasks have labels."""
        ...

    def prepare(self, model: Any, episode: Episode) -> Any:
        """Return whatever of an episode no meta-parameter enters, worked out once."""
        ...

    def meta_loss(self, model: Any, meta: Params, episodes: Sequence[Any]) -> Tensor:
        """Return the weighted mean loss, a scalar, over prepared episodes, differentiable in `meta`."""
        ...

    def write(self, model: Any, meta: Params, episodes: Sequence[Any]) -> Params:
        """Return the meta-parameters that change by themselves after an outer step; most have none.

        The outer loop calls it, without gradients, with the prepared episodes that it has just
        stepped on.
        """
        ...


IGNORED = -100
"""The target that cross-entropy leaves out unless told otherwise."""


def check_support(support: Batch) -> None:
    """Raise a `DataError` unless a support set is sound and has two labels.

    A support set whose targets are no labels (floating point, or without `classes`) needs an example.
    """
    if len(support) == 0:
        raise DataError("expected a support set, found no example.")
    check_batch(support)
    if len(support.classes) == 0 or support.targets.is_floating_point():
        return
    labels = support.targets[support.targets != IGNORED]
    if bool((labels == labels[:1]).all()):
        raise DataError(
            "expected examples of at least two labels, found one label only.",
            hint="Add examples of the other labels: from one alone there is nothing to tell apart.",
        )


def check_batch(batch: Batch) -> None:
    """Raise a `DataError` unless inputs have a row for each target and labels are in their range."""
    for name, block in batch.inputs.items():
        if block.ndim == 0 or len(block) != len(batch):
            raise DataError(
                f"expected one row of the input {name!r} for each of {len(batch)} targets, "
                f"found the shape {tuple(block.shape)}."
            )
    n_labels = len(batch.classes)
    if n_labels == 0 or batch.targets.is_floating_point() or len(batch) == 0:
        return
    labels = batch.targets[batch.targets != IGNORED]
    if bool(((labels < 0) | (labels >= n_labels)).any()):
        raise DataError(
            f"expected label numbers from 0 to {n_labels - 1}, "
            f"found {int(labels.min())} to {int(labels.max())}."
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


def by_head(learner: Learner, model: FeatureModel, meta: Params, adapted: Params, batch: Batch) -> Tensor:
    """Return the logits `[n, C]` of the adapted head over the features of the shared body."""
    return model.apply_head(adapted, model.embed(body_of(model, meta) | adapted, batch))


def as_it_is(learner: Learner, model: TaskModel, episode: Episode) -> Episode:
    """Return the episode: meta-parameters enter all that is worked out of it."""
    return episode


def nothing_written(learner: Learner, model: TaskModel, meta: Params, episodes: Sequence[Any]) -> Params:
    """Return nothing: the outer loop's gradient steps are all there is to learn by."""
    return {}


def mean_query_loss(learner: Learner, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
    """Return the weighted mean over episodes of the query loss after adapting, a scalar."""
    losses = []
    for episode in episodes:
        check_batch(episode.query)
        adapted = learner.adapt(model, meta, episode.support)
        logits = learner.predict(model, meta, adapted, episode.query)
        losses.append(model.loss(logits, episode.query.targets))
    return weighted_mean(torch.stack(losses), [episode.weight for episode in episodes])


def weighted_mean(losses: Tensor, weights: Sequence[float]) -> Tensor:
    """Return Σ wₑ lₑ / Σ wₑ, a scalar, of losses `[m]`.

    Raises:
        SettingsError: a weight is negative, or all are zero.
    """
    if min(weights) < 0 or sum(weights) <= 0:
        raise SettingsError(f"expected task weights ≥ 0 and one above, found {list(weights)}.")
    if len(set(weights)) == 1:
        return losses.mean()
    return losses @ losses.new_tensor(weights) / sum(weights)


START = "start."
"""What the names of meta-parameters that are a model's own parameters begin with."""


def started(params: Params) -> Params:
    """Return a model's parameters as meta-parameters."""
    return {START + name: value for name, value in params.items()}


def start_of(meta: Params) -> Params:
    """Return the model's parameters among the meta-parameters, by their names in the model."""
    return {name.removeprefix(START): value for name, value in meta.items() if name.startswith(START)}


def body_of(model: FeatureModel, meta: Params) -> Params:
    """Return the body's parameters among the meta-parameters; none where features are frozen."""
    return {name: meta[START + name] for name in model.body}


def body_start(model: FeatureModel) -> Params:
    """Return the body's parameters, to be learned, as meta-parameters."""
    start = model.init(model.n_labels) if model.body else {}
    return started({name: start[name] for name in start if name in model.body})
