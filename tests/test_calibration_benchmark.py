"""The benchmark of calibration: its measures by hand, and its tables in step with their file."""

import json

import pytest
import torch
from benchmarks.fewshot.calibration import RESULT, _mean
from benchmarks.fewshot.calibration_measures import cross_validated, judged, naive_threshold, recalled
from benchmarks.fewshot.calibration_tables import filled
from benchmarks.markers import ROOT

from metaglot.calibration import Calibration
from metaglot.types import Batch

PAGE = ROOT / "docs" / "calibration.md"


def test_measures_of_four_texts_by_hand():
    chances = torch.tensor([[0.96, 0.04], [0.92, 0.08], [0.7, 0.3], [0.6, 0.4]])
    found = judged(Calibration(), chances.log(), torch.tensor([0, 1, 0, 0]))
    assert found["accuracy"] == 0.75
    assert found["calibration_error before"] == found["calibration_error after"]
    assert found["promised 0.9"] == 0
    assert (found["sure 0.9 believed"], found["right 0.9 believed"], found["broken 0.9 believed"]) == (
        0.5,
        0.5,
        1,
    )
    assert (found["sure 0.95 believed"], found["right 0.95 believed"]) == (0.25, 1)
    assert (found["covered 0.9"], found["labels 0.9"]) == (0.75, 1.5)


def test_the_untested_threshold_is_the_least_that_looks_right():
    known = Calibration(confidence=(0.9, 0.8, 0.7, 0.6), truth=(0.9, 0.1, 0.7, 0.6))
    assert naive_threshold(known, 0.75) == 0.6
    assert naive_threshold(known, 0.76) == 0.9
    assert naive_threshold(Calibration(confidence=(0.9,), truth=(0.1,)), 0.5) == 2.0


def test_texts_let_through_are_counted_where_a_threshold_can_be():
    scores = tuple(float(i) for i in range(100))
    inside, outside = (torch.tensor([[v, -9.0] for v in values]) for values in ([50.0, 0.5], [-1.0, 3.0]))
    found = recalled(Calibration(truth=scores, scope=scores), inside, outside)
    assert found == {"in scope": 0.5, "let through": 0.0}
    assert recalled(Calibration(), inside, outside) == {}


def test_a_method_is_cross_validated_where_it_can_be():
    def judge(support, query):
        assert not set(support.inputs["x"].flatten().tolist()) & set(query.inputs["x"].flatten().tolist())
        return 5 * torch.nn.functional.one_hot(query.targets, 2).float()

    batch = Batch({"x": torch.arange(6.0).unsqueeze(-1)}, torch.tensor([0, 0, 0, 1, 1, 1]), torch.arange(2))
    assert len(cross_validated(judge, batch, ()).truth) == 6
    assert cross_validated(judge, batch[torch.tensor([0, 5])], ()) == Calibration()


def test_means_are_over_the_rows_that_have_a_number():
    assert _mean([{"a": 1.0, "b": None}, {"a": 2.0}, {"c": 3.0}]) == {"a": 1.5, "c": 3.0, "judged": 3}


def test_the_page_is_in_step_with_the_result_file():
    text = PAGE.read_text(encoding="utf-8")
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    assert filled(text, found) == text, "run: python -m benchmarks.fewshot.calibration tables"
    assert text.count("-->") == 10


@pytest.mark.parametrize("name", ["spread", "temperature", "precision", "sets", "scope"])
def test_a_number_that_changes_is_seen(name):
    text = PAGE.read_text(encoding="utf-8")
    start = text.index(f"<!-- calibration-{name}:start -->")
    digit = next(i for i in range(text.index("---:", start), len(text)) if text[i].isdigit())
    changed = text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :]
    assert filled(changed, json.loads(RESULT.read_text(encoding="utf-8"))) == text
