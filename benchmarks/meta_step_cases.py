"""What `meta_step.py` times: modules, their tasks, and the sizes of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaglot.types import Batch, Episode


@dataclass(frozen=True)
class Case:
    """One meta-step: a module, tasks of N ways and k shots, inner steps.

    Attributes:
        module: makes the module.
        inputs: how many examples → inputs `[n, …]`.
        tasks: of the meta-batch.
        ways: labels of a task.
        shots: support examples per label.
        queries: query examples per label.
        steps: inner SGD steps.
        rate: the inner rate.
    """

    module: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor]
    tasks: int = 8
    ways: int = 5
    shots: int = 5
    queries: int = 15
    steps: int = 5
    rate: float = 0.1

    def make(self) -> tuple[nn.Module, list[Episode]]:
        """Return the module and the tasks, the same every time."""
        torch.manual_seed(0)
        module = self.module()

        def batch(each: int) -> Batch:
            labels = torch.arange(self.ways)
            return Batch({"x": self.inputs(self.ways * each)}, labels.repeat_interleave(each), labels)

        return module, [Episode(batch(self.shots), batch(self.queries)) for _ in range(self.tasks)]


class Block(nn.Module):
    """A pre-norm transformer block; its attention is written out, so that every library can run it twice."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return hidden states `[n, T, d]`."""
        n, length, width = x.shape
        mixed = self.mix(self.first(x)).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5).softmax(-1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(n, length, width))
        return x + self.down(F.gelu(self.up(self.second(x))))


class TextClassifier(nn.Module):
    """A small transformer over token ids `[n, T]`."""

    def __init__(
        self, vocabulary: int, width: int, heads: int, layers: int, length: int, labels: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, C]`."""
        hidden = self.tokens(x) + self.places
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden).mean(1))


class AdapterHead(nn.Module):
    """A bottleneck adapter and a linear head, over cached features `[n, d]`."""

    def __init__(self, width: int, bottleneck: int, labels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        self.head = nn.Linear(width, labels)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, C]`."""
        return self.head(x + self.up(F.gelu(self.down(x))))


def transformer(width: int = 128, layers: int = 2, vocabulary: int = 8000, length: int = 32) -> Case:
    """Return case (a), or one of other sizes."""
    return Case(
        lambda: TextClassifier(vocabulary, width, max(1, width // 32), layers, length, 5),
        lambda n: torch.randint(0, vocabulary, (n, length)),
    )


def small() -> Case:
    """Return case (b): about 40,000 parameters, 16 tasks, one shot."""

    def module() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 160), nn.GELU(), nn.Linear(160, 160), nn.GELU(), nn.Linear(160, 5))

    return Case(module, lambda n: torch.randn(n, 64), tasks=16, shots=1, rate=0.05)


def product(ways: int = 40, shots: int = 8, tasks: int = 8) -> Case:
    """Return case (c): a head and an adapter over cached features of width 384."""
    return Case(
        lambda: AdapterHead(384, 48, ways),
        lambda n: torch.randn(n, 384),
        tasks=tasks,
        ways=ways,
        shots=shots,
        queries=8,
        rate=0.5,
    )


def scaled(name: str, value: int) -> Case:
    """Return a small transformer with one size changed: steps, tasks, shots or width."""
    base = replace(transformer(width=64, vocabulary=1000, length=16), tasks=4, shots=2, queries=4, steps=2)
    if name == "width":
        wide = transformer(width=value, vocabulary=1000, length=16)
        return replace(base, module=wide.module)
    return replace(base, **{name: value})
