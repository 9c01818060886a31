"""Metrics against answers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from metaglot.evaluation.metrics import (
    auroc,
    bootstrap_interval,
    calibration_error,
    classification_metrics,
    false_positive_rate,
)


def test_metrics_of_four_predictions_by_hand():
    predicted, targets = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    logits = torch.nn.functional.one_hot(predicted, 3) * math.log(2.0)  # 1/2 for the label, 1/4 for others
    found = classification_metrics(logits, targets)
    assert found["accuracy"] == 0.75
    # F1 is 2/3 for label 0 and 4/5 for label 1; label 2 is neither predicted nor there.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["log_loss"] == pytest.approx((3 * math.log(2) + math.log(4)) / 4)
    assert found["calibration_error"] == pytest.approx(0.25)


@given(
    st.integers(2, 4).flatmap(
        lambda c: st.lists(
            st.tuples(st.lists(st.floats(-5, 5), min_size=c, max_size=c), st.integers(0, c - 1)), min_size=1
        )
    )
)
def test_accuracy_and_log_loss_are_scikit_learns(rows):
    logits = torch.tensor([r[0] for r in rows], dtype=torch.float64)
    targets = torch.tensor([r[1] for r in rows])
    found = classification_metrics(logits, targets)
    assert found["accuracy"] == pytest.approx(accuracy_score(targets, logits.argmax(1)))
    labels = list(range(logits.shape[1]))
    assert found["log_loss"] == pytest.approx(log_loss(targets, logits.softmax(1), labels=labels))
    assert 0 <= found["calibration_error"] <= 1


def test_calibration_error_of_bins_by_hand():
    # Four of confidence 0.8, three right: a gap of 0.05; one of 1.0 and wrong: a gap of 1.
    probabilities = torch.tensor([[0.8, 0.2]] * 4 + [[1.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([0, 0, 0, 1, 1])
    assert calibration_error(probabilities, targets) == pytest.approx(0.8 * 0.05 + 0.2 * 1.0)
    # In one bin the gaps are taken together: confidence 0.84, accuracy 0.6.
    assert calibration_error(probabilities, targets, bins=1) == pytest.approx(0.24)


def test_confidences_of_one_tenth_are_one_bin():
    # Both are between 0.7 and 0.8: a mean confidence of 0.75, and one of two right.
    probabilities = torch.tensor([[0.72, 0.28], [0.78, 0.22]])
    assert calibration_error(probabilities, torch.tensor([0, 1])) == pytest.approx(0.25)


def test_certain_and_right_is_calibrated():
    assert calibration_error(torch.eye(3), torch.arange(3)) == 0.0
    assert calibration_error(torch.eye(3), (torch.arange(3) + 1) % 3) == 1.0


def test_the_interval_holds_the_mean_in_as_many_cases_as_it_says():
    chance = torch.Generator().manual_seed(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(torch.randn(3, 20, generator=chance), 0.9, resamples=200, seed=trial)
        hits += low < 0 < high
    assert 0.82 < hits / 200 < 0.96


def test_the_interval_leaves_the_languages_as_they_are():
    level = torch.tensor([[0.1], [0.5], [0.9]])
    low, high = bootstrap_interval(level.expand(3, 8))
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)


def test_the_interval_is_of_the_width_that_the_central_limit_theorem_says():
    values = torch.randn(4, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = bootstrap_interval(values, resamples=4000)
    deviation = math.sqrt(sum(v.var(correction=0).item() / 100 for v in values)) / 4
    assert (low + high) / 2 == pytest.approx(values.mean().item(), abs=0.01)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.06)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, 0.5)[0] > low


@given(st.lists(st.integers(-3, 3), min_size=1), st.lists(st.integers(-3, 3), min_size=1))
def test_auroc_is_scikit_learns(high, low):
    truth, scores = [1] * len(high) + [0] * len(low), [*high, *low]
    assert auroc(torch.tensor(high), torch.tensor(low)) == pytest.approx(roc_auc_score(truth, scores))


def test_the_false_positive_rate_by_hand():
    positives = torch.arange(1.0, 21.0)  # 19 of 20 are 2 or more
    negatives = torch.tensor([0.0, 1.0, 1.9, 2.0])
    assert false_positive_rate(positives, negatives) == 0.25
    assert false_positive_rate(positives, negatives, recall=1.0) == 0.75
    assert false_positive_rate(positives, negatives, recall=0.05) == 0.0
