"""Models and families of tasks whose answers are known beforehand, or that can be learned in a second."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.modules import EmbeddingModel, ModuleModel
from metaglot.types import Batch, Episode

D = 3
NO_CLASSES = torch.empty(0, dtype=torch.int64)


class Quadratic:
    """L(θ) = ½ θᵀAθ − bᵀθ, where A `[d, d]` and b `[d]` are a batch's inputs."""

    outputs = "any"
    n_labels = 2
    groups = ()
    head = fixed_start = frozenset()

    def init(self, n_labels):
        return {"theta": torch.zeros(D)}

    def rows(self, params, classes):
        return dict(params)

    def forward(self, params, batch):
        theta = params["theta"]
        return 0.5 * theta @ batch.inputs["A"] @ theta - batch.inputs["b"] @ theta

    def loss(self, outputs, targets):
        return outputs


class SharedQuadratic(Quadratic):
    """L(θ, s) = ½ (θ + s)ᵀA(θ + s) − bᵀθ, of which s is shared."""

    head = frozenset({"theta"})

    def init(self, n_labels):
        return {"shared": torch.zeros(D), "theta": torch.zeros(D)}

    def forward(self, params, batch):
        both = params["theta"] + params["shared"]
        return 0.5 * both @ batch.inputs["A"] @ both - batch.inputs["b"] @ params["theta"]


def quadratic_batch(seed, curved=True):
    chance = torch.Generator().manual_seed(seed)
    M = torch.randn(D, D, generator=chance, dtype=torch.float64)
    b = torch.randn(D, generator=chance, dtype=torch.float64)
    return Batch({"A": M @ M.T if curved else torch.zeros(D, D), "b": b}, torch.arange(D), torch.arange(D))


def quadratic_episode(seed, weight=1.0):
    return Episode(quadratic_batch(seed), quadratic_batch(seed + 100), weight=weight)


def regressor(width=32, seed=0):
    """A small network with one input and one output, under the squared error."""
    torch.manual_seed(seed)
    layers = [nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)]
    return ModuleModel(nn.Sequential(*layers), F.mse_loss)


def sinusoid(seed, shots=10, queries=15):
    """A sine of an amplitude and a phase of its own (Finn et al. 2017, section 5.1)."""
    chance = torch.Generator().manual_seed(seed)
    amplitude = 0.5 + 2 * torch.rand((), generator=chance)
    phase = math.pi * torch.rand((), generator=chance)
    x = 10 * torch.rand(shots + queries, 1, generator=chance) - 5
    y = amplitude * torch.sin(x + phase)
    return Episode(
        Batch({"x": x[:shots]}, y[:shots], NO_CLASSES), Batch({"x": x[shots:]}, y[shots:], NO_CLASSES)
    )


def embedder(seed=0):
    """A small body under a linear head, for tasks that have no labels in common."""
    torch.manual_seed(seed)
    return EmbeddingModel(nn.Sequential(nn.Linear(20, 16), nn.Tanh()), 16)


def five_ways(seed, shots=1, queries=5):
    """Five classes in a table of 20 columns, told apart by the first four; the others are loud noise."""
    chance = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 4, generator=chance)

    def batch(count):
        targets = torch.arange(5).repeat_interleave(count)
        x = 1.5 * torch.randn(len(targets), 20, generator=chance)
        x[:, :4] = centres[targets] + 0.2 * torch.randn(len(targets), 4, generator=chance)
        return Batch({"x": x}, targets, torch.full((5,), -1))

    return Episode(batch(shots), batch(queries))


def learn(learner, model, family, steps, tasks=4):
    """Meta-train with Adam on fresh tasks; the meta-parameters before and after."""
    before = learner.init(model, torch.Generator().manual_seed(0))
    meta = {name: value.clone() for name, value in before.items()}
    groups = [{"params": [v], "lr": learner.outer_rate(n)} for n, v in meta.items() if learner.outer_rate(n)]
    optimizer = torch.optim.Adam(groups)
    for step in range(steps):
        episodes = [family(1000 + step * tasks + i) for i in range(tasks)]
        _, gradients = meta_gradient(learner, model, meta, episodes)
        for name, gradient in gradients.items():
            meta[name].grad = gradient
        optimizer.step()
        meta |= learner.write(model, meta, episodes)
    return before, meta


def judge(learner, model, meta, family, tasks=25):
    """The mean query loss and accuracy after adapting to tasks that were not trained on."""
    losses, hits = [], []
    for seed in range(tasks):
        episode = family(seed)
        with torch.no_grad():
            adapted = learner.adapt(model, meta, episode.support)
            outputs = learner.predict(model, meta, adapted, episode.query)
        losses.append(float(model.loss(outputs, episode.query.targets)))
        hits.append(float((outputs.argmax(-1) == episode.query.targets).float().mean()))
    return sum(losses) / tasks, sum(hits) / tasks
