"""A memory of past episodes: prototypes that remember the classes they have met before.

    read:    m_y = Σ_j β_yj key_j,    β_yj ∝ exp(−κ ‖f(key_j) − f(c_y)‖²)     over the slots j of class y
             c̃_y = (n_y c_y + ρ (m_y + δ o)) / (n_y + ρ),    o = mean of c_y − m_y over classes with both
    write:   key ← key + n (c − key) / (count + n),    c the mean of n examples of the class in an episode

and c̃_y takes the place of the support mean c_y `[d]` in ProtoNet (see `metaglot.learners.protonet`), so
that the adaptation is a linear head. A class that comes again starts from what the memory has: it
counts as ρ examples, which is the more the fewer there are (n_y) and all there is for a class without any.
The offset o is what this task shifts all its classes by (a language, a camera); δ in (0, 1) says how much of
it to believe. A class that is new (−1) reads nothing. What is learned is ρ, κ, δ and what ProtoNet learns.

Santoro et al. (2016), "Meta-learning with memory-augmented neural networks": old episodes are read by
content, and the slot that was used longest ago is the next to be written. Kaiser, Nachum, Roy & Bengio
(2017), "Learning to remember rare events", section 3: a class's own slot moves towards its new examples,
else the oldest is replaced. Pritzel et al. (2017), "Neural episodic control", eqs. 1 and 2, for the kernel
average. The addresses are known here (the class's row in the model's list), and need not be learned.

The memory is state: meta-parameters that `write` alone changes, M slots of keys `[M, d]` per block, and the
class, task, age and count of each. A slot is of one class in one task, and while an episode is trained
on, the slots of its own task are out of sight: they have seen its query set, and on them the memory
would look far better than it is to a new task. Tasks without a name see all slots. Keys are features
before the projection. On a body that is learned they grow old: they follow it as classes come again.
Lexical blocks are not remembered: their columns mean nothing in another language.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import as_it_is, body_start, by_head, weighted_mean
from metaglot.learners.features import (
    class_means,
    features_of,
    membership,
    projected,
    projections,
    support_features,
)
from metaglot.learners.protonet import first_sharpness, metric_rate, nearest_mean
from metaglot.types import Batch, Episode, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Generator, Tensor

KEYS = "memory.key."
CLASS, TASK, AGE, COUNT = "memory.class", "memory.task", "memory.age", "memory.count"
EMPTY = -1
"""The class of a slot that was never written; and the task of those that have no name."""
TRUST, READ, SHIFT = "log_trust", "log_read", "shift"


class Memory:
    """Prototypes that remember the classes of past episodes, in slots written as episodes pass.

    Args:
        slots: M for every label of the model's list.
        cap: the examples that a slot counts at most, so that it follows a body that is learned.
        outer_rate: the outer loop's step size for a body.
    """

    needs = frozenset({"label-scores"})

    predict = by_head
    prepare = as_it_is

    def __init__(self, slots: int = 16, cap: int = 200, *, outer_rate: float = 0.003) -> None:
        if slots < 1 or cap < 1:
            raise SettingsError(f"expected slots ≥ 1 and cap ≥ 1, found {slots} and {cap}.")
        self.slots = slots
        self.cap = cap
        self.start_rate = outer_rate

    def init(self, model: FeatureModel, generator: Generator) -> Params:
        """Return what ProtoNet starts from, a memory that is empty and worth one example, read evenly."""
        meta = body_start(model) | first_sharpness(model, 1.0 if model.body else 8.0) | projections(model)
        blocks = remembered(model)
        if not blocks:
            return meta
        m, like = self.slots * max(1, model.n_labels), next(iter(meta.values()))
        meta |= {TRUST: torch.zeros(()), READ: torch.zeros(()), SHIFT: torch.zeros(())}
        meta |= {KEYS + block: like.new_zeros(m, model.blocks[block]) for block in blocks}
        whole = torch.zeros(m, dtype=torch.int64, device=like.device)
        return meta | {CLASS: whole + EMPTY, TASK: whole + EMPTY, AGE: whole.clone(), COUNT: whole.clone()}

    def outer_rate(self, name: str) -> float:
        """Return the outer loop's rate for a meta-parameter; zero for the memory's slots."""
        if name.startswith("memory."):
            return 0.0
        return metric_rate(name, self.start_rate)

    def adapt(self, model: FeatureModel, meta: Params, support: Batch) -> Params:
        """Return the head of prototypes of the support set and of what the memory has of its classes.

        A label without examples that the memory knows can be predicted; one that nobody knows cannot.

        Raises:
            DataError: the support set has fewer than two labels, or does not fit the model.
        """
        features = support_features(model, meta, support)
        member, count = membership(features)
        means = {block: class_means(features.inputs[block], member, count) for block in model.blocks}
        known = count > 0
        if not remembered(model):
            return nearest_mean(model, meta, means, known)
        share, found = _read(model, meta, means, features)
        trust = found * meta[TRUST].exp().to(count)
        part = (trust / (count + trust).clamp(min=torch.finfo(trust.dtype).tiny)).unsqueeze(-1)
        both = (found & known).to(count)
        for block, mean in means.items():
            if KEYS + block in meta:
                memory = share @ meta[KEYS + block]
                offset = both @ (mean - memory) / both.sum().clamp(min=1)
                means[block] = (1 - part) * mean + part * (memory + meta[SHIFT].sigmoid() * offset)
            else:
                # Where a label has no example this block says as little as it can: the labels' centre.
                centre = mean[known].mean(0)
                means[block] = torch.where(known.unsqueeze(-1), mean, centre)
        return nearest_mean(model, meta, means, known | found)

    def meta_loss(self, model: FeatureModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
        """Return the weighted mean query loss, a scalar, each task without its own slots."""
        losses = []
        for episode in episodes:
            adapted = self.adapt(model, _without(meta, episode.task), episode.support)
            logits = by_head(self, model, meta, adapted, episode.query)
            losses.append(model.loss(logits, episode.query.targets))
        return weighted_mean(torch.stack(losses), [episode.weight for episode in episodes])

    def write(self, model: FeatureModel, meta: Params, episodes: Sequence[Episode]) -> Params:
        """Return the memory after writing the class means of all examples of the episodes."""
        state = {name: value.clone() for name, value in meta.items() if name.startswith("memory.")}
        if not state:
            return {}
        state[AGE] += 1
        for episode in episodes:
            task = _task_number(episode.task)
            for cls, n, means in _met(model, meta, episode):
                slot, old = _slot(state, cls, task)
                for block, mean in means.items():
                    key = state[KEYS + block][slot]
                    state[KEYS + block][slot] = key + n / (old + n) * (mean - key) if old else mean
                state[CLASS][slot], state[TASK][slot] = cls, task
                state[COUNT][slot], state[AGE][slot] = min(old + n, self.cap), 0
        return state


def remembered(model: FeatureModel) -> list[str]:
    """Return the blocks that the memory has keys for."""
    return [block for block in model.blocks if block not in model.lexical]


def _read(model: FeatureModel, meta: Params, means: Params, support: Batch) -> tuple[Tensor, Tensor]:
    """β `[C, M]`, zeros for a class that the memory does not have; and whether it has it `[C]`."""
    classes, (_, count) = support.classes, membership(support)
    same = (classes.unsqueeze(1) == meta[CLASS]) & (classes >= 0).unsqueeze(1)
    far = count.new_zeros(same.shape)
    for block in remembered(model):
        keys, centres = projected(meta, block, meta[KEYS + block]), projected(meta, block, means[block])
        # Squared distances, up to what is the same in every slot.
        far = far + keys.square().sum(-1) - 2 * centres @ keys.T
    # A class without examples is like none of its slots more than another.
    scores = -meta[READ].exp() * torch.where(count.unsqueeze(1) > 0, far, 0.0)
    share = scores.masked_fill(~same, torch.finfo(far.dtype).min).softmax(1) * same
    return share, same.any(1)


def _without(meta: Params, task: str) -> Params:
    """The meta-parameters with the slots of a task as if they were empty."""
    if not task or TASK not in meta:
        return meta
    return meta | {CLASS: meta[CLASS].masked_fill(meta[TASK] == _task_number(task), EMPTY)}


def _task_number(task: str) -> int:
    return int.from_bytes(hashlib.sha256(task.encode()).digest()[:7], "big") if task else EMPTY


def _slot(state: Params, cls: int, task: int) -> tuple[int, int]:
    """The slot of a class in a task, and how many examples it has: the oldest slot, and 0, if none has it."""
    own = ((state[CLASS] == cls) & (state[TASK] == task)).nonzero()
    if len(own):
        return int(own[0]), int(state[COUNT][own[0]])
    age = state[AGE].masked_fill(state[CLASS] == EMPTY, torch.iinfo(torch.int64).max)
    return int((age == age.max()).nonzero()[0]), 0


def _met(model: FeatureModel, meta: Params, episode: Episode) -> Iterator[tuple[int, int, Params]]:
    """Every class of an episode that the model's list has, its examples, and their mean by block `[d]`."""
    parts = [features_of(model, meta, batch) for batch in (episode.support, episode.query)]
    members = [membership(part) for part in parts]
    count = torch.stack([number for _, number in members]).sum(0)
    sums = {
        block: torch.stack(
            [member.T @ part.inputs[block] for part, (member, _) in zip(parts, members, strict=True)]
        ).sum(0)
        for block in remembered(model)
    }
    for label, (cls, n) in enumerate(zip(episode.support.classes.tolist(), count.tolist(), strict=True)):
        if cls >= 0 and n:
            yield cls, int(n), {block: total[label] / n for block, total in sums.items()}
