"""Compact Transformers that translate and that model language.

`TranslationModel` is an `Encoder` of source tokens, or of states that a frozen encoder made, and a `Decoder`
that attends to it; `LanguageModel` is a decoder alone. Their forward is a pure function of parameters and of
tensors by name, without any step that depends on values, and can be differentiated twice: it runs under
`torch.func.functional_call` and `vmap`, so that every learner of metaglot adapts them.

Both have a `context` `[d]`, zero at the start, which is added wherever texts come in, to source and to
target: the few parameters that a language may have of its own (CAVIA; Zintgraf et al. 2019).

Output weights are the embeddings (Press & Wolf 2017, "Using the output embedding to improve language
models"): one table `[V, d]`, so that what is learned of a subword's use is known when it is written, too.

Shapes: `n` examples, `T` target tokens, `S` source tokens, `V` rows of the vocabulary, `d` width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.errors import DataError, SettingsError
from metaglot.sequences.blocks import Block, StackConfig, angles, bias_of, initialise
from metaglot.sequences.vocabulary import PADDING

if TYPE_CHECKING:
    from torch import Tensor

KeyValue = tuple["Tensor", "Tensor"]


@dataclass(frozen=True)
class LanguageModelConfig:
    """What a language model is made of.

    Attributes:
        vocabulary: rows V.
        decoder: its sizes.
        seed: of its random start.
    """

    vocabulary: int
    decoder: StackConfig = field(default_factory=StackConfig)
    seed: int = 0


@dataclass(frozen=True)
class TranslationConfig:
    """What a translation model is made of.

    Attributes:
        vocabulary: rows V of the target side.
        source_vocabulary: rows of the source side's tokens; 0 where sources are states.
        d_states: width of the states that sources are; 0 where they are tokens.
        decoder: its sizes.
        encoder: its sizes, of the same width; without layers it is a projection of what is given.
        seed: of its random start.

    Raises:
        SettingsError: sources are neither or both, or the widths differ.
    """

    vocabulary: int
    source_vocabulary: int = 0
    d_states: int = 0
    decoder: StackConfig = field(default_factory=StackConfig)
    encoder: StackConfig = field(default_factory=StackConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.source_vocabulary > 0) == (self.d_states > 0):
            raise SettingsError(
                f"expected sources to be tokens (source_vocabulary) or states (d_states), found "
                f"source_vocabulary={self.source_vocabulary} and d_states={self.d_states}."
            )
        if self.encoder.d != self.decoder.d:
            raise SettingsError(
                f"expected one width, for one context is added on both sides, found {self.encoder.d} "
                f"in the encoder and {self.decoder.d} in the decoder."
            )


@dataclass(frozen=True)
class Cache:
    """What a decoder has seen of r rows, so that the next token costs one step.

    Attributes:
        past: of every block, keys and values `[r, h, T, w]` of self-attention.
        memory: of every block, keys and values `[n, h, S, w]` of the sources, each of r / n rows.
        memory_bias: `[n, 1, 1, S]`, hides padding; None where there is none.
        length: T.
    """

    past: tuple[KeyValue, ...]
    memory: tuple[KeyValue, ...]
    memory_bias: Tensor | None
    length: int

    def select(self, rows: Tensor, sources: Tensor | None = None) -> Cache:
        """Return the cache of chosen rows and chosen sources (all, if None), in the order given."""
        memory, bias = self.memory, self.memory_bias
        if sources is not None:
            memory = tuple((k[sources], v[sources]) for k, v in memory)
            bias = None if bias is None else bias[sources]
        return Cache(tuple((k[rows], v[rows]) for k, v in self.past), memory, bias, self.length)


class Encoder(nn.Module):
    """Source tokens, or states of a frozen encoder, → states `[n, S, d]` that a decoder attends to.

    Args:
        config: its sizes.
        vocabulary: rows, where sources are tokens.
        d_states: width, where sources are states: they are normalised and projected.
    """

    def __init__(self, config: StackConfig, *, vocabulary: int = 0, d_states: int = 0) -> None:
        super().__init__()
        self.config = config
        self.d_states = d_states
        if d_states:
            self.states_norm = nn.LayerNorm(d_states)
            self.projection = nn.Linear(d_states, config.d)
        else:
            self.embedding = nn.Embedding(vocabulary, config.d)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.d)

    def forward(self, source: Tensor, mask: Tensor, context: Tensor) -> Tensor:
        """Return states `[n, S, d]`.

        Args:
            source: ids `[n, S]`, or states `[n, S, d_states]`.
            mask: True at tokens, False at padding, `[n, S]`.
            context: added to what comes in, `[d]`.
        """
        if self.d_states:
            x = self.projection(self.states_norm(source))
        else:
            x = self.embedding(source) * self.config.d**0.5
        x = self.dropout(x + context)
        turn = angles(0, x.shape[1], self.config.d // self.config.heads, x)
        bias = bias_of(mask, x)[:, None, None, :]
        for block in self.blocks:
            x, _ = block(x, turn, bias)
        states: Tensor = self.norm(x)
        return states


class Decoder(nn.Module):
    """Tokens so far, and source states if `d_source` is not 0, → logits of the next token.

    Args:
        config: its sizes.
        vocabulary: rows V.
        d_source: width of the source's states; 0 without a source.
    """

    def __init__(self, config: StackConfig, vocabulary: int, d_source: int = 0) -> None:
        super().__init__()
        if vocabulary < 1 or config.layers < 1:
            raise SettingsError(
                f"expected a decoder of at least 1 row and 1 layer, found {vocabulary} and {config.layers}."
            )
        self.config = config
        # Not an nn.Embedding: the table is the output's, too, and must stay whole in inner loops.
        self.embedding = nn.Parameter(torch.empty(vocabulary, config.d))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, d_source) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.d)

    def forward(
        self, target: Tensor, context: Tensor, source: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return logits `[n, T, V]`: at each place, of the token after it.

        Args:
            target: ids `[n, T]`; padding comes last, where no token that counts sees it.
            context: added to embeddings, `[d]`.
            source: states `[n, S, d_source]`.
            mask: True at the source's tokens, `[n, S]`.
        """
        x, _ = self._run(target, context, self.begin(source, mask))
        return F.linear(x, self.embedding)

    def begin(self, source: Tensor | None = None, mask: Tensor | None = None) -> Cache:
        """Return the cache before the first token."""
        if source is None:
            return Cache((), (), None, 0)
        bias = None if mask is None else bias_of(mask, source)[:, None, None, :]
        return Cache((), tuple(block.cross.memory(source) for block in self._blocks()), bias, 0)

    def extend(self, target: Tensor, context: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Return logits `[r, V]` after further tokens `[r, T]`, and the cache with them."""
        x, cache = self._run(target, context, cache)
        return F.linear(x[:, -1], self.embedding), cache

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _run(self, target: Tensor, context: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        length, before = target.shape[1], cache.length
        x = self.dropout(F.embedding(target, self.embedding) * self.config.d**0.5 + context)
        turn = angles(before, length, self.config.d // self.config.heads, x)
        bias = None
        if length > 1:
            place = torch.arange(before + length, device=x.device)
            bias = bias_of(place <= place[before:, None], x)
        seen = []
        for i, block in enumerate(self.blocks):
            past = cache.past[i] if cache.past else None
            memory = cache.memory[i] if cache.memory else None
            x, key_value = block(x, turn, bias, past, memory, cache.memory_bias)
            seen.append(key_value)
        return self.norm(x), Cache(tuple(seen), cache.memory, cache.memory_bias, before + length)


class LanguageModel(nn.Module):
    """A decoder alone: logits of the next token from those before it.

    Attributes:
        context: added to embeddings, `[d]`.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.context = nn.Parameter(torch.zeros(config.decoder.d))
        self.decoder = Decoder(config.decoder, config.vocabulary)
        initialise(self, config.seed, config.decoder.layers)

    def forward(self, target: Tensor) -> Tensor:
        """Return logits `[n, T, V]` of the tokens after each of `target` `[n, T]`."""
        _check_ids("target", target)
        logits: Tensor = self.decoder(target, self.context)
        return logits

    def begin(self) -> Cache:
        """Return the cache before the first token."""
        return self.decoder.begin()

    def extend(self, target: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Return logits `[r, V]` after further tokens `[r, T]`, and the cache with them."""
        return self.decoder.extend(target, self.context, cache)


class TranslationModel(nn.Module):
    """An encoder of sources and a decoder that attends to it.

    Attributes:
        context: added to what comes in on both sides, `[d]`.
    """

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        self.config = config
        self.context = nn.Parameter(torch.zeros(config.decoder.d))
        self.encoder = Encoder(config.encoder, vocabulary=config.source_vocabulary, d_states=config.d_states)
        self.decoder = Decoder(config.decoder, config.vocabulary, config.encoder.d)
        initialise(self, config.seed, config.decoder.layers)

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Return logits `[n, T, V]` of the tokens after each of `target`.

        Args:
            source: ids `[n, S]`, or states `[n, S, d_states]`.
            target: ids `[n, T]`, a tag or begin first; padding last.
            source_mask: True at tokens, False at padding, `[n, S]`; by default ids other than padding,
                and all states.

        Raises:
            DataError: an input has another shape or type.
        """
        _check_ids("target", target)
        states, mask = self._encoded(source, source_mask)
        if len(states) != len(target):
            raise DataError(f"expected a target for each source, found {len(target)} for {len(states)}.")
        logits: Tensor = self.decoder(target, self.context, states, mask)
        return logits

    def begin(self, source: Tensor, source_mask: Tensor | None = None) -> Cache:
        """Return the cache before the first token; arguments and errors are those of `forward`."""
        return self.decoder.begin(*self._encoded(source, source_mask))

    def extend(self, target: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Return logits `[r, V]` after further tokens `[r, T]`, and the cache with them."""
        return self.decoder.extend(target, self.context, cache)

    def _encoded(self, source: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        width = self.config.d_states
        if width and (source.ndim != 3 or source.shape[2] != width or not source.is_floating_point()):
            raise DataError(
                f"expected source states [n, S, {width}], found {source.dtype} {list(source.shape)}."
            )
        if not width:
            _check_ids("source", source)
        if source.shape[1] == 0:
            raise DataError("expected sources of at least one token, found none.")
        if mask is None:
            mask = torch.ones_like(source[..., 0], dtype=torch.bool) if width else source != PADDING
        if mask.shape != source.shape[:2] or mask.dtype is not torch.bool:
            raise DataError(
                f"expected a source mask of True and False {list(source.shape[:2])}, "
                f"found {mask.dtype} {list(mask.shape)}."
            )
        return self.encoder(source, mask, self.context), mask


def _check_ids(name: str, ids: Tensor) -> None:
    if ids.ndim != 2 or ids.is_floating_point() or ids.shape[1] == 0:
        raise DataError(
            f"expected {name} ids [n, T] with T ≥ 1, whole numbers, found {ids.dtype} {list(ids.shape)}."
        )
