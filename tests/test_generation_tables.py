"""The tables of models that write: what the pages say is in the result files, and rates are chosen fairly."""

import json
from pathlib import Path

import pytest
from benchmarks.generation import ablations, tables
from benchmarks.generation.methods import JOINT, Records

ROOT = Path(__file__).parents[1]
PAGES = ("translation.md", "language-modelling.md")


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_have_the_tables_of_the_result_files(name):
    page = ROOT / "docs" / name
    assert tables.filled(page) == page.read_text("utf-8"), "run: python -m benchmarks.generation.tables"


@pytest.mark.parametrize("name", PAGES)
def test_a_changed_number_is_seen(name, tmp_path):
    text = (ROOT / "docs" / name).read_text("utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| {JOINT} |"))
    page = tmp_path / name
    page.write_text(text.replace(row, row.replace("| ", "| 9", 2), 1), "utf-8")
    assert tables.filled(page) == text


def test_what_the_page_of_language_modelling_says():
    found = tables.Modelling()
    assert len(found.about["sources"]) == 33 and len(found.held_out) == 10
    ahead = {}
    for method in ("FOMAML", "hierarchical"):
        for updates in (10, 30, 100):
            ours, theirs = found.by_language(method, 4, updates), found.by_language(JOINT, 4, updates)
            ahead[method, updates] = tables.interval([ours[code] - theirs[code] for code in ours])
    assert ahead["hierarchical", 30][1] < 0 and ahead["hierarchical", 100][1] < 0
    assert all(ahead["FOMAML", updates][0] < 0 < ahead["FOMAML", updates][1] for updates in (30, 100))
    assert ahead["FOMAML", 10][0] > 0


def test_what_the_page_of_translation_says():
    into = tables.Translating("english")
    assert len(into.about["sources"]) == 95 and len(into.about["held_out"]) == 7
    assert all(-1.0 < c["difference"] < -0.3 for c in into.cells if c["method"] == "FOMAML")
    assert max(c["mean"] for c in into.cells if c["method"] == "scratch") < 6
    out_of = tables.Translating("django")
    assert all(cell["intact"] == 1 and cell["placeholders"] == 132 for cell in out_of.cells)
    assert all(out_of.find("FOMAML", tokens, 200)["low"] > 0 for tokens in (1000, 4000))
    assert all(out_of.find("FOMAML", tokens, 50)["high"] < 0 for tokens in (1000, 4000))
    copied = out_of.find("copy", 0, 0)["mean"]
    assert copied - 1 < max(c["mean"] for c in out_of.cells if c["method"] == JOINT) < copied
    variations = ablations.summary()
    best = {place: variations[JOINT][place] for place in variations[JOINT] if place != (0, 0)}
    assert len(variations) == 6
    assert all(best[p] - cells[p] < 0.003 for cells in variations.values() for p in best)


def written(path, rows, **about):
    records = Records(path, ("method", "language", "kilobytes", "tokens", "updates", "multiple"))
    records.add({"about": about})
    for row in rows:
        records.add({"draw": 0, **row})
    return path


def bits(method, language, multiple, value, updates=10):
    return {
        "method": method, "language": language, "kilobytes": 4, "updates": updates, "multiple": multiple,
        "bits": value,
    }  # fmt: skip


def test_validation_languages_choose_the_rate_and_nothing_else(tmp_path):
    rows = [bits(JOINT, "isl", 0.1, 3.0), bits(JOINT, "isl", 1.0, 2.0), bits(JOINT, "isl", 1.0, 2.5, 30)]
    # At the rate that was not chosen the held-out language would look better.
    rows += [bits(JOINT, "eus", 0.1, 1.0), bits(JOINT, "eus", 1.0, 4.0), bits(JOINT, "eus", 1.0, 3.5, 30)]
    path = written(tmp_path / "lm.jsonl", rows, validation=["isl"], held_out={"none": ["eus"]})
    found = tables.Modelling(path)
    assert found.by_language(JOINT, 4, 10) == {"eus": 4.0}
    # So do they the number of updates: ten, though thirty would have been better.
    assert found.best(JOINT, 4) == {"eus": 4.0}


def test_a_rate_that_was_not_tried_on_all_validation_languages_is_not_chosen(tmp_path):
    rows = [bits(JOINT, "isl", 0.1, 3.0), bits(JOINT, "twi", 0.1, 3.0), bits(JOINT, "isl", 1.0, 1.0)]
    rows += [bits(JOINT, "eus", 0.1, 5.0), bits(JOINT, "eus", 1.0, 4.0)]
    path = written(tmp_path / "lm.jsonl", rows, validation=["isl", "twi"], held_out={"none": ["eus"]})
    assert tables.Modelling(path).by_language(JOINT, 4, 10) == {"eus": 5.0}


def test_a_cell_that_lacks_a_language_is_left_out(tmp_path):
    rows = [bits(JOINT, "isl", 1.0, 2.0), bits(JOINT, "eus", 1.0, 4.0)]
    path = written(tmp_path / "lm.jsonl", rows, validation=["isl"], held_out={"none": ["eus", "est"]})
    assert tables.Modelling(path).by_language(JOINT, 4, 10) == {}


def test_variations_are_judged_at_the_rate_that_is_best_on_the_mean(tmp_path):
    def row(language, multiple, value, updates=10, tokens=4000):
        return {
            "method": "FOMAML", "language": language, "tokens": tokens, "updates": updates,
            "multiple": multiple, "nats_per_token": value,
        }  # fmt: skip

    rows = [row("isl", 0.1, 2.0), row("twi", 0.1, 5.0), row("isl", 1.0, 3.0), row("twi", 1.0, 3.0)]
    rows += [row(code, 0.1, 4.0, 0, tokens) for code in ("isl", "twi") for tokens in (4000, 16000)]
    rows += [row("isl", 0.1, 1.0, 50)]  # of one language alone
    path = written(tmp_path / "ablations.jsonl", rows, validation=["isl", "twi"])
    # As it starts there is one value, whatever it would be adapted on.
    assert ablations.summary(path) == {"FOMAML": {(4000, 10): 3.0, (0, 0): 4.0}}


def test_results_are_not_made_twice(tmp_path):
    path = written(tmp_path / "lm.jsonl", [bits(JOINT, "isl", 1.0, 2.0)])
    again = Records(path, ("method", "language", "kilobytes", "tokens", "updates", "multiple"))
    assert bits(JOINT, "isl", 1.0, 9.9) in again
    assert bits(JOINT, "isl", 0.1, 9.9) not in again
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == again.rows
