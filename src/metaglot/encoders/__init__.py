"""Text → features: pretrained transformers, character n-grams, and both side by side.

>>> encoder = load_encoder("e5-small+ngrams")
>>> encoder.encode(["Habari ya asubuhi"])  # {"e5-small": [1, 384], "ngrams": [1, 4096]}
"""

from __future__ import annotations

from pathlib import Path

from metaglot.encoders.base import (
    Encoder,
    EncoderOptions,
    Features,
    JoinedEncoder,
    Pooling,
    Precision,
    TokenEncoder,
    TokenStates,
)
from metaglot.errors import EncoderError, SettingsError, UnknownNameError, Where, suggestion
from metaglot.registry import Registry

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderOptions",
    "Features",
    "JoinedEncoder",
    "Pooling",
    "Precision",
    "TokenEncoder",
    "TokenStates",
    "load_encoder",
]

# Each is called with what follows the name's colon (`ngrams:8192`) and the options.
ENCODERS = Registry(
    "encoder",
    {
        "e5-small": "metaglot.encoders.bundled:load",
        "ngrams": "metaglot.encoders.ngrams:load",
    },
)


def load_encoder(
    spec: str,
    *,
    pooling: Pooling | None = None,
    prefix: str | None = None,
    max_length: int | None = None,
    dtype: Precision | None = None,
    device: str | None = None,
    cache: bool = True,
) -> Encoder:
    """Return the encoder that `spec` names; its model is loaded once there is something to encode.

    Args:
        spec: a registered name (`e5-small`, `ngrams`, `ngrams:8192`), the folder of a Hugging Face
            model, a model of the hub (`owner/name`), or several of them joined by `+`.
        pooling: `mean`, `cls` or `last`; by default what the model's files say, else the mean.
        prefix: what is put before every text; by default what the model's files say.
        max_length: tokens at once; longer texts are cut into windows. By default the model's.
        dtype: precision of the arithmetic; by default bfloat16 where the processor has it.
        device: where PyTorch computes; by default a GPU where there is one.
        cache: whether features are kept on disk.

    Raises:
        UnknownNameError: `spec` is neither registered, nor a folder, nor of the form owner/name.
        EncoderError: the model is missing or broken.
        SettingsError: an option makes no sense, or fits no part of `spec`.
    """
    options = EncoderOptions(pooling, prefix, max_length, dtype, device, cache)
    names = _split(spec)
    if options.given() and all(name.partition(":")[0] == "ngrams" for name in names):
        raise SettingsError(f"{options.given()[0]} is an option of transformers, and {spec!r} has none.")
    parts = [_load_one(name, options) for name in names]
    blocks = [block for part in parts for block in part.blocks]
    if doubled := sorted({block for block in blocks if blocks.count(block) > 1}):
        raise SettingsError(f"expected different encoders, found {doubled[0]!r} twice in {spec!r}.")
    return parts[0] if len(parts) == 1 else JoinedEncoder(parts)


def _split(spec: str) -> list[str]:
    """Split at `+`, except inside the path of a folder that exists."""
    pieces = spec.split("+")
    names: list[str] = []
    while pieces:
        joined = ["+".join(pieces[:end]) for end in range(len(pieces), 1, -1)]
        name = next((path for path in joined if Path(path).expanduser().is_dir()), pieces[0])
        names.append(name.strip())
        pieces = pieces[name.count("+") + 1 :]
    return names


def _load_one(name: str, options: EncoderOptions) -> Encoder:
    known, _, argument = name.partition(":")
    if known in ENCODERS:
        encoder: Encoder = ENCODERS[known](argument, options)
        return encoder
    from metaglot.encoders import hub  # noqa: PLC0415 - listing encoders needs none of this
    from metaglot.encoders.transformer import TransformerEncoder  # noqa: PLC0415

    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return TransformerEncoder(name, folder, options)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise EncoderError(
            "expected the folder of a Hugging Face model, found no such folder.", where=Where(folder)
        )
    if hub.HUB_NAME.fullmatch(name):
        return TransformerEncoder(name, hub.download(name), options)
    hint = "A folder must exist, and a model of the hub has a name of the form owner/name."
    raise UnknownNameError(
        f"expected an encoder ({', '.join(sorted(ENCODERS))}), a folder or a hub's model, found {name!r}.",
        hint=f"{suggestion(name, ENCODERS)} {hint}".strip(),
    )
