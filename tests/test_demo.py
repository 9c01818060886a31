"""The demo on six languages and a small encoder: everything it says is there."""

import json

import pytest
from rich.console import Console

from metaglot import demo, load, predict
from metaglot.config import Recipe

SOURCES = ("deu", "eng", "nld", "swe")
HELD_OUT = ("fra", "spa")


@pytest.fixture
def small(monkeypatch):
    """The demo with fewer languages, shots and steps, and no model to write."""

    def recipe(**given):
        options = given["corpus_options"] | {"per_intent": 10}
        train = given["train"].model_copy(update={"steps": 2, "pool": 6})
        return Recipe(**given | {"encoder": "ngrams:256", "corpus_options": options, "train": train})

    for name, value in (
        *(("SOURCES", SOURCES), ("HELD_OUT", HELD_OUT), ("SHOTS", (0, 2)), ("ADAPTED", "spa")),
        *(("ADAPTED_SHOTS", 2), ("Recipe", recipe)),
    ):
        monkeypatch.setattr(demo, name, value)


def test_the_demo_does_the_whole_job(small, own_cache, tmp_path):
    console = Console(width=200, color_system=None)
    folder = tmp_path / "demo"
    with console.capture() as shown:
        demo.run(folder, draws=2, console=console)
    text = shown.get()
    assert "Voice commands in 6 languages" in text
    assert "French, Spanish" in text
    first = {line.strip(" │").partition(" ")[0] for line in text.splitlines()}
    assert {*demo.SHOWN, "zero-shot", "majority", "joint", "target-only"} <= first
    assert "paired 95% interval" in text
    assert "Adapted to Spanish (spa): " in text
    assert "Estimated from these examples alone: " in text
    assert text.count("✓") + text.count("✗") == 6
    assert str(folder) in text

    found = json.loads((folder / "results.json").read_text("utf-8"))
    assert (found["held_out"], found["recipe"]["encoder"]) == (list(HELD_OUT), "ngrams:256")
    assert {r["method"] for r in found["records"] if r["learned"]} == set(demo.SHOWN)
    assert {(r["shots"], r["draw"]) for r in found["records"]} == {(0, 0), (2, 0), (2, 1)}
    assert (folder / "results.png").read_bytes().startswith(b"\x89PNG")
    loaded = load(folder / "assistant")
    assert set(loaded.adaptations) == {"spa"}
    assert predict(loaded, ["enciende la luz"], "spa")[0].adapted
    assert {p.name for p in folder.iterdir()} == {"results.json", "results.png", "assistant"}


def test_the_demo_replaces_its_own_files(small, own_cache, tmp_path):
    console = Console(width=200, quiet=True)
    for _ in range(2):
        demo.run(tmp_path / "demo", draws=1, console=console)
    assert set(load(tmp_path / "demo" / "assistant").adaptations) == {"spa"}
