"""The encoder while it is tuned: texts → vectors, with gradients where they are wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from metaglot.encoders.base import clean
from metaglot.encoders.forward import load_model, load_tokenizer, padded, pool, special_ids
from metaglot.encoders.hub import ModelSettings
from metaglot.encoders.transformer import default_dtype
from metaglot.errors import SettingsError
from metaglot.space import generator
from metaglot.tuning.parts import changeable, prepare
from metaglot.tuning.settings import TuneSettings

if TYPE_CHECKING:
    from torch import Tensor

# Tokens in one forward pass, so that texts of like length stand together and little is padded.
CHUNK_TOKENS = 2048
# Tokens whose graph is kept at once: about 0.3 MB each in a small encoder.
GRAPH_TOKENS = 8192


class Body:
    """A model in memory, of which a part adapts.

    Weights are float32; matrix products are in `settings.precision`.

    Args:
        folder: of the encoder.
        model_settings: pooling, prefix, positions.
        settings: what adapts, `max_length`, `precision`, `seed`.

    Raises:
        EncoderError: the model or its tokenizer cannot be loaded.
        SettingsError: it is no encoder whose layers can be tuned.
    """

    graph_tokens = GRAPH_TOKENS

    def __init__(self, folder: Path, model_settings: ModelSettings, settings: TuneSettings) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pooling = model_settings.pooling
        self.prefix = model_settings.prefix
        self.seed = settings.seed
        tokenizer = load_tokenizer(folder)
        self._tokenizer = tokenizer
        self._head, self._tail = special_ids(tokenizer)
        self._room = min(settings.max_length, model_settings.max_length) - len(self._head) - len(self._tail)
        if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("is_encoder_decoder"):
            raise SettingsError(
                "expected an encoder to tune, found a model with a decoder.",
                hint="Tune another encoder, such as e5-small.",
            )
        model = load_model(folder, "float32")
        self.start = changeable(model, settings)
        self.model = prepare(model, settings).to(self.device)
        self.precision = settings.precision or default_dtype()

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token numbers, cut to `max_length`."""
        found = self._tokenizer.encode_batch_fast(
            [self.prefix + clean(text) for text in texts], add_special_tokens=False
        )
        return [self._head + encoding.ids[: self._room] + self._tail for encoding in found]

    def vectors(self, tokens: Sequence[list[int]]) -> Tensor:
        """Return vectors `[n, d]` of length 1 on the CPU, without gradients and dropout."""
        modes = {part: part.training for part in self.model.modules()}
        self.model.eval()
        try:
            with torch.no_grad():
                chunks = _chunks(tokens)
                found = torch.cat([self._forward([tokens[i] for i in chunk]) for chunk in chunks])
        finally:
            for part, mode in modes.items():
                part.training = mode
        return found[_inverse(chunks)].cpu()

    def backward(
        self, tokens: Sequence[list[int]], loss_of: Callable[[Tensor], Tensor], *key: int | str
    ) -> float:
        """Add the gradient of a loss of vectors `[n, d]` to what adapts, and return the loss.

        Where a batch has more tokens than memory is meant for, the vectors are worked out twice:
        first alone, for the loss's gradient with respect to them, then part by part with a graph
        (Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup").
        The gradient is the same: dropout is a function of `key` and the part.
        """
        chunks = _chunks(tokens)
        order = _inverse(chunks)

        def part(number: int) -> Tensor:
            torch.manual_seed(int(generator(self.seed, "dropout", *key, number).integers(2**62)))
            return self._forward([tokens[i] for i in chunks[number]])

        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _attention(self.device):
            if sum(len(chunk) * len(tokens[chunk[0]]) for chunk in chunks) <= self.graph_tokens:
                loss = loss_of(torch.cat([part(n) for n in range(len(chunks))])[order])
                loss.backward()  # type: ignore[no-untyped-call]
                return float(loss.detach())
            with torch.no_grad():
                parts = [part(n) for n in range(len(chunks))]
            for vectors in parts:
                vectors.requires_grad_(True)
            loss = loss_of(torch.cat(parts)[order])
            loss.backward()  # type: ignore[no-untyped-call]
            for number, vectors in enumerate(parts):
                assert vectors.grad is not None
                part(number).backward(vectors.grad)  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _forward(self, tokens: Sequence[list[int]]) -> Tensor:
        ids, mask = padded(tokens)
        mask = mask.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            states = self.model(
                input_ids=ids.to(self.device),
                attention_mask=None if bool(mask.all()) else mask.long(),
            ).last_hidden_state
        return F.normalize(pool(states, mask, self.pooling).float(), dim=1)


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """On a processor, attention from matrix products: the fused kernel's backward pass is slow there."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _chunks(tokens: Sequence[list[int]]) -> list[list[int]]:
    """The places of texts of like length, the longest first."""
    order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
    found = []
    while order:
        count = max(1, CHUNK_TOKENS // len(tokens[order[0]]))
        found.append(order[:count])
        order = order[count:]
    return found


def _inverse(chunks: Sequence[Sequence[int]]) -> Tensor:
    """Where each text's row is in the chunks' rows one after the other."""
    return torch.tensor([place for chunk in chunks for place in chunk]).argsort()
