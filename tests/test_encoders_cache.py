"""Cached features: nothing is lost, nothing wrong is read, and the size is bounded."""

import multiprocessing
import os
import time

import numpy as np
import pytest

from metaglot.encoders import cache
from metaglot.encoders.cache import FeatureCache, clear, limit_bytes, usage
from metaglot.errors import SettingsError


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path))
    monkeypatch.delenv("METAGLOT_CACHE_LIMIT", raising=False)


def vector(text, width=8):
    return np.random.default_rng(abs(hash(text)) % 2**32).normal(size=width).astype(np.float32)


def put(store, texts, width=8):
    store.put(store.keys(texts), [{"features": np.full(width, float(t), np.float32)} for t in texts])


def numbers(begin, end):
    return [str(i) for i in range(begin, end)]


def read(store, texts):
    found = store.get(store.keys(texts))
    return {texts[i]: float(r["features"][0]) for i, r in found.items()}


def segments(store):
    return [p for p in store.folder.iterdir() if p.is_dir()]


def test_what_was_put_is_found_by_any_later_reader():
    put(FeatureCache("enc", "a"), numbers(0, 50))
    assert read(FeatureCache("enc", "a"), numbers(40, 60)) == {t: float(t) for t in numbers(40, 50)}
    assert read(FeatureCache("enc", "b"), numbers(0, 50)) == {}
    assert read(FeatureCache("other", "a"), numbers(0, 50)) == {}


def test_an_open_reader_sees_what_others_write():
    reader = FeatureCache("enc", "a")
    assert read(reader, ["1"]) == {}
    put(FeatureCache("enc", "a"), ["1"])
    assert read(reader, ["1"]) == {"1": 1.0}


def test_records_of_varying_length_come_back_as_they_were():
    store = FeatureCache("enc", "tokens")
    rng = np.random.default_rng(0)
    records = [
        {
            "states": rng.normal(size=(t, 6)).astype(np.float16),
            "offsets": np.arange(2 * t, dtype=np.int32).reshape(-1, 2),
        }
        for t in (3, 0, 7, 1)
    ]
    store.put(store.keys(numbers(0, 4)), records)
    found = FeatureCache("enc", "tokens").get(store.keys(numbers(0, 4)))
    for i, record in enumerate(records):
        for name, array in record.items():
            np.testing.assert_array_equal(found[i][name], array)
            assert found[i][name].dtype == array.dtype


def _write(worker):
    store = FeatureCache("enc", "a")
    for begin in range(0, 200, 5):
        put(store, [str(1000 * worker + i) for i in range(begin, begin + 5)])


def test_concurrent_writers_lose_nothing_while_segments_are_merged():
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_write, args=(worker,)) for worker in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    store = FeatureCache("enc", "a")
    texts = [str(1000 * worker + i) for worker in range(3) for i in range(200)]
    assert read(store, texts) == {t: float(t) for t in texts}
    assert len(segments(store)) < cache.MERGE_FROM  # 120 were written


def test_the_least_recently_used_go_first(monkeypatch):
    old, new = FeatureCache("old", "a"), FeatureCache("new", "a")
    put(old, ["1"], width=25_000)
    put(old, ["2"], width=25_000)
    for i, segment in enumerate(sorted(segments(old), key=lambda s: s.stat().st_mtime)):
        os.utime(segment, (time.time() - 1000 + i,) * 2)
    assert read(FeatureCache("old", "a"), ["1"]) == {"1": 1.0}  # used just now
    monkeypatch.setenv("METAGLOT_CACHE_LIMIT", "250KB")
    put(new, ["3"], width=25_000)
    assert read(FeatureCache("old", "a"), ["1", "2"]) == {"1": 1.0}
    assert read(new, ["3"]) == {"3": 3.0}
    assert sum(u.bytes for u in usage()) <= 250_000


def damage_truncate(segment):
    data = (segment / "features.npy").read_bytes()
    (segment / "features.npy").write_bytes(data[: len(data) // 2])


def damage_empty(segment):
    (segment / "keys.npy").write_bytes(b"")


def damage_missing(segment):
    (segment / "sums.npy").unlink()


def damage_garbage(segment):
    (segment / "sums.npy").write_bytes(b"\x80\x04garbage" * 10)


@pytest.mark.parametrize("damage", [damage_truncate, damage_empty, damage_missing, damage_garbage])
def test_a_damaged_segment_is_removed_and_the_others_serve(damage):
    put(FeatureCache("enc", "a"), numbers(0, 5))
    (broken,) = segments(FeatureCache("enc", "a"))
    put(FeatureCache("enc", "a"), numbers(5, 10))
    damage(broken)
    store = FeatureCache("enc", "a")
    assert read(store, numbers(0, 10)) == {t: float(t) for t in numbers(5, 10)}
    assert not broken.exists()
    put(store, numbers(0, 5))
    assert len(read(store, numbers(0, 10))) == 10


def test_a_record_with_a_flipped_bit_counts_as_missing():
    put(FeatureCache("enc", "a"), numbers(0, 5))
    (segment,) = segments(FeatureCache("enc", "a"))
    data = bytearray((segment / "features.npy").read_bytes())
    data[-1] ^= 1
    (segment / "features.npy").write_bytes(data)
    assert len(read(FeatureCache("enc", "a"), numbers(0, 5))) == 4


@pytest.mark.parametrize("text", ["0", "0GB"])
def test_a_limit_of_zero_turns_the_cache_off(monkeypatch, text):
    monkeypatch.setenv("METAGLOT_CACHE_LIMIT", text)
    store = FeatureCache("enc", "a")
    put(store, ["1"])
    assert not store.folder.exists()


def test_where_nothing_can_be_written_there_is_one_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path / "file"))
    store = FeatureCache("enc", "a")
    with pytest.warns(RuntimeWarning, match="not cached from here on") as caught:
        put(store, ["1"])
        put(store, ["2"])
    assert len(caught) == 1
    assert read(store, ["1"]) == {}


def test_a_full_disk_leaves_nothing_half_written(monkeypatch):
    store = FeatureCache("enc", "a")

    def full(path, array):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("metaglot.encoders.segments.np.save", full)
        with pytest.warns(RuntimeWarning, match="disk is full"):
            put(store, ["1"])
    assert list(store.folder.iterdir()) == []


def test_usage_and_clear_go_by_encoder():
    put(FeatureCache("enc", "a"), numbers(0, 5))
    put(FeatureCache("enc", "b"), numbers(0, 7))
    put(FeatureCache("other", "a"), numbers(0, 3))
    assert {u.encoder: u.texts for u in usage()} == {"enc": 12, "other": 3}
    before = {u.encoder: u.bytes for u in usage()}
    assert clear("enc") == before["enc"] > 0
    assert [u.encoder for u in usage()] == ["other"]
    assert clear() == before["other"]
    assert usage() == []
    assert clear() == 0


def test_no_text_is_stored():
    store = FeatureCache("enc", "a")
    secret = "a sentence that nobody else may read"
    store.put(store.keys([secret]), [{"features": vector("x")}])
    assert not any(secret.encode() in f.read_bytes() for f in store.folder.rglob("*") if f.is_file())


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4e9), ("500 mb", 5e8), ("1.5G", 1.5e9), ("123", 123), ("7B", 7), ("", 4e9)]
)
def test_sizes_are_read(monkeypatch, text, size):
    monkeypatch.setenv("METAGLOT_CACHE_LIMIT", text)
    assert limit_bytes() == size


@pytest.mark.parametrize("text", ["much", "-1GB", "4XB", "GB"])
def test_wrong_sizes_are_explained(monkeypatch, text):
    monkeypatch.setenv("METAGLOT_CACHE_LIMIT", text)
    with pytest.raises(SettingsError, match="such as 4GB"):
        limit_bytes()
