"""What Transformers are made of: attention with rotary positions, feed-forward layers, pre-norm blocks.

    x ← x + A(norm(x))        x ← x + C(norm(x), source)        x ← x + F(norm(x))

with A self-attention, C cross-attention (decoders only) and F a feed-forward layer: Vaswani et al. (2017),
"Attention is all you need", with the normalisation before each part (Xiong et al. 2020, "On layer
normalization in the Transformer architecture"), which needs no warm-up.

Attention is written out as products and a softmax. PyTorch's fused kernels are faster on long sequences and
have no second derivative; sentences are short, and learners differentiate twice. Nothing depends on values:
masks are added and never branched on, so that `vmap` may run everything here.

Positions are rotary (Su et al. 2021, "RoFormer", eq. 34): queries and keys are turned by an angle that grows
with their place, so that attention sees distances. No parameter belongs to a place, hence there is no longest
sequence, and a sentence longer than any in training meets nothing that was never trained.
Cross-attention has them too, since a translation goes through its source in nearly the same order: without
them a small model that is to copy eight tokens gets 60% right after 200 steps, and with them all after 100.

Shapes: `r` rows (examples, or hypotheses of examples), `T` tokens, `S` source tokens, `d` width,
`h` heads of width `w = d / h`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

_BASE = 10_000.0


@dataclass(frozen=True)
class StackConfig:
    """The sizes of a stack of blocks.

    Attributes:
        d: width.
        layers: blocks; an encoder may have none.
        heads: of attention, each of an even width d / heads.
        d_inner: width inside feed-forward layers.
        dropout: share of zeros after each part of a block and on embeddings, in training mode.

    Raises:
        SettingsError: a size is out of its range.
    """

    d: int = 256
    layers: int = 3
    heads: int = 4
    d_inner: int = 1024
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.d, self.heads, self.d_inner) < 1 or self.layers < 0 or not 0 <= self.dropout < 1:
            raise SettingsError(f"expected sizes of at least 1 and 0 ≤ dropout < 1, found {self}.")
        if self.d % (2 * self.heads):
            raise SettingsError(
                f"expected a width that is an even multiple of the heads, found d={self.d} "
                f"and heads={self.heads}."
            )


def angles(first: int, count: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines `[count, w / 2]` of the angles at `count` places from `first` on."""
    speed = _BASE ** (-torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width)
    place = torch.arange(first, first + count, device=like.device, dtype=torch.float32)
    angle = place[:, None] * speed
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Return queries or keys `[r, h, T, w]` turned by the angles of their places."""
    cos, sin = turn
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Return softmax(q kᵀ / √w + bias) v, `[r, T, d]`, of `[r, h, T, w]` and `[r, h, S, w]`."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def bias_of(mask: Tensor, like: Tensor) -> Tensor:
    """Return what hides places where a mask is False, when it is added to scores.

    A row that is False everywhere attends to all its places alike: no infinities, hence no NaN.
    """
    # Half of the lowest number, so that two of them are not -inf.
    return (~mask).to(like.dtype) * (torch.finfo(like.dtype).min / 2)


class SelfAttention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.d, 3 * config.d)
        self.out = nn.Linear(config.d, config.d)

    def forward(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        bias: Tensor | None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs `[r, T, d]`, and keys and values `[r, h, T, w]` with those of the past."""
        r, length, d = x.shape
        q, k, v = (
            self.qkv(x).reshape(r, length, 3 * self.heads, d // self.heads).transpose(1, 2).chunk(3, dim=1)
        )
        q, k = turned(q, turn), turned(k, turn)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        return self.out(attend(q, k, v, bias)), (k, v)


class CrossAttention(nn.Module):
    """Attention of a sequence to a source."""

    def __init__(self, config: StackConfig, d_source: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.d, config.d)
        self.key_value = nn.Linear(d_source, 2 * config.d)
        self.out = nn.Linear(config.d, config.d)

    def memory(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values `[n, h, S, w]` of source states `[n, S, d_source]`."""
        both = self.key_value(source)
        n, length, d = both.shape
        width = d // (2 * self.heads)
        k, v = both.reshape(n, length, 2 * self.heads, width).transpose(1, 2).chunk(2, dim=1)
        return turned(k, angles(0, length, width, k)), v

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], memory: tuple[Tensor, Tensor], bias: Tensor | None
    ) -> Tensor:
        """Return the outputs `[r, T, d]` for n sources, each of r / n rows that follow one another.

        The rows of one source ask it as one longer row would, so that its keys need not be repeated.
        """
        r, length, d = x.shape
        n = memory[0].shape[0]
        q = turned(self.query(x).reshape(r, length, self.heads, d // self.heads).transpose(1, 2), turn)
        q = q.transpose(1, 2).reshape(n, r // n * length, self.heads, d // self.heads).transpose(1, 2)
        attended: Tensor = self.out(attend(q, *memory, bias).reshape(r, length, d))
        return attended


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.d, config.d_inner)
        self.out = nn.Linear(config.d_inner, config.d)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs of the shape of x."""
        outputs: Tensor = self.out(F.gelu(self.inner(x)))
        return outputs


class Block(nn.Module):
    """Self-attention, cross-attention if `d_source` is not 0, and a feed-forward layer."""

    def __init__(self, config: StackConfig, d_source: int = 0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d)
        self.attention = SelfAttention(config)
        if d_source:
            self.cross_norm = nn.LayerNorm(config.d)
            self.cross = CrossAttention(config, d_source)
        self.feed_norm = nn.LayerNorm(config.d)
        self.feed = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)
        self.has_cross = d_source > 0

    def forward(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        bias: Tensor | None,
        past: tuple[Tensor, Tensor] | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
        memory_bias: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs `[r, T, d]`, and the keys and values of self-attention."""
        y, seen = self.attention(self.attention_norm(x), turn, bias, past)
        x = x + self.dropout(y)
        if self.has_cross and memory is not None:
            x = x + self.dropout(self.cross(self.cross_norm(x), turn, memory, memory_bias))
        return x + self.dropout(self.feed(self.feed_norm(x))), seen


def initialise(module: nn.Module, seed: int, layers: int) -> None:
    """Set all weights of linear layers and embeddings at random, as a function of a seed.

    Embeddings have variance 1 / d; linear layers 2 / (in + out) (Glorot & Bengio 2010), and those that end a
    part of a block, called `out`, 1 / (2 · layers) of it, so that the sum over blocks stays of one size.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                if name.endswith("bias"):
                    parameter.zero_()
                continue
            rows, columns = parameter.shape
            variance = 1 / columns if "embedding" in name else 2 / (rows + columns)
            if name.endswith("out.weight"):
                variance /= 2 * max(layers, 1)
            # On the processor, for a device has a generator of its own.
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.copy_(drawn * variance**0.5)
