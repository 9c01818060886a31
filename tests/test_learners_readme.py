"""The README of the learners: its examples run and learn, and its list is the registry's."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from metaglot.learners import LEARNERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "src" / "metaglot" / "learners" / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs an example and returns what it leaves."""
    monkeypatch.syspath_prepend(ROOT / "docs_src")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return lambda name: runpy.run_path(str(ROOT / "docs_src" / f"{name}.py"))


def before_and_after(left, tasks):
    """The mean query losses after adapting from the start, and from what was learned."""
    learner, model = left["learner"], left["model"]
    with torch.no_grad():
        return [
            float(learner.meta_loss(model, meta, tasks))
            for meta in (learner.init(model, torch.Generator()), left["meta"])
        ]


def test_sinusoids_are_learned_from_ten_points(run):
    left = run("maml_loop")
    before, after = before_and_after(left, [left["episode"]() for _ in range(100)])
    assert before > 3
    assert after < 1.5


def test_the_loop_has_twelve_lines():
    lines = (ROOT / "docs_src" / "maml_loop.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line]) == 12


def test_digits_that_were_held_out_are_told_apart(run, capsys):
    left = run("digits")
    assert re.fullmatch(r"Three digits .*: \d\d% right\n", capsys.readouterr().out)
    start = left["learner"].init(left["model"], torch.Generator())
    before, after = (left["accuracy"](meta, episodes=60) for meta in (start, left["meta"]))
    assert after > before + 0.04
    assert after > 0.7


def test_bert_learns_to_learn_by_lora_and_comes_back_from_disk(run):
    left = run("bert_lora")
    assert all("lora_" in n or n.startswith("classifier.") for n in left["adapted"])
    assert (left["logits"].argmax(1) == left["task"].query.targets).float().mean() > 0.9
    before, after = before_and_after(left, [left["episode"]() for _ in range(20)])
    assert after < 0.5 * before


def test_the_list_of_learners_is_the_registrys():
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \| (any module|a linear head) \|$", README, re.M)
    needs = {name: LEARNERS[name]().needs for name in LEARNERS}
    assert [(name, said, where == "any module") for name, said, where in rows] == [
        (name, said, "any" in needs[name]) for name, said in LEARNERS.describe().items()
    ]


def test_every_name_in_the_readme_is_there():
    folder = ROOT / "src" / "metaglot" / "learners"
    for file in re.findall(r"`(\w+\.py)`", README):
        assert (folder / file).is_file() or (ROOT / "docs_src" / file).is_file(), file
    source = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    for name in set(re.findall(r"`(\w+)[(=]", README)) - {"requires_grad_"}:
        assert re.search(rf"(def|class) {name}\b|\b{name}: ", source), name
