"""Features on disk, found by content.

A record is what an encoder made of one text, and its key a hash of the encoder, its settings and
the text. Records lie in segments (see `segments`), in the folder `features/<encoder>` of the cache,
beside an `about.json` with the encoder's name. No text is stored.

Writers cannot meet, for each writes a segment of its own; readers map the files into memory. Small
segments are merged, and those that were used least recently are removed once all encoders' together pass the
limit: both under one lock. A record whose sum is wrong counts as missing, a segment whose files are
broken is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaglot.encoders.segments import DAMAGED, Record, Segment, write_segment
from metaglot.errors import SettingsError, StorageError
from metaglot.storage import cache_root, locked, text_hash

DEFAULT_LIMIT = "4GB"
MERGE_BELOW = 8 << 20  # a segment smaller than this many bytes is small
MERGE_FROM = 16  # this many small segments are merged
MERGE_TO = 256 << 20  # into segments of at most this many bytes, the unit of eviction
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Usage:
    """What one encoder's features take: records (texts), bytes, and when they were last used (Unix time)."""

    encoder: str
    texts: int
    bytes: int
    last_used: float


def features_root() -> Path:
    """Return the folder of all cached features."""
    return cache_root() / "features"


def limit_bytes() -> int:
    """Return the cache's limit in bytes: `$METAGLOT_CACHE_LIMIT` ("4GB", "500 MB", "0" for no cache).

    Raises:
        SettingsError: the variable is no size.
    """
    text = os.environ.get("METAGLOT_CACHE_LIMIT") or DEFAULT_LIMIT
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", text.upper())
    if match is None:
        raise SettingsError(
            f"expected METAGLOT_CACHE_LIMIT to be a size such as 4GB, 500MB or 0, found {text!r}."
        )
    unit = match[2] if not match[2] or match[2].endswith("B") else match[2] + "B"
    return int(float(match[1]) * _UNITS[unit])


def usage() -> list[Usage]:
    """Return what each encoder's cached features take, the largest first."""
    found: dict[str, Usage] = {}
    for folder in _children(features_root()):
        segments = _children(folder)
        name = _about(folder)
        before = found.get(name, Usage(name, 0, 0, 0.0))
        found[name] = Usage(
            name,
            before.texts + sum(_count(s) for s in segments),
            before.bytes + sum(_size(s) for s in segments),
            max([before.last_used, *(_last_used(s) for s in segments)]),
        )
    return sorted(found.values(), key=lambda u: -u.bytes)


def clear(encoder: str | None = None) -> int:
    """Remove the cached features of one encoder, by its name, or of all; return the bytes freed.

    Raises:
        StorageError: they cannot be removed.
    """
    freed = 0
    if not features_root().is_dir():
        return 0
    with _maintenance():
        for folder in _children(features_root()):
            if encoder in (None, _about(folder)):
                freed += sum(_size(segment) for segment in _children(folder))
                shutil.rmtree(folder, ignore_errors=True)
    return freed


class FeatureCache:
    """The cached records of one encoder with one set of settings.

    Args:
        encoder: the encoder's name, shown by `usage`.
        identity: a hash of everything but the text that decides the records.
    """

    def __init__(self, encoder: str, identity: str) -> None:
        self.encoder = encoder
        self.folder = features_root() / text_hash(encoder, identity)[:32]
        self._open: dict[str, Segment] = {}
        self._writable = True

    def keys(self, texts: Sequence[str]) -> NDArray[np.uint64]:
        """Return the texts' keys `[n, 2]`: 128 bits of a hash each."""
        digest = b"".join(
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts
        )
        return np.frombuffer(digest, "<u8").reshape(-1, 2)

    def get(self, keys: NDArray[np.uint64]) -> dict[int, dict[str, NDArray[Any]]]:
        """Return the records that are there: place in `keys` → record."""
        found: dict[int, dict[str, NDArray[Any]]] = {}
        self._refresh()
        wanted = np.arange(len(keys))
        for name in list(self._open):
            if not len(wanted):
                break
            try:
                hits = self._open[name].get(keys, wanted)
            except DAMAGED:
                self._discard(name)
                continue
            found.update(hits)
            if hits:
                wanted = np.array([i for i in wanted.tolist() if i not in found], dtype=np.int64)
        return found

    def put(self, keys: NDArray[np.uint64], records: Sequence[Record]) -> None:
        """Write records under their keys. Where that cannot be, warn once and go on without."""
        limit = limit_bytes()
        if not self._writable or not records or limit == 0:
            return
        try:
            write_segment(self.folder, self.encoder, keys, records)
            _merge(self.folder, self.encoder)
            _evict(limit)
        except StorageError as error:
            self._writable = False
            warnings.warn(f"features are not cached from here on: {error}", RuntimeWarning, stacklevel=2)

    def _refresh(self) -> None:
        """Open the segments that came, forget those that went (other processes write too)."""
        present = {segment.name: segment for segment in _children(self.folder)}
        for name in self._open.keys() - present.keys():
            del self._open[name]
        for name in present.keys() - self._open.keys():
            try:
                self._open[name] = Segment(present[name])
            except (FileNotFoundError, *DAMAGED):
                self._discard(name)
            except OSError:
                continue  # it may be whole: no permission, too many open files

    def _discard(self, name: str) -> None:
        self._open.pop(name, None)
        shutil.rmtree(self.folder / name, ignore_errors=True)


def _merge(folder: Path, encoder: str) -> None:
    """Make one segment of many small ones."""
    if len(_small(folder)) < MERGE_FROM:
        return
    with _maintenance():
        _sweep(folder)
        small = _small(folder)  # another process may have been here
        if len(small) < MERGE_FROM:
            return
        merged: dict[tuple[int, int], Record] = {}
        taken: list[Path] = []
        total = 0
        for path in sorted(small, key=_size):
            total += _size(path)
            if total > MERGE_TO:
                break
            taken.append(path)
            with suppress(OSError, *DAMAGED):
                segment = Segment(path)
                for row, (high, low) in enumerate(segment.keys.tolist()):
                    if (record := segment.record(row)) is not None:
                        merged[high, low] = record
        if merged:
            write_segment(folder, encoder, np.array(list(merged), np.uint64), list(merged.values()))
        for path in taken:
            shutil.rmtree(path, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed while writing left behind."""
    for left in folder.glob(".*.tmp"):
        if time.time() - _last_used(left) > 86400:
            shutil.rmtree(left, ignore_errors=True)


def _evict(limit: int) -> None:
    """Remove the segments that were used least recently until the rest fits into `limit` bytes."""
    if _total() <= limit:
        return
    with _maintenance():
        segments = [s for folder in _children(features_root()) for s in _children(folder)]
        total = sum(_size(s) for s in segments)
        for segment in sorted(segments, key=_last_used):
            if total <= limit:
                return
            total -= _size(segment)
            shutil.rmtree(segment, ignore_errors=True)


@contextmanager
def _maintenance() -> Iterator[None]:
    with locked(features_root() / ".lock"):
        yield


def _children(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError:
        return []


def _small(folder: Path) -> list[Path]:
    return [segment for segment in _children(folder) if _size(segment) < MERGE_BELOW]


def _total() -> int:
    return sum(_size(s) for folder in _children(features_root()) for s in _children(folder))


def _size(segment: Path) -> int:
    try:
        return sum(file.stat().st_size for file in segment.iterdir())
    except OSError:
        return 0


def _count(segment: Path) -> int:
    try:
        return len(np.load(segment / "keys.npy", mmap_mode="r", allow_pickle=False))
    except (OSError, *DAMAGED):
        return 0


def _last_used(segment: Path) -> float:
    try:
        return segment.stat().st_mtime
    except OSError:
        return 0.0


def _about(folder: Path) -> str:
    try:
        return str(json.loads((folder / "about.json").read_text(encoding="utf-8"))["encoder"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name
