"""Where a model's files are, and what they say about its use. Nothing here imports PyTorch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaglot.encoders.base import EncoderOptions, Pooling
from metaglot.errors import EncoderError, StorageError, Where
from metaglot.storage import cache_root, file_hash, text_hash, write_json

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WANTED = ["*.json", "*.txt", "*.model"]
UNWANTED = ["onnx/*", "openvino/*"]
LONGEST = 512  # tokens at once, where a model does not say


def download(name: str) -> Path:
    """Return the folder of the hub's model `owner/name`: from the local cache, else from the network.

    Raises:
        EncoderError: it is in neither.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow to import
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    def fetch(*, local: bool) -> Path | None:
        # The older format only where there is no other: it would double the download.
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            folder = Path(
                snapshot_download(
                    name, allow_patterns=[*WANTED, weights], ignore_patterns=UNWANTED, local_files_only=local
                )
            )
            if (folder / "config.json").exists() and any(folder.glob(weights)):
                return folder
        return None

    with suppress(OSError, ValueError):  # not there yet
        if folder := fetch(local=True):
            return folder
    try:
        if folder := fetch(local=False):
            return folder
        reason = "the hub's has no weights that can be read"
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        known = {
            401: "there is no such public model",
            403: "access is refused",
            404: "there is no such model",
        }
        reason = known.get(status or 0, f"the hub answered {status}")
    except (OSError, ValueError, RuntimeError) as error:
        reason = f"the hub cannot be reached ({type(error).__name__})"
    raise EncoderError(
        f"the encoder {name!r} is not in the local Hugging Face cache, and {reason}.",
        hint="Check its name and the network, give the folder of a downloaded model, "
        "or use the embedded encoder 'e5-small'.",
    )


@dataclass(frozen=True)
class ModelSettings:
    """How a model is to be used.

    Attributes:
        width: of its hidden states.
        pooling: how token states become a text's vector.
        prefix: what stands before every text.
        max_length: tokens at once, the special ones included.
        layers: how many there are; 0 where the model's files do not say.
    """

    width: int
    pooling: Pooling
    prefix: str
    max_length: int
    layers: int


def read_settings(name: str, folder: Path, options: EncoderOptions) -> ModelSettings:
    """Return the settings in the model's own files (sentence-transformers' where it has them).

    `options` come first where they are given.

    Raises:
        EncoderError: there is no config.json, or it asks for a pooling that is not supported.
    """
    config = _json(folder / "config.json")
    if config is None:
        raise EncoderError(
            "expected the folder of a Hugging Face model with a config.json, found none.",
            where=Where(folder),
            hint="Give the folder that `save_pretrained` wrote.",
        )
    text_config = config.get("text_config") or config
    width = next(
        (text_config[k] for k in ("hidden_size", "d_model", "dim", "n_embd") if k in text_config), None
    )
    if not isinstance(width, int):
        raise EncoderError(
            "expected the model's width under 'hidden_size', found none: not a text encoder?",
            where=Where(folder / "config.json", field="hidden_size"),
        )
    return ModelSettings(
        width=width,
        pooling=options.pooling or _pooling(folder),
        prefix=_prefix(name, folder, config) if options.prefix is None else options.prefix,
        max_length=_max_length(folder, text_config, options.max_length),
        layers=_layers(text_config),
    )


def identity(folder: Path) -> str:
    """Return a hash of a model's weights, configuration and tokenizer.

    Hashing a file takes a second a gigabyte, so what was found is kept under the file's path, size
    and time of change.
    """
    memo_file = cache_root() / "encoders" / "hashes.json"
    memo = _json(memo_file) or {}
    parts: list[str] = []
    added = False
    for file in sorted(_content(folder)):
        status = file.stat()
        key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        if key not in memo:
            memo[key] = file_hash(file)
            added = True
        parts += [str(file.relative_to(folder)), memo[key]]
    if added:
        with suppress(StorageError):  # hashed again next time
            write_json(memo_file, memo)
    return text_hash(*parts)


def _content(folder: Path) -> Iterable[Path]:
    names = {"config.json", "tokenizer.json", "vocab.txt", "merges.txt", "vocab.json"}
    files = [f for f in folder.iterdir() if f.is_file()]
    weights = [f for f in files if f.suffix == ".safetensors"] or [f for f in files if f.suffix == ".bin"]
    return weights + [f for f in files if f.name in names or f.suffix == ".model"]


def _pooling(folder: Path) -> Pooling:
    modules = _json(folder / "modules.json") or []
    paths = [m.get("path", "") for m in modules if str(m.get("type", "")).endswith("Pooling")]
    file = folder / (paths[0] if paths else "1_Pooling") / "config.json"
    config = _json(file)
    if config is None:
        return "mean"
    asked = [key.removeprefix("pooling_mode_") for key, value in config.items() if value is True]
    if mode := config.get("pooling_mode"):  # one word, in the newer files
        asked += [mode] if isinstance(mode, str) else list(mode)
    known: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
    known |= {"mean": "mean", "cls": "cls"}
    chosen = {name for name in asked if name != "include_prompt"}
    if len(chosen) != 1 or not chosen <= known.keys():
        raise EncoderError(
            f"expected one pooling among mean, cls and last, found {', '.join(sorted(chosen)) or 'none'}.",
            where=Where(file),
            hint="Choose one: load_encoder(..., pooling='mean').",
        )
    return known[chosen.pop()]


def _prefix(name: str, folder: Path, config: dict[str, Any]) -> str:
    settings = _json(folder / "config_sentence_transformers.json") or {}
    prompts = settings.get("prompts") or {}
    default = settings.get("default_prompt_name")
    if default in prompts:
        return str(prompts[default])
    # The E5 models were trained with prefixes, and most of their files do not say so. The family's
    # instruction models want a sentence that only the user can write.
    names = (name, folder.name, str(config.get("_name_or_path", "")))
    is_e5 = any(re.search(r"(^|[/_-])e5-(small|base|large)", n) for n in names)
    return "query: " if is_e5 and not any("instruct" in n for n in names) else ""


def _layers(config: dict[str, Any]) -> int:
    """Return the number of layers; of an encoder and a decoder, the encoder's."""
    names = ("encoder_layers", "num_hidden_layers", "num_layers", "n_layers", "n_layer")
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)


def _max_length(folder: Path, config: dict[str, Any], asked: int | None) -> int:
    positions = next(
        (config[k] for k in ("max_position_embeddings", "n_positions") if isinstance(config.get(k), int)),
        LONGEST,
    )
    if config.get("model_type") in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "xlm-roberta-xl",
        "mpnet",
        "data2vec-text",
    ):
        positions -= (
            int(config.get("pad_token_id") or 1) + 1
        )  # their positions are counted from behind the padding's
    own = (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    if not own:
        own = (_json(folder / "tokenizer_config.json") or {}).get("model_max_length")
    if not isinstance(own, int | float) or own > positions:
        own = min(positions, LONGEST)
    if asked is not None and asked > positions:
        raise EncoderError(
            f"expected max_length to be at most the model's {positions} positions, found {asked}.",
            where=Where(folder / "config.json"),
        )
    return int(asked or own)


def _json(path: Path) -> Any:
    """Return a file's JSON, or None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise EncoderError(f"expected a JSON file, found {error}.", where=Where(path)) from error
