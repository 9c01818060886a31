"""The forward pass over many texts: tokenised in bulk, sorted by length, in batches of so many tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from metaglot.encoders.base import Features, Precision
from metaglot.encoders.hub import ModelSettings
from metaglot.encoders.segments import Record
from metaglot.errors import EncoderError, SettingsError, Where

# Measured on 2 cores of an EPYC 9004 (32 MB of third-level cache): in float32, 1024 tokens at once are
# 10 to 25 % faster than 2048 and more, and in bfloat16 as fast. A GPU wants more work at a time.
BATCH_TOKENS = 1024
BATCH_TOKENS_GPU = 16384
Advance = Callable[..., None]


@dataclass(frozen=True)
class Window:
    """A stretch of one text's tokens that the model sees at once.

    Attributes:
        text: the text's number.
        ids: token numbers with the special ones around them.
        begin: the place of the first content token within the text's tokens.
        content: how many of the tokens are content.
    """

    text: int
    ids: list[int]
    begin: int
    content: int


class Engine:
    """A model in memory with its tokenizer.

    Raises:
        EncoderError: the model or its tokenizer cannot be loaded.
    """

    def __init__(self, folder: Path, settings: ModelSettings, dtype: Precision, device: str | None) -> None:
        self.settings = settings
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = load_model(folder, dtype).to(self.device)
        self.batch_tokens = BATCH_TOKENS if self.device.type == "cpu" else BATCH_TOKENS_GPU
        self.tokenizer = load_tokenizer(folder)
        self.head, self.tail = special_ids(self.tokenizer)

    def pooled(self, texts: Sequence[str], advance: Advance) -> Features:
        """Return the texts' vectors `[n, d]`, of length 1."""
        encodings = self._tokenise(texts, offsets=False)
        windows = self._windows([e.ids for e in encodings])
        left = np.bincount([w.text for w in windows], minlength=len(texts))
        sums = np.zeros((len(texts), self.settings.width), np.float64)
        for batch in self._batches(windows):
            states, mask = self._forward(batch)
            vectors = pool(states[-1], mask, self.settings.pooling).double().cpu().numpy()
            numbers = np.array([w.text for w in batch])
            np.add.at(sums, numbers, vectors * np.array([[max(w.content, 1)] for w in batch]))
            np.subtract.at(left, numbers, 1)
            advance(len({n for n in numbers.tolist() if not left[n]}))
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        unit: Features = (sums / np.maximum(lengths, 1e-12)).astype(np.float32)
        return unit

    def token_states(self, texts: Sequence[str], layers: Sequence[int], advance: Advance) -> list[Record]:
        """Return per text `states` `[T, L·d]` float16 and `offsets` `[T, 2]` int32."""
        encodings = self._tokenise(texts, offsets=True)
        windows = self._windows([e.ids for e in encodings])
        width = self.settings.width * len(layers)
        states = [np.empty((len(e.ids), width), np.float16) for e in encodings]
        left = np.bincount([w.text for w in windows], minlength=len(texts))
        first = len(self.head)
        for batch in self._batches(windows):
            hidden, _ = self._forward(batch, every_layer=True)
            try:
                chosen = torch.cat([hidden[layer] for layer in layers], dim=-1)
            except IndexError as error:
                raise SettingsError(
                    f"expected layers between 0 and {len(hidden) - 1} (or negative), found {list(layers)}."
                ) from error
            values = chosen.clamp(-65504, 65504).to(torch.float16).cpu().numpy()
            for window, rows in zip(batch, values, strict=True):
                end = window.begin + window.content
                states[window.text][window.begin : end] = rows[first : first + window.content]
                left[window.text] -= 1
            advance(len({w.text for w in batch if not left[w.text]}))
        return [
            self._without_prefix(text, encoding, rows)
            for text, encoding, rows in zip(texts, encodings, states, strict=True)
        ]

    def _without_prefix(self, text: str, encoding: Encoding, states: NDArray[np.float16]) -> Record:
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2) - len(self.settings.prefix)
        keep = offsets[:, 1] > 0
        offsets = np.maximum(offsets[keep], 0)
        for row in offsets:  # a word's first token takes the space before it along
            while row[0] < row[1] and text[row[0]].isspace():
                row[0] += 1
        return {"states": states[keep], "offsets": offsets}

    def _tokenise(self, texts: Sequence[str], *, offsets: bool) -> list[Encoding]:
        prefixed = [self.settings.prefix + text for text in texts]
        encode = self.tokenizer.encode_batch if offsets else self.tokenizer.encode_batch_fast
        encodings: list[Encoding] = encode(prefixed, add_special_tokens=False)
        return encodings

    def _windows(self, ids: Sequence[list[int]]) -> list[Window]:
        room = self.settings.max_length - len(self.head) - len(self.tail)
        return [
            Window(number, self.head + part + self.tail, begin, len(part))
            for number, tokens in enumerate(ids)
            for begin in range(0, max(len(tokens), 1), room)
            for part in [tokens[begin : begin + room]]
        ]

    def _batches(self, windows: list[Window]) -> Iterator[list[Window]]:
        """Yield windows of like length, the longest first, so that a lack of memory shows at once."""
        ordered = sorted(windows, key=lambda w: -len(w.ids))
        begin = 0
        while begin < len(ordered):
            count = max(1, self.batch_tokens // max(len(ordered[begin].ids), 1))
            yield ordered[begin : begin + count]
            begin += count

    def _forward(
        self, batch: Sequence[Window], *, every_layer: bool = False
    ) -> tuple[Sequence[Tensor], Tensor]:
        """Return hidden states `[b, T, d]` of the last layer or of all, and the mask `[b, T]`."""
        ids, mask = padded([w.ids for w in batch])
        whole = bool(mask.all())
        mask = mask.to(self.device)
        with torch.inference_mode():
            output = self.model(
                input_ids=ids.to(self.device),
                attention_mask=None if whole else mask.long(),
                output_hidden_states=every_layer,
            )
        return (output.hidden_states if every_layer else (output.last_hidden_state,)), mask


def load_model(folder: Path, dtype: Precision) -> torch.nn.Module:
    """Return the folder's model in one precision, ready for inference."""
    from transformers import AutoModel, __version__  # noqa: PLC0415 - slow to import
    from transformers.utils import logging  # noqa: PLC0415

    argument = "dtype" if tuple(map(int, __version__.split(".")[:2])) >= (4, 56) else "torch_dtype"
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # heads that are not used are reported as unexpected weights
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model: torch.nn.Module = AutoModel.from_pretrained(
            folder, local_files_only=True, **{argument: getattr(torch, dtype)}
        )
    except Exception as error:  # a broken file makes each format's reader raise its own
        raise EncoderError(f"the model cannot be loaded: {error}", where=Where(folder)) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()  # type: ignore[operator]
    return model.eval()


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the folder's fast tokenizer, without truncation and padding."""
    file = folder / "tokenizer.json"
    try:
        if file.exists():
            tokenizer = Tokenizer.from_file(str(file))
        else:
            from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import

            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
    except Exception as error:  # `tokenizers` raises plain Exception
        raise EncoderError(f"the tokenizer cannot be loaded: {error}", where=Where(folder)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the tokens that stand before and after every text."""
    content = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    for begin in range(len(whole) - len(content) + 1):
        if whole[begin : begin + len(content)] == content:
            return whole[:begin], whole[begin + len(content) :]
    return [], []


def padded(sequences: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Return token numbers `[b, T]` of sequences of several lengths, and the mask of what is no padding."""
    lengths = torch.tensor([len(ids) for ids in sequences])
    longest = int(lengths.max())
    found = torch.zeros((len(sequences), longest), dtype=torch.int64)  # the mask hides what pads
    for row, ids in zip(found, sequences, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return found, torch.arange(longest) < lengths[:, None]


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return one vector per text `[b, d]` from the states `[b, T, d]`."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    weights = mask[..., None].to(torch.float32)
    return (states.float() * weights).sum(1) / weights.sum(1)
