"""A set of cached records that is written whole and never changed.

A segment is a folder of arrays in numpy's format:

    keys.npy     [n, 2] uint64, sorted by the first
    sums.npy     [n] uint32, CRC-32 of each record
    ends.npy     [n] int64, where each record ends, if they vary in length
    <array>.npy  [n, d], or [sum of lengths, d] if they vary in length
"""

from __future__ import annotations

import os
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metaglot.storage import atomic_folder, write_json

Record: TypeAlias = Mapping[str, NDArray[Any]]
"""Arrays under names: vectors `[d]`, or matrices `[T, d]` of one T."""

DAMAGED = (ValueError, EOFError, IndexError)
"""What reading a truncated or overwritten file raises, beside `FileNotFoundError` for one that is gone."""


class Segment:
    """An immutable set of records, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = np.load(folder / "keys.npy", allow_pickle=False)
        self.sums = np.load(folder / "sums.npy", allow_pickle=False)
        self.arrays = {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
            for path in sorted(folder.glob("*.npy"))
            if path.stem not in ("keys", "sums", "ends")
        }
        ends = folder / "ends.npy"
        self.ends = np.load(ends, allow_pickle=False) if ends.exists() else None
        rows = len(self.keys) if self.ends is None else int(self.ends[-1])
        if (
            self.keys.ndim != 2
            or not len(self.keys)
            == len(self.sums)
            == (len(self.keys) if self.ends is None else len(self.ends))
            or not self.arrays
            or any(len(a) != rows for a in self.arrays.values())
        ):
            raise ValueError("a segment's files do not fit together")
        self._touched = 0.0

    def record(self, row: int) -> dict[str, NDArray[Any]] | None:
        """Return the record at `row`, or None where its sum is wrong."""
        if self.ends is None:
            found = {name: np.array(array[row]) for name, array in self.arrays.items()}
        else:
            begin, end = (int(self.ends[row - 1]) if row else 0), int(self.ends[row])
            found = {name: np.array(array[begin:end]) for name, array in self.arrays.items()}
        return found if checksum(found) == self.sums[row] else None

    def get(self, keys: NDArray[np.uint64], wanted: NDArray[np.int64]) -> dict[int, dict[str, NDArray[Any]]]:
        """Return those records among `keys[wanted]` that are here: place in `keys` → record."""
        rows = np.searchsorted(self.keys[:, 0], keys[wanted, 0])
        rows[rows == len(self.keys)] = 0
        here = (self.keys[rows] == keys[wanted]).all(axis=1)
        found = {}
        for place, row in zip(wanted[here].tolist(), rows[here].tolist(), strict=True):
            if (record := self.record(row)) is not None:
                found[place] = record
        if found and time.time() - self._touched > 60:
            self._touched = time.time()
            with suppress(OSError):  # a cache that may only be read
                os.utime(self.folder)
        return found


def write_segment(folder: Path, encoder: str, keys: NDArray[np.uint64], records: Sequence[Record]) -> Path:
    """Write records `[n]` under their keys `[n, 2]` as a new segment in `folder`; return its folder.

    Raises:
        StorageError: they cannot be written; nothing is left behind.
    """
    order = np.argsort(keys[:, 0], kind="stable")
    records = [records[i] for i in order.tolist()]
    segment = folder / uuid.uuid4().hex
    names = sorted(records[0])
    ragged = records[0][names[0]].ndim > 1
    with atomic_folder(segment) as beside:
        np.save(beside / "keys.npy", keys[order])
        np.save(beside / "sums.npy", np.array([checksum(record) for record in records], np.uint32))
        if ragged:
            np.save(
                beside / "ends.npy", np.cumsum([len(record[names[0]]) for record in records], dtype=np.int64)
            )
        for name in names:
            parts = [record[name] for record in records]
            np.save(beside / f"{name}.npy", np.concatenate(parts) if ragged else np.stack(parts))
    if not (folder / "about.json").exists():
        write_json(folder / "about.json", {"encoder": encoder})
    return segment


def checksum(record: Record) -> int:
    """Return a CRC-32 over a record's bytes."""
    total = 0
    for name in sorted(record):
        total = zlib.crc32(np.ascontiguousarray(record[name]).tobytes(), total)
    return total
