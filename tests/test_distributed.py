"""Two processes learn what one does; where one of them ends, the other says so and nothing is lost."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tides
from metaglot import distributed
from metaglot.checkpoint import State
from metaglot.distributed import LostProcessError, Processes, processes
from metaglot.errors import MissingExtraError, SettingsError
from metaglot.history import History
from metaglot.progress import silent
from village import QUICK, metaglot, write_corpus

pytest.importorskip("accelerate")

# What each run differs in. Without dropout, which differs from process to process.
CASES = {
    "uneven shares": {},
    "one process has nothing to do": {"episodes": 1, "optimizer": "sgd"},
    "every task, weighted": {"tasks": "all", "weights": {"brest": 3.0, "hilo": 0.5}, "pool": 10},
    "in parts, stopped early": {"accumulate": 1, "episodes": 5, "rate": 5.0, "clip": 0.0, "patience": 1},
}

SCRIPT = """
import sys, json, os, signal, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
import tides
from metaglot import distributed
from metaglot.errors import MetaglotError
from metaglot.progress import silent
from metaglot.run_log import RunLog
from safetensors.torch import save_file

folder = Path({folder!r})
rank = int(os.environ["RANK"])
"""

EQUAL = """
with silent():
    for number, changes in enumerate(json.loads({cases!r})):
        result = tides.learn(learner=tides.Tidal(dropout=0.0), changes=changes)
        kept = result.meta | {{"losses": torch.tensor(result.losses, dtype=torch.float64)}}
        save_file(kept, folder / f"{{number}}-{{rank}}.safetensors")
        (folder / f"{{number}}-{{rank}}.json").write_text(result.history.curves_json())
    dropped = tides.learn(log=RunLog(folder / "log"))
    save_file(dropped.meta, folder / f"dropout-{{rank}}.safetensors")
    together = distributed.processes()
    assert together.everyone("wort " * rank + "ü") == ["ü", "wort ü"]
    assert together.from_first(b"" if rank == 0 else b"x") == b""
    assert together.from_first(b"abc" if rank == 0 else b"") == b"abc"
    with together.in_turn() as several:
        assert several
        times = [time.time()]
        time.sleep(0.3)
        times.append(time.time())
    (folder / f"turn-{{rank}}.json").write_text(json.dumps(times))
try:
    with silent():
        tides.learn(changes={{"seed": rank}})
except MetaglotError as error:
    print(error)
from metaglot.cli import main
main(["train", str(folder / "village.csv"), *{quick!r}, "--out", str(folder / "model")])
"""

# Process 1 ends, or hangs, in the middle of step 5, after checkpoints at steps 2 and 4.
LOSE = """
class Failing(tides.Tidal):
    def meta_loss(self, model, meta, episodes):
        if rank == 1 and torch.is_grad_enabled():
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 6:
                {fault}
        return super().meta_loss(model, meta, episodes)

try:
    with silent():
        tides.learn(learner=Failing(dropout=0.0), checkpoint=folder / "run.safetensors")
except MetaglotError as error:
    print(type(error).__name__, error)
    sys.exit(2)
"""


def launch(code, folder, **environment):
    """Start a program in two processes, as torchrun does; return what each said and ended with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder)) + code
    running = []
    for rank in (0, 1):
        meet = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        meet |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1} | environment
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", script],
                env=os.environ | {k: str(v) for k, v in meet.items()},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, *lines) for process, lines in zip(running, said, strict=True)]


def test_two_processes_give_what_one_does(tmp_path):
    cases = list(CASES.values())
    write_corpus(tmp_path / "village.csv")
    code = EQUAL.format(cases=json.dumps(cases), quick=QUICK)
    ended = launch(code, tmp_path, METAGLOT_CACHE=tmp_path / "cache")
    assert [code for code, _, _ in ended] == [0, 0], ended
    for _, out, _ in ended:
        assert "expected every process to have the same settings" in out
    (early, gone), (come, _) = sorted(json.loads(f.read_text()) for f in tmp_path.glob("turn-*.json"))
    assert early < gone <= come
    for number, changes in enumerate(cases):
        with silent():
            alone = tides.learn(learner=tides.Tidal(dropout=0.0), changes=changes)
        first, second = (load_file(tmp_path / f"{number}-{rank}.safetensors") for rank in (0, 1))
        for name, value in first.items():
            assert torch.equal(value, second[name]), (number, name)
        losses = first.pop("losses").tolist()
        assert losses == pytest.approx(alone.losses, abs=1e-6)
        for name, value in first.items():
            assert torch.allclose(value, alone.meta[name], atol=1e-6, rtol=0), (number, name)
        texts = [(tmp_path / f"{number}-{rank}.json").read_text() for rank in (0, 1)]
        assert texts[0] == texts[1]
        both = History.of([], [], texts[0])
        assert both.curves.keys() == alone.history.curves.keys()
        for task, points in alone.history.curves.items():
            assert both.curves[task] == [pytest.approx(point, abs=1e-5) for point in points]
        assert both.judged == [pytest.approx(point, abs=1e-5) for point in alone.history.judged]
    assert alone.history.steps < tides.SETTINGS.steps  # the last case has stopped early, in both alike
    one, other = (load_file(tmp_path / f"dropout-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [json.loads(line) for line in (tmp_path / "log" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))  # written by one of them
    # The command line: one process speaks and writes.
    assert ["Saved in" in out for _, out, _ in ended] == [True, False]
    assert ["meta-training" in faults for _, _, faults in ended] == [True, False]
    metaglot("train", tmp_path / "village.csv", *QUICK, "--out", tmp_path / "alone")
    both, alone = (load_file(tmp_path / name / "learner.safetensors") for name in ("model", "alone"))
    assert all(torch.allclose(both[name], alone[name], atol=1e-6, rtol=0) for name in alone)
    assert not list(tmp_path.glob(".*"))


def test_where_a_process_is_killed_the_other_says_so_and_the_run_goes_on(tmp_path):
    code = LOSE.format(fault="os.kill(os.getpid(), signal.SIGKILL)")
    start = time.monotonic()
    (left, out, faults), (killed, _, _) = launch(code, tmp_path, METAGLOT_TIMEOUT=60)
    assert killed == -9
    assert left == 2, faults
    assert time.monotonic() - start < 50  # it did not wait for its time to be over
    assert "LostProcessError process 1 (" in out
    assert "pid" in out
    assert "of 2 has ended before the run has" in out
    assert "Start the same command again: it goes on from the last checkpoint." in out
    path = tmp_path / "run.safetensors"
    assert State.unpack(path.read_bytes())[0].history.steps == 5  # what was learned until then is saved
    learner = tides.Tidal(dropout=0.0)
    with silent():
        resumed = tides.learn(learner=learner, checkpoint=path)
        whole = tides.learn(learner=learner)
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-6)
    assert all(torch.allclose(v, whole.meta[n], atol=1e-6, rtol=0) for n, v in resumed.meta.items())


def test_a_process_that_does_not_answer_is_told_from_one_that_has_ended(monkeypatch):
    monkeypatch.setattr(distributed, "_GRACE", 0.2)
    monkeypatch.setenv("METAGLOT_TIMEOUT", "2")
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        gone = f"{socket.gethostname()}, pid {child.pid}"  # ended, though nobody has asked how
        time.sleep(0.5)
        with pytest.raises(LostProcessError, match=rf"process 1 \({gone}\) of 2 has ended") as error:
            meet(Processes(0, 2, ("", gone)))
    assert "goes on from the last checkpoint" in error.value.hint
    with pytest.raises(LostProcessError, match="has ended"):
        meet(Processes(0, 2, ("", gone)))
    for other in (f"{socket.gethostname()}, pid {os.getppid()}", "elsewhere, pid 1"):
        with pytest.raises(
            LostProcessError, match="does not answer process 0, which may wait 2 s: late"
        ) as error:
            meet(Processes(0, 2, ("", other)))
        assert "METAGLOT_TIMEOUT" in error.value.hint


def meet(together):
    with together._meeting():
        raise RuntimeError("late\nand a long trace")


def test_a_process_alone_needs_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    alone = processes()
    assert (alone.rank, alone.size, alone.first) == (0, 1, True)
    values = torch.ones(3)
    assert alone.total(values) is values
    assert alone.everyone("x") == ["x"]
    assert alone.from_first(b"x") == b"x"
    with alone.in_turn() as several:
        assert not several


@pytest.mark.parametrize(("size", "count"), [(1, 4), (2, 5), (3, 2), (4, 4)])
def test_places_are_shared_out_once_each(size, count):
    shares = [list(Processes(rank, size).share(count)) for rank in range(size)]
    assert sorted(place for share in shares for place in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_several_processes_need_accelerate(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    distributed._several.cache_clear()
    with pytest.raises(MissingExtraError, match="accelerate") as error:
        processes()
    assert "metaglot[distributed]" in error.value.hint


@pytest.mark.parametrize("text", ["soon", "-1", "0", "inf", "nan"])
def test_a_time_to_wait_is_a_number_of_seconds(text, monkeypatch):
    monkeypatch.setenv("METAGLOT_TIMEOUT", text)
    with pytest.raises(SettingsError, match="METAGLOT_TIMEOUT to be a number of seconds"):
        distributed._timeout()
