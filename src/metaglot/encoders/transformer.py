"""Any Hugging Face text model as an encoder: cached, and loaded only when there is something to encode."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metaglot.encoders import hub
from metaglot.encoders.base import EncoderOptions, Features, Precision, TokenStates, clean
from metaglot.encoders.cache import FeatureCache
from metaglot.encoders.segments import Record
from metaglot.errors import SettingsError
from metaglot.progress import progress
from metaglot.storage import text_hash

if TYPE_CHECKING:
    from metaglot.encoders.forward import Engine

# What is tokenised, sorted by length and written to the cache in one go.
CHUNK_TEXTS = 1024
CHUNK_CHARACTERS = 2_000_000


class TransformerEncoder:
    """A transformer's pooled states, of length 1.

    A text longer than the model can see is cut into windows that do not overlap; its vector is the
    mean of theirs, weighted by their tokens.

    Args:
        name: the specification that loads it again, also the name of its block.
        folder: a Hugging Face model.
        options: how to use it.
        identity: a hash of the folder's content, where it is known; else the files are hashed.

    Raises:
        EncoderError: the folder has no usable model.
    """

    def __init__(
        self, name: str, folder: Path, options: EncoderOptions | None = None, *, identity: str | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self.options = options or EncoderOptions()
        self.settings = hub.read_settings(name, folder, self.options)
        self.blocks = {name: self.settings.width}
        self.lexical: frozenset[str] = frozenset()
        self.dtype: Precision = self.options.dtype or default_dtype()
        self._identity = identity
        self._stores: dict[str, FeatureCache] = {}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of weights, tokenizer, pooling, prefix and maximal length.

        The precision of the arithmetic is no part of it: what was trained on one machine is to be
        used on another.
        """
        s = self.settings
        return text_hash(self._identity or hub.identity(self.folder), s.pooling, s.prefix, str(s.max_length))

    @property
    def layers(self) -> int:
        """How many layers there are, the embeddings apart; 0 where the model's files do not say."""
        return self.settings.layers

    @cached_property
    def engine(self) -> Engine:
        """The loaded model."""
        from metaglot.encoders.forward import Engine  # noqa: PLC0415 - imports PyTorch

        return Engine(self.folder, self.settings, self.dtype, self.options.device)

    def encode(self, texts: Sequence[str], *, description: str = "encoding") -> dict[str, Features]:
        """Return this encoder's block `[n, d]`, float32, rows of length 1.

        Raises:
            EncoderError: the model cannot be loaded.
        """
        found = np.empty((len(texts), self.settings.width), np.float32)

        def compute(chunk: Sequence[str], advance: Callable[..., None]) -> Sequence[Record]:
            return [{"features": row} for row in self.engine.pooled(chunk, advance)]

        for rows, record in self._records(texts, "features", compute, description):
            found[rows] = record["features"]
        return {self.name: found}

    def token_states(
        self, texts: Sequence[str], layers: Sequence[int] = (-1,), *, description: str = "encoding"
    ) -> list[TokenStates]:
        """Return each text's token states, of these layers (0: embeddings, −1: the last one).

        Special tokens and the prefix are left out. Long texts are cut into windows as in `encode`.

        Raises:
            EncoderError: the model cannot be loaded.
            SettingsError: it has no such layer.
        """
        found: list[Record] = [{}] * len(texts)

        def compute(chunk: Sequence[str], advance: Callable[..., None]) -> Sequence[Record]:
            return self.engine.token_states(chunk, layers, advance)

        for rows, record in self._records(texts, f"tokens {list(layers)}", compute, description):
            for row in rows:
                found[row] = record
        return [TokenStates(r["states"], r["offsets"]) for r in found]

    def _store(self, what: str) -> FeatureCache:
        """Return the cache of one kind of record, opened once."""
        if what not in self._stores:
            self._stores[what] = FeatureCache(self.name, text_hash(self.fingerprint, self.dtype, what))
        return self._stores[what]

    def _records(
        self,
        texts: Sequence[str],
        what: str,
        compute: Callable[[Sequence[str], Callable[..., None]], Sequence[Record]],
        description: str,
    ) -> Iterator[tuple[list[int], Record]]:
        """Yield each different text's places and record: from the cache, else computed and cached."""
        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise SettingsError(f"expected texts to be strings, found {type(text).__name__} at {place}.")
            places.setdefault(clean(text), []).append(place)
        missing = list(places)
        store = self._store(what) if self.options.cache else None
        if store is not None:
            hits = store.get(store.keys(missing))
            for number, hit in hits.items():
                yield places[missing[number]], hit
            missing = [text for number, text in enumerate(missing) if number not in hits]
        if not missing:
            return
        with progress(description, len(missing)) as advance:
            for chunk in _chunks(missing):
                records = compute(chunk, advance)
                if store is not None:
                    store.put(store.keys(chunk), records)
                for text, record in zip(chunk, records, strict=True):
                    yield places[text], record


def default_dtype() -> Precision:
    """Return bfloat16 where the processor multiplies matrices of it, else float32.

    Read from the system, since importing PyTorch only to ask would take longer than most answers
    from the cache. Elsewhere than on Linux float32 is safe.
    """
    if platform.system() == "Linux":
        try:
            flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        except OSError:
            return "float32"
        if any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "svebf16")):
            return "bfloat16"
    return "float32"


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    begin, characters = 0, 0
    for i, text in enumerate(texts):
        if i > begin and (i - begin >= CHUNK_TEXTS or characters + len(text) > CHUNK_CHARACTERS):
            yield texts[begin:i]
            begin, characters = i, 0
        characters += len(text)
    if begin < len(texts):
        yield texts[begin:]
