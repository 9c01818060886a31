"""Calibration against answers worked out by hand, and against what it promises on fresh draws."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import beta, binom

from metaglot.calibration import (
    Calibration,
    _chance,
    fit_temperature,
    least_examples,
    promised_threshold,
    scope_score,
)
from metaglot.cross_validation import fold_numbers, held_out_logits
from metaglot.errors import SettingsError


def drawn(n, *, sharp=1.0, labels=5, seed=0):
    """Logits whose softmax is right about the labels, times `sharp`."""
    chance = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, labels, generator=chance, dtype=torch.float64)
    targets = torch.multinomial(logits.softmax(-1), 1, generator=chance).squeeze(-1)
    return sharp * logits, targets


# --- temperature


@pytest.mark.parametrize("sharp", [0.5, 0.9, 1.0, 1.5, 3.0])
def test_with_many_examples_the_temperature_is_what_the_logits_were_multiplied_by(sharp):
    assert fit_temperature(*drawn(20_000, sharp=sharp)) == pytest.approx(sharp, rel=0.05)


def test_the_temperature_is_the_maximum_a_posteriori():
    logits, targets = drawn(30, sharp=2.0)

    def cost(t):
        return float(F.cross_entropy(logits / t, targets, reduction="sum")) + math.log(t) ** 2 / (2 * 0.3**2)

    found = fit_temperature(logits, targets, spread=0.3)
    dense = [math.exp(i / 1000) for i in range(-2000, 2001)]
    assert cost(found) <= min(map(cost, dense)) + 1e-4


def test_few_examples_move_the_temperature_little_and_none_not_at_all():
    found = [
        sum(fit_temperature(*(part[:n] for part in drawn(1000, sharp=3.0, seed=s))) for s in range(10)) / 10
        for n in (0, 4, 40, 1000)
    ]
    assert found[0] == 1.0
    assert 1.0 < found[1] < 1.2 < found[2] < found[3] < 3.1


def test_one_example_that_is_surely_wrong_does_no_harm():
    assert 1.0 < fit_temperature(torch.tensor([[50.0, 0.0]]), torch.tensor([1])) < 3


def test_the_temperature_mends_the_calibration_of_others():
    logits, targets = drawn(400, sharp=2.5)
    fresh, truth = drawn(4000, sharp=2.5, seed=1)
    found = Calibration.of(logits, targets)
    before = float(F.nll_loss(fresh.log_softmax(-1), truth))
    assert float(F.nll_loss(found.probabilities(fresh).log(), truth)) < before - 0.2
    assert torch.equal(found.probabilities(fresh).argmax(-1), fresh.argmax(-1))


# --- what is known of every example


def test_what_is_kept_of_examples_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(9.0)]])
    found = Calibration.of(logits.repeat(1, 1), torch.tensor([0, 0]))
    chances = found.probabilities(logits)
    assert found.confidence == pytest.approx((float(chances[0, 0]), float(chances[1, 1])), abs=1e-5)
    assert found.truth == pytest.approx((float(chances[0, 0]), float(chances[1, 0])), abs=1e-5)
    assert found.scope == pytest.approx((math.log(3), math.log(9)), abs=1e-5)
    assert found.temperature > 1  # one of two was sure and wrong


def test_of_no_examples_nothing_is_known():
    none = Calibration()
    logits, _ = drawn(3)
    assert torch.equal(none.probabilities(logits), logits.softmax(-1))
    assert none.scope_of(logits) is None
    found = none.threshold(0.9)
    assert (found.value, found.promised, found.kept) == (0.9, False, 0.0)
    assert "it takes 22 cross-validated examples or more, and there are 0" in found.doubt
    assert len(none.doubts(coverage=0.9, recall=0.95)) == 2


# --- thresholds


@pytest.mark.parametrize("precision", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_the_least_number_of_examples_is_the_least_that_passes(precision):
    least = least_examples(precision)
    assert _chance(least, 0, precision) <= 0.1 + 1e-9
    assert _chance(least - 1, 0, precision) > 0.1


@pytest.mark.parametrize(("count", "wrong"), [(22, 0), (100, 3), (1000, 80), (30, 30)])
def test_the_test_is_clopper_and_pearsons(count, wrong):
    assert _chance(count, wrong, 0.9) == pytest.approx(binom.cdf(wrong, count, 0.1))
    lower = beta.ppf(0.1, count - wrong, wrong + 1) if wrong < count else 0.0
    assert (_chance(count, wrong, 0.9) <= 0.1) == (lower >= 0.9)


def test_the_threshold_goes_down_until_precision_is_lost():
    confidence = torch.linspace(1, 0, 101, dtype=torch.float64)[:100]  # 1.00, 0.99, …
    right = confidence > 0.395  # the surest 61
    found = promised_threshold(confidence, right, 0.9)
    # Of the surest 25, 35, 45 and 55 all are right; of 65 four are wrong, and that may be chance.
    assert found == pytest.approx(0.46)
    assert promised_threshold(confidence, torch.ones(100).bool(), 0.9) == pytest.approx(0.01)
    assert promised_threshold(confidence, torch.zeros(100).bool(), 0.9) is None
    assert promised_threshold(confidence[:21], right[:21], 0.9) is None
    assert promised_threshold(confidence[:22], right[:22], 0.9) == pytest.approx(0.79)


def test_examples_that_are_equally_sure_stand_or_fall_together():
    confidence = torch.full((100,), 0.8, dtype=torch.float64)
    right = torch.arange(100) < 50  # the first are right, which must not count as being the surest
    assert promised_threshold(confidence, right, 0.9) is None
    assert promised_threshold(confidence, right, 0.3) == 0.8


def test_a_promise_of_precision_is_kept_as_often_as_it_says():
    fresh, truth = drawn(20_000, seed=99)
    made, broken = 0, 0
    for seed in range(200):
        found = Calibration.of(*drawn(160, seed=seed)).threshold(0.7)
        if found.promised:
            sure = fresh.softmax(-1).max(-1).values >= found.value
            made += 1
            broken += float((fresh.argmax(-1) == truth)[sure].double().mean()) < 0.7
    assert made > 100
    assert broken / 200 <= 0.1 + 0.03


def test_a_threshold_says_what_was_counted():
    found = Calibration.of(*drawn(400, sharp=1.0)).threshold(0.8)
    assert (found.promised, found.doubt) == (True, "")
    assert found.right > 0.8
    assert 0.1 < found.kept < 1


def test_examples_that_are_wrong_too_often_promise_nothing():
    logits, targets = drawn(400)
    found = Calibration.of(logits, (targets + 1) % 5).threshold(0.9)
    assert not found.promised
    assert "too few of the surest of 400 cross-validated examples are right" in found.doubt
    assert found.value == 0.9


@pytest.mark.parametrize("share", [0.0, 1.0, -1, 95, math.nan])
def test_a_share_is_between_zero_and_one(share):
    with pytest.raises(SettingsError, match="between 0 and 1"):
        Calibration().threshold(share)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        Calibration().label_sets(torch.zeros(1, 2), share)


# --- sets of labels


def test_label_sets_by_hand():
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.34, 0.33, 0.33]]).log()
    nine = Calibration(truth=(0.15, *[0.5] * 8))  # of ten, one may be worse: q is the smallest
    assert nine.label_sets(logits, 0.9).tolist() == [[True, True, False], [True, True, True]]
    assert nine.label_sets(logits, 0.8).tolist() == [[True, False, False], [True, False, False]]
    eight = Calibration(truth=(0.15, *[0.5] * 7))  # too few for 0.9: as many as add up to it
    assert eight.label_sets(logits, 0.9).tolist() == [[True, True, False], [True, True, True]]
    assert eight.label_sets(logits, 0.65).tolist() == [[True, False, False], [True, False, False]]
    assert "takes 9 cross-validated examples" in eight.doubts(coverage=0.9)[0]
    assert nine.doubts(coverage=0.9) == []


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_of_labels_cover_as_often_as_they_say(coverage):
    fresh, truth = drawn(500, sharp=3.0, seed=99)
    reached = []
    for seed in range(200):
        found = Calibration.of(*drawn(60, sharp=3.0, seed=seed)).label_sets(fresh, coverage)
        reached.append(float(found[torch.arange(500), truth].double().mean()))
    assert coverage - 0.01 <= sum(reached) / 200 <= coverage + 0.04


# --- scope


def test_p_values_by_hand():
    found = Calibration(scope=(1.0, 2.0, 3.0)).scope_of(torch.tensor([[0.5, 0], [2.0, 0], [9.0, 0]]))
    assert found.tolist() == [0.25, 0.75, 1.0]


def test_p_values_of_texts_like_the_examples_are_uniform():
    logits, targets = drawn(99)
    fresh, _ = drawn(20_000, seed=1)
    below = [
        float((Calibration.of(logits, targets).scope_of(fresh) <= p).double().mean()) for p in (0.05, 0.5)
    ]
    assert below == pytest.approx([0.05, 0.5], abs=0.07)
    assert torch.equal(scope_score(logits), logits.amax(-1))


def test_too_few_examples_tell_nothing_out_of_scope_and_it_is_said():
    scores = tuple(float(i) for i in range(19))
    far = torch.full((1, 2), -9.0)
    assert float(Calibration(scope=scores, truth=scores).scope_of(far)) == pytest.approx(0.05)
    assert Calibration(scope=scores, truth=scores).doubts(recall=0.95) == []
    assert "it takes 19" in Calibration(scope=scores[1:], truth=scores[1:]).doubts(recall=0.95)[0]


# --- folds


def test_folds_leave_every_label_an_example_and_pass_over_those_with_one():
    targets = torch.tensor([0] * 7 + [1] * 2 + [2])
    fold = fold_numbers(targets)
    assert fold[-1] == -1
    for number in range(5):
        assert set(targets[fold != number].tolist()) == {0, 1, 2}
    assert sorted(fold[:7].tolist()) == [0, 0, 1, 1, 2, 3, 4]
    assert torch.equal(fold, fold_numbers(targets))
    assert not torch.equal(fold, fold_numbers(targets, seed=1))


def test_a_group_is_judged_by_one_fold():
    targets = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    fold = fold_numbers(targets, ["a", "a", "b", "", "c", "c", "c", "c"])
    assert fold[0] == fold[1]
    assert len({fold[0].item(), fold[2].item(), fold[3].item()}) == 3
    assert fold[4:].tolist() == [-1] * 4  # nothing else to learn the label from


def test_held_out_logits_are_in_the_order_of_the_examples():
    targets = torch.tensor([0, 1, 0, 1, 2])
    fold = fold_numbers(targets)

    def logits_of(seen, out):
        assert not bool((seen & out).any())
        return out.nonzero().double().expand(-1, 3)

    found, judged = held_out_logits(targets, fold, logits_of)
    assert judged.tolist() == [True] * 4 + [False]
    assert found[:, 0].tolist() == [0, 1, 2, 3]


def test_a_fold_that_leaves_one_label_judges_nothing():
    targets = torch.tensor([0, 0, 1])
    found, judged = held_out_logits(targets, torch.tensor([0, 1, 0]), lambda seen, out: torch.zeros(1, 2))
    assert judged.tolist() == [False, True, False]
    assert found.shape == (1, 2)
