"""Files that are whole or absent: written beside and renamed, locked where two may write.

Nothing in metaglot writes to a final path directly, so a full disk, a killed process or a
second process never leaves half a file where a whole one stood.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from metaglot.errors import StorageError, Where


def cache_root() -> Path:
    """Return the folder for everything that can be made again: `$METAGLOT_CACHE` or the user's cache."""
    if own := os.environ.get("METAGLOT_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "metaglot"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` while writing `path` into a `StorageError` that names cause and remedy."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "The disk is full: free some space (`metaglot cache clear` frees metaglot's own).",
            errno.EDQUOT: "The disk quota is used up: free some space.",
            errno.EACCES: "There is no permission to write there: choose another folder.",
            errno.EPERM: "There is no permission to write there: choose another folder.",
            errno.EROFS: "The file system is read-only: choose another folder.",
            errno.ENOTDIR: "A part of the path is a file, not a folder.",
            errno.EEXIST: "A file stands where a folder is needed.",
        }.get(error.errno or 0, "")
        raise StorageError(
            f"could not write: {error.strerror or error}. What was saved before is untouched.",
            where=Where(path),
            hint=remedy,
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it there if the block ends well, else remove it.

    Raises:
        StorageError: nothing could be written; `path` is as it was.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        beside = Path(name)
        try:
            yield beside
            _flush(beside)
            beside.chmod(0o666 & ~_umask())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it there if the block ends well.

    Where `path` exists already it is left as it is, so of two processes that make the same
    folder the first one wins.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
        try:
            yield beside
            beside.chmod(0o777 & ~_umask())
            if not path.exists():
                try:
                    beside.replace(path)
                except OSError:
                    if not path.is_dir():  # else another process has just made it: its folder stays
                        raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (across processes) while the block runs."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with atomic_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(*parts: str) -> str:
    """Return the SHA-256 of some strings, in hexadecimal; ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
