"""Small networks and episodes, and two ways to a meta-gradient that owe nothing to the engine."""

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.learners.maml import MAML
from metaglot.types import Batch, Episode

NO_LABELS = torch.empty(0, dtype=torch.int64)


def mlp(seed=0, *, width=6, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, outputs))


def batch(seed, n=5, *, shape=(4,), labels=3, name="x"):
    """Gaussian inputs `[n, …]` with labels, or with numbers as targets where there are none."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=chance)
    if labels:
        return Batch({name: x}, torch.arange(n) % labels, torch.arange(labels))
    return Batch({name: x}, torch.randn(n, 1, generator=chance), NO_LABELS)


def episodes(m, *, n=5, queries=4, weights=None, **options):
    weights = weights or [1.0] * m
    return [
        Episode(batch(2 * i, n, **options), batch(2 * i + 1, queries, **options), weight=w)
        for i, w in enumerate(weights)
    ]


def maml(steps=3, rate=0.2, **options):
    return MAML(steps, rate, **{"learn_rates": "none"} | options)


def moved(learner, model, seed=0, noise=0.3):
    """Meta-parameters that stand nowhere special."""
    chance = torch.Generator().manual_seed(seed)
    meta = learner.init(model, torch.Generator().manual_seed(0))
    return {n: v + noise * torch.randn(v.shape, generator=chance, dtype=v.dtype) for n, v in meta.items()}


def gradient(learner, model, meta, batch_of_tasks):
    """The loss and its gradient by autograd, all tasks at once."""
    leaves = {n: v.clone().requires_grad_() for n, v in meta.items()}
    loss = learner.meta_loss(model, leaves, batch_of_tasks)
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return loss.detach(), dict(zip(leaves, found, strict=True))


def one_by_one(learner, model, meta, batch_of_tasks):
    """The mean gradient of tasks that are run alone, without vmap."""
    alone = [gradient(learner, model, meta, [episode])[1] for episode in batch_of_tasks]
    return {n: sum(g[n] for g in alone) / len(alone) for n in meta}


def apart(one, other):
    """The largest difference, in units of the largest gradient."""
    largest = max(float(v.abs().max()) for v in other.values() if v.numel())
    return max(float((one[n] - other[n]).abs().max()) for n in other if other[n].numel()) / largest


def finite_difference(learner, model, meta, batch_of_tasks, seed=0, size=1e-6):
    """How far a gradient's slope along a random direction is from the loss's, relative to the gradient."""
    chance = torch.Generator().manual_seed(seed)
    direction = {n: torch.randn(v.shape, generator=chance, dtype=v.dtype) for n, v in meta.items()}
    found = gradient(learner, model, meta, batch_of_tasks)[1]
    with torch.no_grad():
        ends = [
            learner.meta_loss(
                model, {n: v + s * size * direction[n] for n, v in meta.items()}, batch_of_tasks
            )
            for s in (1, -1)
        ]
    slope = (ends[0] - ends[1]) / (2 * size)
    norm = torch.stack([g.square().sum() for g in found.values()]).sum().sqrt()
    return float((slope - sum((found[n] * direction[n]).sum() for n in found)).abs() / norm)


def unrolled(module, loss, episode, rate, steps, *, exact=True):
    """MAML by hand: a list of tensors, a loop, and autograd."""
    start = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}

    def run(params, side):
        outputs = torch.func.functional_call(module, params, tuple(side.inputs.values()))
        return loss(outputs, side.targets)

    params = start
    for _ in range(steps):
        grads = torch.autograd.grad(run(params, episode.support), list(params.values()), create_graph=exact)
        params = {n: v - rate * g for (n, v), g in zip(params.items(), grads, strict=True)}
    found = torch.autograd.grad(run(params, episode.query), list(start.values()))
    return {f"start.{n}": g for n, g in zip(start, found, strict=True)}


def cross_entropy(outputs, targets):
    """Cross-entropy of scores in the last dimension, padding left out."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=-100)
