"""The grid: methods × shots × draws × held-out languages, every method on the same draws."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from metaglot.errors import DataError, SettingsError
from metaglot.evaluation.baselines import BASELINES, Baseline
from metaglot.evaluation.metrics import unit_metrics
from metaglot.learners.base import Learner
from metaglot.model import Model, Sources, target_table
from metaglot.progress import progress
from metaglot.space import Task, TaskSpace, draw_support
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Record:
    """One method judged on one language's test split after adapting to one draw of examples.

    Attributes:
        method: the learner's or baseline's name.
        learned: whether it is a learner.
        language: the held-out language.
        shots: examples per label, k.
        draw: the number of the draw; with 0 shots there is one.
        examples: size of the support set, less than k × labels where a label has too few.
        metrics: see `metaglot.evaluation.metrics`.
    """

    method: str
    learned: bool
    language: str
    shots: int
    draw: int
    examples: int
    metrics: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return asdict(self)


def run_grid(
    sources: Sources,
    space: TaskSpace,
    learners: Mapping[str, tuple[Learner, Params]],
    *,
    baselines: Sequence[str],
    shots: Sequence[int] = (0, 1, 4, 8, 16),
    draws: int = 10,
    seed: int = 0,
) -> list[Record]:
    """Adapt every method to every draw of every held-out language, and judge it on the test split.

    Draws are nested in the shots (draw 3 of 4 shots contains draw 3 of 1 shot) and the same for
    every method, so that differences are paired. All methods choose among the language's own
    labels. With 0 shots a learner predicts zero-shot.

    Args:
        sources: the fitted sources.
        space: the task space; its held-out tasks are evaluated.
        learners: name → (learner, meta-parameters).
        baselines: names of baselines.
        shots: numbers of examples per label.
        draws: draws per language and number of shots.
        seed: of the draws.

    Raises:
        SettingsError: see `check_grid`.
        DataError: the space holds no language out.
    """
    check_grid([*learners, *baselines], shots, draws)
    if not space.held_out:
        raise DataError("expected at least one held-out language to evaluate on, found none.")
    made = {name: BASELINES[name](sources) for name in baselines}
    records: list[Record] = []
    with progress("evaluating", len(space.held_out)) as advance:
        for task in space.held_out:
            records += judge_task(sources.model, task, learners, made, shots=shots, draws=draws, seed=seed)
            advance(1, task.language)
    if not records:
        raise SettingsError(
            "expected a method that predicts without examples, for 0 shots alone; found none."
        )
    return records


def judge_task(
    model: Model,
    task: Task,
    learners: Mapping[str, tuple[Learner, Params]],
    baselines: Mapping[str, Baseline],
    *,
    shots: Sequence[int],
    draws: int,
    seed: int = 0,
) -> Iterator[Record]:
    """Judge methods on one held-out task: what `run_grid` does for each of them.

    A method's records are the same whatever stands beside it.

    Args:
        model: the fitted sources' model.
        task: the held-out task.
        learners: name → (learner, meta-parameters).
        baselines: name → what `BASELINES[name](sources)` made.
        shots: numbers of examples per label.
        draws: draws per number of shots.
        seed: of the draws.

    Yields:
        The records of one draw after the other; a baseline that needs examples has none for 0 shots.
    """
    pool, test = target_table(model, task, task.pool), target_table(model, task, task.test)
    every = range(len(test.examples))
    query = test.batch(model, every, task.labels)
    more = [b.extra(pool.inputs) for b in baselines.values() if b.extra is not None]
    pool = replace(pool, inputs=dict(ChainMap(*more, dict(pool.inputs))))
    places = [(k, draw) for k in sorted(set(shots)) for draw in range(draws if k else 1)]
    with progress(str(task), len(places)) as advance:
        for k, draw in places:
            rows = draw_support(task.pool, task.labels, k, seed, task.language, draw, by=task.shots)
            support = pool.support(model, rows, task.labels)
            found: dict[tuple[str, bool], Tensor] = {}
            for name, baseline in baselines.items():
                if k or baseline.zero_shots:
                    found[name, False] = model.task_model.forward(baseline.fit(model, support), query)
            for name, (learner, meta) in learners.items():
                found[name, True] = _logits(model, learner, meta, support, query)
            for (name, learned), logits in found.items():
                answers = model.answers(test, every, logits, task.labels)
                metrics = model.kind.judge(test.examples, answers) | unit_metrics(logits, query.targets)
                yield Record(name, learned, task.language, k, draw, len(rows), metrics)
            advance(1, f"k = {k}")


def check_grid(methods: Sequence[str], shots: Sequence[int], draws: int) -> None:
    """Check a grid's settings, before anything is trained for it.

    Raises:
        SettingsError: no method, two of one name, or a number of shots or draws that makes no sense.
    """
    if not methods:
        raise SettingsError("expected at least one learner or baseline, found none.")
    if draws < 1 or not shots or min(shots) < 0:
        raise SettingsError(f"expected draws ≥ 1 and shots ≥ 0, found draws={draws}, shots={list(shots)}.")
    if twice := [name for name, count in Counter(methods).items() if count > 1]:
        raise SettingsError(f"expected learners and baselines of different names, found {twice[0]!r} twice.")


def adapted_head(model: Model, learner: Learner, meta: Params, support: Batch) -> Params:
    """Return what a learner makes of a support set; the zero-shot head where it is empty."""
    if predicts_zero_shot(support):
        return model.zero_shot_head(support.classes)
    with torch.no_grad():
        return learner.adapt(model.task_model, meta, support)


def predicts_zero_shot(support: Batch) -> bool:
    """Tell whether a learner predicts as the prior does: where it has nothing to adapt to.

    That is an empty support set, and sentences whose units have one label all.
    """
    return len(support) == 0 or bool((support.targets == support.targets[0]).all())


def _logits(model: Model, learner: Learner, meta: Params, support: Batch, query: Batch) -> Tensor:
    """What a learner makes of a query set after adapting to a support set."""
    adapted = adapted_head(model, learner, meta, support)
    if predicts_zero_shot(support):
        return model.task_model.forward(adapted, query)
    with torch.no_grad():
        return learner.predict(model.task_model, meta, adapted, query)
