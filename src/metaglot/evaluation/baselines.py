"""What a learner must beat: the same encoder, the same data, the same support sets.

Every baseline makes a linear head, as a learner does, and none meta-learns. What it can tune, it tunes
either on the support set, by its closed-form leave-one-out likelihood (then with one example per label
there is nothing to leave out, and it takes its default), or, for a number of shots, on episodes of the
source languages (see `source_tuning`). None ever sees more of a new language than its support set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from metaglot.errors import SettingsError
from metaglot.model import Model, Sources
from metaglot.registry import Registry
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

BASELINES = Registry(
    "baseline",
    {
        "majority": "metaglot.evaluation.baselines:majority",
        "zero-shot": "metaglot.evaluation.baselines:zero_shot",
        "target-only": "metaglot.evaluation.probes:target_only",
        "target-only-dense": "metaglot.evaluation.probes:target_only_dense",
        "target-only-lexical": "metaglot.evaluation.probes:target_only_lexical",
        "prototypes": "metaglot.evaluation.probes:prototypes",
        "logistic-mteb": "metaglot.evaluation.logistic:logistic_mteb",
        "logistic-tuned": "metaglot.evaluation.logistic:logistic_tuned",
        "joint": "metaglot.evaluation.joint:joint",
        "joint-fine-tuned": "metaglot.evaluation.fine_tuning:joint_fine_tuned",
    },
)

QUICK = ("majority", "zero-shot", "target-only", "target-only-dense", "target-only-lexical", "joint")
"""Those that `default_baselines` takes: closed forms, a fraction of a second for a support set."""

# What these need of an encoder: blocks of one sort, beside others or at all.
_BESIDE_OTHERS = frozenset({"target-only-dense", "target-only-lexical"})
_DENSE = frozenset({"target-only-dense", "prototypes", "logistic-mteb"})


@dataclass(frozen=True)
class Baseline:
    """A way to make a head without meta-learning.

    Attributes:
        fit: (model, support set) → a head for the support set's labels.
        zero_shots: whether it looks at the inventory of labels alone and needs no examples.
        extra: blocks to be added to a language's inputs, worked out once for all its support sets.
    """

    fit: Callable[[Model, Batch], Params]
    zero_shots: bool = False
    extra: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None


def majority(sources: Sources) -> Baseline:
    """The most frequent label of the sources, whatever the text."""
    count: Counter[str] = Counter()
    for table in sources.tables:
        found = torch.bincount(table.targets, minlength=len(table.names)).tolist()
        count.update(dict(zip(table.names, found, strict=True)))

    def fit(model: Model, support: Batch) -> Params:
        names = [model.labels[row] if row >= 0 else "" for row in support.classes.tolist()]
        bias = torch.tensor([float(count.get(name, 0)) for name in names]).add(1).log()
        return model.task_model.linear_head(_nothing(model, len(names)), bias)

    return Baseline(fit, zero_shots=True)


def zero_shot(sources: Sources) -> Baseline:
    """The head learned from the sources, without any example of the language."""
    return Baseline(lambda model, support: model.zero_shot_head(support.classes), zero_shots=True)


def fitting_baselines(model: Model) -> tuple[str, ...]:
    """Return every baseline that this encoder has the features for, and that no other one equals."""
    several = len(model.blocks) > 1 and bool(model.lexical)
    unfit = set() if several else set(_BESIDE_OTHERS)
    unfit |= set() if dense_blocks(model) else _DENSE
    return tuple(name for name in BASELINES if name not in unfit)


def default_baselines(model: Model) -> tuple[str, ...]:
    """Return the baselines of `fitting_baselines` that are closed forms."""
    return tuple(name for name in fitting_baselines(model) if name in QUICK)


def dense_blocks(model: Model) -> tuple[str, ...]:
    """Return the names of the blocks of a pretrained encoder."""
    return tuple(name for name in model.blocks if name not in model.lexical)


def lexical_blocks(model: Model) -> tuple[str, ...]:
    """Return the names of the blocks of character n-grams and their like."""
    return tuple(name for name in model.blocks if name in model.lexical)


def check_blocks(names: Sequence[str], model: Model, baseline: str, sort: str) -> None:
    """Raise a `SettingsError` unless there are blocks of the sort ("dense", "lexical") that is needed."""
    if not names:
        example = {"dense": "e5-small", "lexical": "ngrams"}[sort]
        raise SettingsError(
            f"the baseline {baseline} needs {sort} features, and {model.encoder.name!r} has none.",
            hint=f"Add an encoder that has some, such as {example}, or leave the baseline out.",
        )


def _nothing(model: Model, n_labels: int) -> dict[str, Tensor]:
    return {block: torch.zeros(n_labels, width) for block, width in model.blocks.items()}
