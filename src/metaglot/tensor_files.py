"""Named tensors in files: the safetensors format, whole or absent, with a hash of what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized

from metaglot.errors import ArtifactError, Where
from metaglot.storage import atomic_file
from metaglot.types import Params

_ABOUT = "about"
_PIECE = 1 << 20


def write_tensors(path: Path, tensors: Params, header: dict[str, str] | None = None) -> None:
    """Write tensors in the safetensors format.

    Raises:
        OSError: the file could not be written. (The format's own writer has another error for a full
            disk, and makes files that only their owner may read.)
    """
    path.write_bytes(serialized({name: value.contiguous() for name, value in tensors.items()}, header))


def content_hash(header: Mapping[str, Any], tensors: Params) -> str:
    """Return a hash of a header, without its entry `hash`, and of tensors: names, types, shapes, bytes."""
    rest = {name: value for name, value in header.items() if name != "hash"}
    digest = hashlib.sha256()
    _add(digest, json.dumps(rest, sort_keys=True).encode("utf-8", "surrogatepass"))
    for name, value in sorted(tensors.items(), key=lambda item: item[0] + " "):
        data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        _add(digest, f"{name} {value.dtype} {list(value.shape)} ".encode("utf-8", "surrogatepass"), data)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, text: bytes, data: NDArray[np.uint8] | None = None) -> None:
    """Add one part: its length, text, and data in hexadecimal, a piece at a time."""
    size = 0 if data is None else 2 * data.size
    digest.update((len(text) + size).to_bytes(8, "little"))
    digest.update(text)
    for start in range(0, size // 2, _PIECE):
        digest.update(cast("NDArray[np.uint8]", data)[start : start + _PIECE].tobytes().hex().encode())


def save_tensors(path: Path, tensors: Params, about: Mapping[str, Any]) -> str:
    """Write tensors and what is to be known about them (JSON) to a file, and return their hash.

    Raises:
        StorageError: it could not be written; an older file is as it was.
    """
    # Copies: the format refuses tensors that share memory.
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    found = content_hash(about, whole)
    header = json.dumps(dict(about) | {"hash": found}, ensure_ascii=False)
    with atomic_file(path) as beside:
        # One entry, for the format does not keep the order of several: the same content, the same bytes.
        write_tensors(beside, whole, {_ABOUT: header})
    return found


def load_tensors(path: Path, what: str) -> tuple[Params, dict[str, Any]]:
    """Return the tensors of a file that `save_tensors` wrote, and what is known about them.

    Args:
        path: the file.
        what: it is expected to be, for messages: "an adaptation".

    Raises:
        ArtifactError: there is no such file, it is something else, or its content was changed.
    """
    if not path.is_file():
        raise ArtifactError(f"expected {what}, found no such file.", where=Where(path))
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_ABOUT])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        wanted = about["hash"]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"expected {what}, found a damaged file or another: {error}.",
            where=Where(path),
            hint="Restore it from a copy, or make it again.",
        ) from error
    if wanted != content_hash(about, tensors):
        raise ArtifactError(
            f"expected {what} as it was written, found other content: the file is damaged or was changed.",
            where=Where(path),
            hint="Restore it from a copy, or make it again.",
        )
    return tensors, about
