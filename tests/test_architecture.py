"""The plan of the house, held by reading the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metaglot

ROOT = Path(metaglot.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
ROOMS = [
    "types errors registry storage progress languages families config linear_head label_scores tensor_files",
    "encoders",
    "kinds sequences",
    "data bitext knowledge",
    "space",
    "augmentation",
    "learners",
    "prior model distributed calibration",
    "training outer_loop drawing descent meta_loss divergence history run_log checkpoint adapting "
    "cross_validation predicting artifact model_card tuning explain evaluation searching recipes generation",
    "cli server demo __main__",
]
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms.split()}
# What knows of texts, and learners must not.
TEXT = {"encoders", "kinds", "data", "bitext", "space", "augmentation"}
RULE = "imports point down: " + " -> ".join(reversed(ROOMS)) + "; learners know of no text"


def imported(source):
    """The rooms that a module imports, lazily and for type checking too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            at_root = node.module == "metaglot"
            names = [f"metaglot.{a.name}" for a in node.names] if at_root else [node.module]
        else:
            continue
        yield from ((n.split(".")[1], node.lineno) for n in names if n.startswith("metaglot."))


def faults(room, source):
    return [
        (other, line)
        for other, line in imported(source)
        if other in FLOOR and (FLOOR[other] > FLOOR[room] or (room == "learners" and other in TEXT))
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_down(file):
    room = file.relative_to(ROOT).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in FLOOR, f"{room} has no place in ROOMS: {RULE}"
    found = [
        f"{file.relative_to(ROOT)}:{line} imports {other}" for other, line in faults(room, file.read_text())
    ]
    assert not found, f"{RULE}\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("room", "source", "other"),
    [
        ("learners", "from metaglot.kinds import KINDS", "kinds"),
        ("learners", "def f():\n    import metaglot.encoders.base", "encoders"),
        ("space", "from metaglot import model", "model"),
        ("types", "if TYPE_CHECKING:\n    from metaglot.data import load_corpus", "data"),
    ],
)
def test_an_import_that_points_up_is_seen(room, source, other):
    assert [name for name, _ in faults(room, source)] == [other]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_module_is_short_and_never_unpickles(file):
    source = file.read_text()
    assert len(source.splitlines()) <= 400, "a module is a page or three"
    assert file.name != "utils.py", "give the functions a home that says what they are about"
    found = re.search(
        r"import (pickle|dill|joblib)|from (pickle|dill|joblib)|torch\.(load|save)\(|allow_pickle=True",
        source,
    )
    assert found is None, f"what metaglot reads must not run code: {found}"


def test_listing_what_there_is_imports_nothing_heavy():
    code = (
        "import sys, metaglot.config, metaglot.data, metaglot.encoders, metaglot.kinds, metaglot.learners, "
        "metaglot.space\n"
        "print(*{'torch', 'transformers', 'sklearn', 'datasets', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
