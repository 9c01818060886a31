"""A run that is killed with SIGKILL, wherever it is, goes on with the same result bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")

# One process that has torch loaded forks the runs that are killed: a start costs milliseconds.
NURSERY = """
import json, os, random, signal, sys, time
from pathlib import Path

sys.path.insert(0, {tests!r})
import torch
from metaglot.progress import silent
from metaglot.checkpoint import Checkpoint
import tides

torch.set_num_threads(1)
folder = Path({folder!r})


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def child(path, sabotage):
    pid = os.fork()
    if pid == 0:
        try:
            sabotage()
            with silent():
                tides.learn(checkpoint=path)
        finally:
            os._exit(0)
    return pid


def killed(pid):
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def at_call(name, number, before):
    # Die before or after the `number`-th call, or half way through writing.
    def sabotage():
        real, count = getattr(Path, name), [0]

        def call(self, *args):
            count[0] += 1
            if count[0] == number and before:
                if name == "write_bytes":
                    real(self, args[0][: len(args[0]) // 2])
                die()
            result = real(self, *args)
            if count[0] == number:
                die()
            return result

        setattr(Path, name, call)

    return sabotage


def compare(path, whole):
    with silent():
        again = tides.learn(checkpoint=path)
    Checkpoint(path).remove()
    clean = not [p for p in path.parent.iterdir() if path.name in p.name]
    return tides.same(again, whole) and clean


with silent():
    whole = tides.learn()
found = {{}}
# Six checkpoints are written: six files, and eleven renames, since all but the first move one before.
for name, numbers in (("write_bytes", (1, 2, 6)), ("replace", (1, 2, 3, 4, 11))):
    for number in numbers:
        for before in (True, False):
            path = folder / f"{{name}}-{{number}}-{{before}}.safetensors"
            died = killed(child(path, at_call(name, number, before)))
            found[f"{{name}} {{number}} {{before}}"] = [died, compare(path, whole)]

start = time.perf_counter()
with silent():
    tides.learn(checkpoint=folder / "timed.safetensors")
length = time.perf_counter() - start
chance = random.Random(0)
for number in range(5):
    path, deaths = folder / f"random-{{number}}.safetensors", 0
    for _ in range(3):  # killed again and again, and each time it goes on a little further
        pid = child(path, lambda: None)
        time.sleep(chance.uniform(0.05, 0.8) * length)
        os.kill(pid, signal.SIGKILL)
        deaths += killed(pid)
    found[f"random {{number}}"] = [deaths > 0, compare(path, whole)]
print(json.dumps(found))
"""


def test_killed_at_any_moment_and_resumed_the_parameters_are_the_same_bits(tmp_path):
    code = NURSERY.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 16 + 5
    assert [name for name, (_, right) in found.items() if not right] == []
    # The kills have hit: every one inside a write, and chance most of the time.
    assert [name for name, (died, _) in found.items() if not died and not name.startswith("random")] == []
    assert sum(died for died, _ in found.values()) >= 16 + 3
