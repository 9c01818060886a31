import math

import torch
from torch import nn

from metaglot.learners.modules import ModuleModel
from metaglot.types import Batch, Episode

NO_LABELS = torch.empty(0, dtype=torch.int64)


def episode(n: int = 10) -> Episode:
    amplitude, phase = 0.1 + 4.9 * torch.rand(()), math.pi * torch.rand(())

    def points() -> Batch:
        x = 10 * torch.rand(n, 1) - 5
        return Batch({"x": x}, amplitude * torch.sin(x - phase), NO_LABELS)

    return Episode(support=points(), query=points())


net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
model = ModuleModel(net, loss=nn.functional.mse_loss)
