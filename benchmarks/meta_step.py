"""One meta-gradient of MAML: time and memory beside other libraries, and how both grow.

    python benchmarks/meta_step.py --part a --json benchmarks/results/meta_step.json

Parts: (a) a transformer classifier, (b) a small network, (c) an adapter and a head over cached features,
(d) growth with inner steps, tasks, shots and width. In one process all runners take turns, in an order
that is rotated every round; their gradients are compared with the hand-written loop's in the same run.
Times are medians over rounds. Memory is what the peak of the process grows by in a step, each runner in a
process of its own. Threads wait without spinning, and freed memory is kept (the heap is warm), for all.
Results are written after every round, and a run that was stopped goes on.
"""

# ruff: noqa: E402 - the environment is set before torch is imported
from __future__ import annotations

import os
import sys

# Before torch is imported, and for every runner alike.
_WANTED = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    "MALLOC_MMAP_THRESHOLD_": "8000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}
_APART = "META_STEP_MEMORY"  # memory is measured in processes that give back what they free
_UNSET = any(os.environ.get(name) != value for name, value in _WANTED.items())
if __name__ == "__main__" and _UNSET and _APART not in os.environ:
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | _WANTED)

import argparse
import ctypes
import gc
import importlib.metadata
import json
import math
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from meta_step_cases import Case, product, scaled, small, transformer
from meta_step_peers import INEXACT, PEERS, metaglot_modes
from metaglot.storage import write_json

PARTS = {
    "a": [("transformer", transformer())],
    "b": [("small network", small())],
    "c": [("40 labels, 8 examples each", product()), ("5 labels, 1 example each", product(5, 1))],
}
SCALES = {"steps": (1, 2, 4, 8), "tasks": (2, 4, 8, 16), "shots": (1, 2, 4, 8), "width": (32, 64, 128, 256)}
THREADS = int(_WANTED["OMP_NUM_THREADS"])
RUNNERS = metaglot_modes(THREADS) | PEERS
console = Console(width=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", default="abcd", help="any of a, b, c, d")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runners", nargs="*", help="names; all that are installed if left out")
    parser.add_argument("--json", type=Path, help="write results here, and go on from it")
    parser.add_argument("--no-memory", action="store_true", help="times only; another run adds the memory")
    parser.add_argument("--plot", type=Path, help="draw part (d) here")
    parser.add_argument(
        "--memory-of", nargs=4, metavar=("PART", "CASE", "RUNNER", "ORDER"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(memory_here(*options.memory_of)))
        return
    if len(options.part) > 1:
        # Each in a process of its own: what one leaves in the heap slows the small tensors of the next.
        for part in options.part:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part], check=True)
        return
    found = facts()
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text(encoding="utf-8"))
        same = all(found[part] == kept[part] for part in ("versions", "machine", "cases"))
        found |= {"parts": kept["parts"], "growth": kept["growth"]} if same else {}
        found |= {"encoder_inside": kept["encoder_inside"]} if same and "encoder_inside" in kept else {}

    def save() -> None:
        if options.json:
            write_json(options.json, found)

    for part in (p for p in options.part if p in PARTS):
        for place, (name, case) in enumerate(PARTS[part]):
            for order in ("second", "first"):
                rows = found["parts"].setdefault(f"{part}: {name}, {order} order", {})
                measure(case, order == "first", options, rows, save)
                for runner, row in rows.items():
                    if not options.no_memory and "memory_mib" not in row and "seconds" in row:
                        row["memory_mib"] = memory_apart(part, place, runner, order)
                        save()
                show(f"({part}) {name}, {order} order", rows)
    if "c" in options.part and "encoder_inside" not in found:
        found["encoder_inside"] = encoder_inside()
        save()
    if "c" in options.part:
        console.print(found["encoder_inside"])
    if "d" in options.part:
        growth(found["growth"], options, save)


def facts() -> dict:
    """Versions and machine."""
    names = ("torch", "metaglot", "higher", "torchopt", "iteryne", "parallel-metalearn", "numpy")
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return {
        "versions": {name: installed[name] for name in names if name in installed},
        "machine": {
            "processor": next(
                (r.split(":")[1].strip() for r in cpu.splitlines() if "model name" in r), platform.machine()
            ),
            "bfloat16": "avx512_bf16" in cpu,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "cases": {
            part: [
                [name, case.tasks, case.ways, case.shots, case.queries, case.steps] for name, case in cases
            ]
            for part, cases in PARTS.items()
        },
        "load_at_start": os.getloadavg()[0],
        "parts": {},
        "growth": {},
    }


def measure(case: Case, first_order: bool, options: argparse.Namespace, rows: dict, save) -> None:
    """Time all runners, interleaved, and compare their gradients with the hand-written loop's."""
    steps = {}
    for name, make in RUNNERS.items():
        if options.runners and name not in options.runners and name != "hand-written loop":
            continue
        try:
            steps[name] = make(case, first_order)
            if "skipped" in rows.get(name, {}):
                del rows[name]
        except ImportError as error:
            rows[name] = {"skipped": f"not installed: {error}"}
    reference = steps["hand-written loop"]()
    for name, step in steps.items():
        row = rows.setdefault(name, {"seconds": []})
        start = time.perf_counter()
        row["error"] = float(f"{error_of(step(), reference):.2e}")  # this run warms it up too
        if "compiled" in name:
            row.setdefault("compile_seconds", round(time.perf_counter() - start, 1))
        row.setdefault("seconds", [])
    names = list(steps)
    while (made := min(len(rows[name]["seconds"]) for name in names)) < options.rounds:
        for name in names[made % len(names) :] + names[: made % len(names)]:
            if len(rows[name]["seconds"]) > made:
                continue
            start = time.perf_counter()
            steps[name]()
            rows[name]["seconds"].append(round(time.perf_counter() - start, 5))
        save()


def error_of(found: dict, reference: dict) -> float:
    """The norm of a gradient's difference from the reference, relative to the reference's norm."""
    difference = sum(float((found[n] - reference[n]).double().square().sum()) for n in reference)
    return math.sqrt(difference / sum(float(v.double().square().sum()) for v in reference.values()))


def memory_apart(part: str, place: int, runner: str, order: str) -> float | None:
    """What a step adds to the peak of a process of its own, in MiB."""
    command = [sys.executable, __file__, "--memory-of", part, str(place), runner, order]
    cold = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=cold | {_APART: "1"})
    return json.loads(done.stdout) if done.returncode == 0 else None


def memory_here(part: str, place: str, runner: str, order: str) -> float:
    case = scaled(place, int(order)) if part == "d" else PARTS[part][int(place)][1]
    step = RUNNERS[runner](case, order == "first")
    step()  # what is set up once, and what is measured once, is not a step's
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = held("VmRSS")
    step()
    return round(held("VmHWM") - before, 1)


def held(what: str) -> float:
    """What the process holds (VmRSS), or has held at most (VmHWM), in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    raise SystemExit("memory is read from /proc, which this system has not got")


def is_exact(name: str) -> bool:
    return not any(word in name for word in INEXACT)


def show(title: str, rows: dict) -> None:
    """Print times as ratios to the fastest exact runner that is not metaglot."""
    timed = {n: statistics.median(r["seconds"]) for n, r in rows.items() if r.get("seconds")}
    peers = {n: t for n, t in timed.items() if not n.startswith("metaglot") and is_exact(n)}
    best = min(peers, key=peers.get)
    table = Table("runner", "median, ms", f"times as fast as {best}", "memory, MiB", "error", title=title)
    for name, row in rows.items():
        if name in timed:
            values = (f"{1000 * timed[name]:.1f}", f"{timed[best] / timed[name]:.2f}")
            table.add_row(name, *values, str(row.get("memory_mib", "")), f"{row['error']:.1e}")
        else:
            table.add_row(name, row["skipped"])
    console.print(table)


def encoder_inside() -> dict:
    """Case (c) again, with an encoder of 12 layers and width 384 run on every text in every step."""
    from transformers import BertConfig, BertModel

    case = product()
    cached = metaglot_modes(THREADS)["metaglot"](case, False)
    torch.manual_seed(0)
    encoder = BertModel(
        BertConfig(
            hidden_size=384,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=1536,
            vocab_size=1000,
        )
    ).eval()
    texts = case.tasks * case.ways * (case.shots + case.queries)
    ids = torch.randint(0, 1000, (texts, 24))
    cached()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        cached()
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    with torch.no_grad():
        for part in ids.split(64):
            encoder(part)
    encoding = time.perf_counter() - start
    step = statistics.median(times)
    return {
        "texts": texts,
        "tokens": 24,
        "step_with_cached_features_s": round(step, 4),
        "step_with_the_encoder_inside_s": round(step + encoding, 3),
        "ratio": round((step + encoding) / step, 1),
    }


def growth(found: dict, options: argparse.Namespace, save) -> None:
    """Time and memory by size, and the exponents of t ∝ sizeᵃ over the larger half."""
    for name, sizes in SCALES.items():
        rows = found.setdefault(name, {})
        for size in sizes:
            if str(size) not in rows:
                step = metaglot_modes(THREADS)["metaglot"](scaled(name, size), False)
                step()
                times = []
                for _ in range(options.rounds):
                    start = time.perf_counter()
                    step()
                    times.append(time.perf_counter() - start)
                rows[str(size)] = {
                    "seconds": round(statistics.median(times), 5),
                    "memory_mib": memory_apart("d", name, "metaglot", str(size)),
                }
                save()
        large = sizes[len(sizes) // 2 - 1 :]
        for what in ("seconds", "memory_mib"):
            logs = [math.log(max(rows[str(size)][what], 1e-9)) for size in large]
            rows[f"exponent of {what}"] = round(slope([math.log(size) for size in large], logs), 2)
        console.print(
            f"{name}: time ∝ {name}^{rows['exponent of seconds']}, "
            f"memory ∝ {name}^{rows['exponent of memory_mib']}"
        )
        save()
    if options.plot:
        draw(found, options.plot)


def draw(found: dict, path: Path) -> None:
    """Plot time and memory against every size, with the fitted exponents."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, what, unit in zip(axes, ("seconds", "memory_mib"), ("time, s", "memory, MiB"), strict=True):
        for name, sizes in SCALES.items():
            share = [size / sizes[0] for size in sizes]
            label = f"{name} (exponent {found[name][f'exponent of {what}']})"
            axis.loglog(share, [found[name][str(size)][what] for size in sizes], marker="o", label=label)
        axis.set_xlabel("size, as a multiple of the smallest")
        axis.set_ylabel(unit)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def slope(x: list[float], y: list[float]) -> float:
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum(
        (a - mean_x) ** 2 for a in x
    )


if __name__ == "__main__":
    main()
