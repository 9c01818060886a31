"""What an encoder is, and several of them as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metaglot.errors import SettingsError, suggestion
from metaglot.storage import text_hash

Features: TypeAlias = NDArray[np.float32]
Pooling = Literal["mean", "cls", "last"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class EncoderOptions:
    """How a transformer is to be used; None is the model's own way, or the machine's.

    Attributes:
        pooling: how a text's token states become one vector.
        prefix: text that is put before every text.
        max_length: tokens that the model sees at once, the special ones included.
        dtype: precision of the arithmetic.
        device: where PyTorch computes (`cpu`, `cuda`, `cuda:1`, `mps`).
        cache: whether features are kept on disk.
    """

    pooling: Pooling | None = None
    prefix: str | None = None
    max_length: int | None = None
    dtype: Precision | None = None
    device: str | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (
            ("pooling", self.pooling, get_args(Pooling)),
            ("dtype", self.dtype, get_args(Precision)),
        ):
            if value is not None and value not in known:
                raise SettingsError(
                    f"expected {name} to be one of {', '.join(known)}, found {value!r}.",
                    hint=suggestion(str(value), known),
                )
        if self.max_length is not None and self.max_length < 8:
            raise SettingsError(f"expected max_length to be at least 8 tokens, found {self.max_length}.")

    def given(self) -> list[str]:
        """Return the names of those options of the model that were given."""
        return [f.name for f in fields(self) if f.name != "cache" and getattr(self, f.name) is not None]


@runtime_checkable
class Encoder(Protocol):
    """Text → features.

    Attributes:
        name: the specification that loads it again.
        blocks: block name → its width d, in the order of the specification.
        lexical: the blocks that mean nothing across languages, such as character n-grams.
        fingerprint: a hash of all that decides the features but the precision of the arithmetic.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - above

    @property
    def blocks(self) -> Mapping[str, int]: ...  # noqa: D102

    @property
    def lexical(self) -> frozenset[str]: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def encode(self, texts: Sequence[str], *, description: str = "encoding") -> dict[str, Features]:
        """Return block name → features `[n, d]`, float32; `description` stands beside the progress bar."""
        ...


@dataclass(frozen=True)
class TokenStates:
    """The states of one text's tokens, without the special ones and the prefix.

    Attributes:
        states: `[T, L·d]`, float16: of each layer asked for, one after the other.
        offsets: `[T, 2]`, int32: the characters of the text that each token covers, end exclusive.
            A token that covers no character (a normaliser may insert some) is empty.
    """

    states: NDArray[np.float16]
    offsets: NDArray[np.int32]


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that can also give the states of single tokens.

    Attributes:
        layers: how many layers of states there are, the embeddings apart; 0 where that is not known.
    """

    @property
    def layers(self) -> int: ...  # noqa: D102 - above

    def token_states(
        self, texts: Sequence[str], layers: Sequence[int] = (-1,), *, description: str = "encoding"
    ) -> list[TokenStates]:
        """Return each text's token states, of these layers (0: embeddings, −1: the last one)."""
        ...


class JoinedEncoder:
    """Several encoders side by side: their blocks in one dictionary."""

    def __init__(self, parts: Sequence[Encoder]) -> None:
        self.parts = tuple(parts)
        self.name = "+".join(part.name for part in parts)
        self.blocks = {block: width for part in parts for block, width in part.blocks.items()}
        self.lexical = frozenset(block for part in parts for block in part.lexical)
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """A hash of the parts' fingerprints, in their order."""
        self._fingerprint = self._fingerprint or text_hash(*(part.fingerprint for part in self.parts))
        return self._fingerprint

    @property
    def layers(self) -> int:
        """How many layers the first part with token states has; 0 where no part has any."""
        return next((part.layers for part in self.parts if isinstance(part, TokenEncoder)), 0)

    def encode(self, texts: Sequence[str], *, description: str = "encoding") -> dict[str, Features]:
        """Return block name → features `[n, d]`, float32, of every part."""
        found: dict[str, Features] = {}
        for part in self.parts:
            found.update(part.encode(texts, description=description))
        return found

    def token_states(
        self, texts: Sequence[str], layers: Sequence[int] = (-1,), *, description: str = "encoding"
    ) -> list[TokenStates]:
        """Return the token states of the first part that has some.

        Raises:
            SettingsError: no part has any.
        """
        for part in self.parts:
            if isinstance(part, TokenEncoder):
                return part.token_states(texts, layers, description=description)
        raise SettingsError(
            f"expected an encoder with states of single tokens, found {self.name!r}.",
            hint="Choose a transformer such as 'e5-small'.",
        )


_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd") | {0: " "}


def clean(text: str) -> str:
    """Return `text` without what no tokenizer takes: NULs become spaces, lone surrogates U+FFFD.

    Every character stays at its place, so offsets need no correction.
    """
    if "\0" in text or not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.translate(_SURROGATES)
    return text.replace("\0", " ")
