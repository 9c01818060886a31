"""What was saved before is there until what replaces it is whole."""

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaglot.errors import StorageError
from metaglot.storage import (
    atomic_file,
    atomic_folder,
    cache_root,
    file_hash,
    locked,
    text_hash,
    write_json,
    write_text,
)


def only(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.json"
    write_text(path, "old")

    def write_half():
        with atomic_file(path) as beside:
            beside.write_text("half of the n")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert path.read_text() == "old"
    assert only(tmp_path) == ["model.json"]


def test_a_write_that_ends_well_replaces_the_file_and_makes_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "facts.json"
    write_json(path, {"name": "Yorùbá"})
    write_json(path, [1, 2])
    assert path.read_text("utf-8") == "[\n  1,\n  2\n]\n"
    assert only(path.parent) == ["facts.json"]


def test_others_may_read_what_was_written(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "file", "")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "read-only"),
    ],
)
def test_a_system_error_names_the_file_the_cause_and_the_remedy(tmp_path, monkeypatch, number, remedy):
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as error:
        write_text(path, "new")
    assert str(path) in str(error.value)
    assert os.strerror(number) in str(error.value)
    assert remedy in error.value.hint
    assert path.read_text() == "old"
    assert only(tmp_path) == ["file"]


def test_a_file_in_the_path_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not write"):
        write_text(tmp_path / "file" / "below", "")


def test_a_folder_that_is_there_stays_and_a_failure_leaves_none(tmp_path):
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "made") as beside:
            (beside / "x").write_text(text)
    assert (tmp_path / "made" / "x").read_text() == "first"

    def fail():
        with atomic_folder(tmp_path / "other") as beside:
            (beside / "x").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert only(tmp_path) == ["made"]


def test_of_threads_that_make_one_folder_one_wins(tmp_path):
    together, faults = threading.Barrier(2), []

    def make(name):
        try:
            with atomic_folder(tmp_path / "made") as beside:
                for part in "ab":
                    (beside / part).write_text(name)
                together.wait(10)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=make, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert only(tmp_path) == ["made"]
    assert {p.read_text() for p in (tmp_path / "made").iterdir()} in ({"one"}, {"two"})


def test_a_folder_made_between_the_look_and_the_rename_stays(tmp_path, monkeypatch):
    final = tmp_path / "made"
    exists = Path.exists

    def too_late(path):
        found = exists(path)
        if path == final and not found:
            final.mkdir()
            (final / "x").write_text("theirs")
        return found

    monkeypatch.setattr(Path, "exists", too_late)
    with atomic_folder(final) as beside:
        (beside / "x").write_text("ours")
    assert (final / "x").read_text() == "theirs"
    assert only(tmp_path) == ["made"]


def test_a_lock_lets_one_in_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        with locked(tmp_path / "deep" / ".lock"):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_hashes_of_different_strings_differ(left, right):
    assert (text_hash(*left) == text_hash(*right)) == (left == right)


def test_a_files_hash_is_its_bytes_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert file_hash(tmp_path / "file").startswith("ba7816bf8f01cfea")


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch, own_cache):
    assert cache_root() == own_cache
    monkeypatch.delenv("METAGLOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "metaglot"
