"""Any Hugging Face model that writes from a source: NLLB, M2M100, mT5, ByT5, Marian and their like.

`PretrainedTranslation` is such a model with the face of `TranslationModel`: learners adapt it through
`ModuleModel`, all of it, layers that are chosen by pattern, or low-rank updates that
`metaglot.learners.insertions.add_lora` puts in; `metaglot.sequences.decoding` writes with it.

Numbers of tokens are metaglot's: 0 is padding and 2 the end, whatever they are to the model (Marian's end
is 0, and 0 is NLLB's beginning), so that losses, materials and decoding need to know of no model. Two rows
change places for that, at most four in all; `PretrainedTokens` numbers texts in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from metaglot.errors import DataError, SettingsError
from metaglot.sequences.blocks import bias_of
from metaglot.sequences.transformer import Cache
from metaglot.sequences.vocabulary import END, PADDING

if TYPE_CHECKING:
    from torch import Tensor


class PretrainedTranslation(nn.Module):
    """A sequence-to-sequence model of `transformers`, with metaglot's numbers of tokens.

    Args:
        base: the model, which is used as it is and not copied; made by `load_pretrained`, or by any class
            that `AutoModelForSeq2SeqLM` knows.

    Attributes:
        base: the model.
        rows: metaglot's number of a token → the model's, `[V]`.
        start: the model's first token, in metaglot's numbers.

    Raises:
        SettingsError: it has no encoder or decoder, its two sides have different vocabularies, or it does
            not say what padding, the end and the first token are.
    """

    rows: Tensor

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        config: Any = getattr(base, "config", None)
        if config is None or not getattr(config, "is_encoder_decoder", False):
            raise SettingsError(
                f"expected a sequence-to-sequence model of transformers, found {type(base).__name__}.",
                hint="Load it by AutoModelForSeq2SeqLM.",
            )
        self.base: Any = base
        size = _vocabulary_size(base)
        padding, end, first = _special_rows(base)
        if not 0 <= min(padding, end, first) <= max(padding, end, first) < size or padding == end:
            raise SettingsError(
                f"expected rows below {size} for padding, the end and the first token, the first two "
                f"different, found {padding}, {end} and {first}.",
                hint="Set pad_token_id, eos_token_id and decoder_start_token_id in the model's config.",
            )
        self.register_buffer("rows", _renumbered(size, padding, end), persistent=False)
        self.start = int((self.rows == first).nonzero())
        self.train(base.training)

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Return logits `[n, T, V]` of the tokens after each of `target`.

        Args:
            source: ids `[n, S]`.
            target: ids `[n, T]`, the first token and where there is one the language's tag first; padding
                last.
            source_mask: True at tokens, False at padding, `[n, S]`; by default ids other than padding.

        Raises:
            DataError: an input has another shape or type.
        """
        mask = _checked_mask(source, source_mask)
        _check_ids("target", target)
        output = self.base(
            input_ids=self.rows[source],
            attention_mask=mask.to(torch.int64),
            decoder_input_ids=self.rows[target],
            use_cache=False,
        )
        return self._own(output.logits)

    def begin(self, source: Tensor, source_mask: Tensor | None = None) -> Cache:
        """Return the cache before the first token; arguments and errors are those of `forward`."""
        mask = _checked_mask(source, source_mask)
        encoder = self.base.get_encoder()
        states = encoder(input_ids=self.rows[source], attention_mask=mask.to(torch.int64)).last_hidden_state
        # Each family of models makes keys and values of the source in its own way, when its decoder first
        # looks: so one token is written, and of what is kept the source's part alone is taken.
        token = torch.full_like(source[:, :1], self.start)
        _, seen = self._written(token, states, mask, (), ())
        return Cache((), _pairs(seen.cross_attention_cache), bias_of(mask, states)[:, None, None, :], 0)

    def extend(self, target: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Return logits `[r, V]` after further tokens `[r, T]`, and the cache with them."""
        first = cache.memory[0][0]
        each = len(target) // len(first)  # rows of a source, which are side by side
        assert cache.memory_bias is not None
        mask = (cache.memory_bias[:, 0, 0] == 0).repeat_interleave(each, 0)
        memory = cache.memory
        if each > 1:
            memory = tuple((k.repeat_interleave(each, 0), v.repeat_interleave(each, 0)) for k, v in memory)
        # Their keys and values are known, and only the states' shape is looked at.
        states = first.new_zeros(()).expand(*mask.shape, self.base.config.hidden_size)
        logits, seen = self._written(target, states, mask, cache.past, memory)
        past = _pairs(seen.self_attention_cache)
        return logits, Cache(past, cache.memory, cache.memory_bias, cache.length + target.shape[1])

    def _written(
        self,
        target: Tensor,
        states: Tensor,
        mask: Tensor,
        past: tuple[tuple[Tensor, Tensor], ...],
        memory: tuple[tuple[Tensor, Tensor], ...],
    ) -> tuple[Tensor, Any]:
        """Logits `[r, V]` after further tokens, and what the model keeps."""
        from transformers import EncoderDecoderCache  # noqa: PLC0415 - slow to import
        from transformers.modeling_outputs import BaseModelOutput  # noqa: PLC0415

        output = self.base(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask.to(torch.int64),
            decoder_input_ids=self.rows[target],
            past_key_values=EncoderDecoderCache(_filled(past), _filled(memory)),
            use_cache=True,
        )
        return self._own(output.logits[:, -1]), output.past_key_values

    def _own(self, logits: Tensor) -> Tensor:
        """Logits `[…, V]` in metaglot's order of tokens."""
        return logits.index_select(-1, self.rows)


def _vocabulary_size(base: Any) -> int:
    """The rows V of both sides' tables, which may have more than the tokenizer."""
    source, target = base.get_encoder().get_input_embeddings(), base.get_decoder().get_input_embeddings()
    output = base.get_output_embeddings()
    sizes = [len(table.weight) for table in (source, target, output)]
    if len(set(sizes)) > 1:
        raise SettingsError(
            f"expected one vocabulary on both sides, found {sizes[0]} rows in the encoder, {sizes[1]} in the "
            f"decoder and {sizes[2]} in the output.",
            hint="Models with a vocabulary for each side are not supported.",
        )
    return sizes[0]


def _special_rows(base: Any) -> tuple[int, int, int]:
    """The model's padding, end and first token; -1 for what is not known."""
    found = []
    for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        places = (getattr(base, where, None) for where in ("config", "generation_config"))
        row = next((getattr(p, name) for p in places if getattr(p, name, None) is not None), -1)
        found.append(row[0] if isinstance(row, list) else row)
    return found[0], found[1], found[2]


def _renumbered(size: int, padding: int, end: int) -> Tensor:
    """The model's row of each number, `[V]`: the fewest exchanges that put both in their places."""
    rows = torch.arange(size)
    for number, row in ((PADDING, padding), (END, end)):
        place = int((rows == row).nonzero())
        rows[[number, place]] = rows[[place, number]]
    return rows


def _filled(pairs: tuple[tuple[Tensor, Tensor], ...]) -> Any:
    from transformers import DynamicCache  # noqa: PLC0415 - slow to import

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(pairs):
        cache.update(keys, values, layer)
    return cache


def _pairs(cache: Any) -> tuple[tuple[Tensor, Tensor], ...]:
    """Keys and values of every layer of what `transformers` keeps."""
    if hasattr(cache, "layers"):
        return tuple((layer.keys, layer.values) for layer in cache.layers)
    return tuple(zip(cache.key_cache, cache.value_cache, strict=True))  # before version 4.54


def _checked_mask(source: Tensor, mask: Tensor | None) -> Tensor:
    _check_ids("source", source)
    if mask is None:
        return source != PADDING
    if mask.shape != source.shape or mask.dtype is not torch.bool:
        raise DataError(
            f"expected a source mask of True and False {list(source.shape)}, "
            f"found {mask.dtype} {list(mask.shape)}."
        )
    return mask


def _check_ids(name: str, ids: Tensor) -> None:
    if ids.ndim != 2 or ids.is_floating_point() or ids.shape[1] == 0:
        raise DataError(
            f"expected {name} ids [n, T] with T ≥ 1, whole numbers, found {ids.dtype} {list(ids.shape)}."
        )
