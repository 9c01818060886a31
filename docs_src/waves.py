"""Learn to fit sine waves from five points: the outer loop on tasks without text."""

from pathlib import Path

import torch
from torch import nn

from metaglot.config import TrainSettings
from metaglot.learners.maml import MAML
from metaglot.learners.modules import ModuleModel
from metaglot.outer_loop import optimize
from metaglot.space import generator
from metaglot.types import Batch, Episode

NO_LABELS = torch.zeros(0, dtype=torch.int64)


def wave(step: int | str, place: int) -> Episode:
    """Five points of a sine to learn from, and ten to be judged on: a function of its arguments alone."""
    chance = generator("wave", step, place)
    height, phase = chance.uniform(0.5, 2.0), chance.uniform(0.0, 3.0)

    def batch(n: int) -> Batch:
        x = torch.tensor(chance.uniform(-3, 3, (n, 1)), dtype=torch.float32)
        return Batch({"x": x}, height * torch.sin(x + phase), NO_LABELS)

    return Episode(batch(5), batch(10), task="waves")


torch.manual_seed(0)
network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
result = optimize(
    ModuleModel(network, nn.functional.mse_loss),
    MAML(steps=3, rate=0.05),
    wave,
    TrainSettings(steps=60, episodes=8, pool=0, clip=5.0, warmup=5),
    validate=[wave("held out", place) for place in range(16)],
    checkpoint=Path("waves.checkpoint"),
)
loss = dict(result.history.judged)
best = result.history.best
print(f"on waves never seen before: {loss[0]:.2f} -> {loss[best]:.2f}, the best after {best} steps")
