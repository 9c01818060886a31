"""Cross-validation on a support set alone: what adapting is worth, and how sure predictions may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from metaglot.artifact import Artifact
from metaglot.calibration import Calibration
from metaglot.evaluation.grid import adapted_head
from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.model import Model, Table
from metaglot.space import generator
from metaglot.types import Answer, Batch, Example, Params

if TYPE_CHECKING:
    from torch import Tensor


FOLDS = 5
_RESAMPLES = 300


@dataclass(frozen=True)
class Estimate:
    """What adapting is worth, by cross-validation on the examples alone.

    Attributes:
        adapted: how good answers are of heads that were adapted to the other examples, from 0 to 1.
        zero_shot: how good answers to the same examples are without adapting.
        low: lower end of the 95% bootstrap interval of the difference.
        high: its upper end.
        judged: examples judged; those whose label has no other example are not.
        folds: into how many parts the examples were divided.
        metric: what is compared: the share of examples that are right (accuracy), or the kind's own.
    """

    adapted: float
    zero_shot: float
    low: float
    high: float
    judged: int
    folds: int
    metric: str = "accuracy"

    @property
    def gain(self) -> float:
        """The difference, adapted less zero-shot."""
        return self.adapted - self.zero_shot

    def __str__(self) -> str:
        return (
            f"{'' if self.metric == 'accuracy' else self.metric.replace('_', ' ') + ' '}"
            f"{self.zero_shot:.1%} zero-shot → {self.adapted:.1%} adapted, "
            f"gain {100 * self.gain:+.1f} points (95% interval "
            f"{100 * self.low:+.1f} to {100 * self.high:+.1f}, {self.judged} examples judged)"
        )


@dataclass(frozen=True)
class CrossValidation:
    """What cross-validation on the examples says of an adaptation.

    Attributes:
        estimate: what adapting is worth.
        calibration: how sure its predictions may be.
    """

    estimate: Estimate
    calibration: Calibration


def cross_validate(
    artifact: Artifact,
    table: Table,
    labels: Sequence[str],
    groups: Sequence[str] = (),
    *,
    origin: Tensor | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> CrossValidation | None:
    """Estimate from the support set alone what adapting is worth, and how sure predictions may be.

    Every example whose label has another one is judged once, by a head adapted to the other folds.
    A head adapted to all examples has seen more than those, so the estimate is a little low.

    Args:
        artifact: the trained model.
        table: the examples, and copies of them after all of them.
        labels: the inventory.
        groups: what the examples were made from, see `fold_numbers`.
        origin: `[n]`, of each the row that it is a copy of, an example's being its own; without it none is
            a copy. Copies are learned from with their examples, and not judged.
        folds: at most as many.
        seed: of the folds.

    Returns:
        Both, or None where fewer than two labels have two examples.
    """
    model = artifact.model
    rows = torch.arange(len(table.examples))
    origin = rows if origin is None else origin
    mine = rows[origin == rows]
    support, own = table.batch(model, rows, labels), table.batch(model, mine, labels)
    # Of each unit, the example that it or its original is of.
    items, own_items = (part.repeat_interleave(table.units_in(part)) for part in (rows, mine))
    by_label = model.kind.shots == "label"
    alike = own.targets if by_label else torch.zeros_like(mine)
    fold = fold_numbers(alike, groups, folds=folds, seed=seed)

    def logits_of(seen: Tensor, out: Tensor) -> Tensor:
        kept = torch.zeros(len(rows), dtype=torch.bool)
        kept[own_items[seen]] = True  # their copies too
        head = adapted_head(model, artifact.learner, artifact.meta, support[kept[origin][items]])
        return logits(artifact, head, own[out])

    if by_label and len(set(own.targets[fold >= 0].tolist())) < 2:
        return None
    found, judged = held_out_logits(own.targets, fold[own_items], logits_of)
    if not len(found):
        return None
    there = mine[torch.isin(mine, own_items[judged])]
    without = logits(artifact, None, own[judged])
    estimate = _estimate(model, table, there, labels, found, without, int(fold.max()) + 1)
    return CrossValidation(estimate, Calibration.of(found, own.targets[judged]))


def _estimate(
    model: Model,
    table: Table,
    rows: Tensor,
    labels: Sequence[str],
    adapted: Tensor,
    without: Tensor,
    folds: int,
) -> Estimate:
    """What logits of the units of the examples at `rows` are worth beside those without adapting."""
    examples = [table.examples[row] for row in rows.tolist()]
    answers = [model.answers(table, rows, found, labels) for found in (adapted, without)]
    kind, metric = model.kind, model.kind.metrics[0]
    if kind.shots == "label":
        metric, right = "accuracy", [_right(examples, found) for found in answers]
        values = [float(found.mean()) for found in right]
        low, high = bootstrap_interval((right[0] - right[1]).unsqueeze(0))
    else:
        values = [kind.judge(examples, found)[metric] for found in answers]
        chance = generator("resample", len(examples))
        gains = []
        for _ in range(_RESAMPLES):
            picks = chance.integers(len(examples), size=len(examples)).tolist()
            some = [examples[i] for i in picks]
            one, other = (kind.judge(some, [found[i] for i in picks])[metric] for found in answers)
            gains.append(one - other)
        low, high = torch.quantile(torch.tensor(gains), torch.tensor([0.025, 0.975])).tolist()
    return Estimate(values[0], values[1], low, high, len(examples), folds, metric)


def _right(examples: Sequence[Example], answers: Sequence[Answer]) -> Tensor:
    """Which examples' labels are right `[n]`, 0 or 1."""
    return torch.tensor([float(e.label == a.label) for e, a in zip(examples, answers, strict=True)])


def fold_numbers(targets: Tensor, groups: Sequence[str] = (), *, folds: int = FOLDS, seed: int = 0) -> Tensor:
    """Return for each example `[n]` the fold that judges it; −1 where its label has no other to learn from.

    The examples of every label are spread over the folds evenly, so that none takes away all of them.

    Args:
        targets: labels `[n]`.
        groups: what each was made from, such as a template; empty texts, or none, where that is unknown.
            Examples of one label and group are judged by one fold.
        folds: at most as many.
        seed: of the division.
    """
    members: dict[int, dict[str, list[int]]] = {}
    for row, label in enumerate(targets.tolist()):
        # Alone in its group, an example is its own.
        group = (groups[row] if groups else "") or f"\x1f{row}"
        members.setdefault(label, {}).setdefault(group, []).append(row)
    folds = min(folds, max(map(len, members.values()), default=0))
    fold = torch.full((len(targets),), -1)
    for label, found in members.items():
        if len(found) >= 2:
            parts = list(found.values())
            for place, part in enumerate(generator(seed, "fold", label).permutation(len(parts))):
                fold[parts[part]] = place % folds
    return fold


def held_out_logits(
    targets: Tensor, fold: Tensor, logits_of: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return cross-validated logits `[m, C]` and which examples `[n]`, bool, the m are.

    A fold is passed over where the others have fewer than two labels.

    Args:
        targets: labels `[n]`.
        fold: see `fold_numbers`.
        logits_of: (examples to adapt to, examples to judge), each a mask `[n]` → logits of the latter.
    """
    judged = torch.zeros(len(targets), dtype=torch.bool)
    parts, rows = [], []
    for number in sorted(set(fold[fold >= 0].tolist())):
        out = fold == number
        if len(set(targets[~out].tolist())) >= 2:
            parts.append(logits_of(~out, out))
            rows.append(out.nonzero().squeeze(-1))
            judged |= out
    if not parts:
        return torch.empty(0, 0), judged
    return torch.cat(parts)[torch.cat(rows).argsort()], judged


def logits(artifact: Artifact, adapted: Params | None, batch: Batch) -> Tensor:
    """Return logits `[n, C]` by what the artifact's learner adapted, zero-shot where that is None."""
    model = artifact.model.task_model
    with torch.no_grad():
        if adapted is None:
            return model.forward(artifact.model.zero_shot_head(batch.classes), batch)
        return artifact.learner.predict(model, artifact.meta, adapted, batch)
