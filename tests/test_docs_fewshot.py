"""What the results page says of the public corpora is in the result files."""

from functools import cache

import pytest
from benchmarks.fewshot import tables

FEW = (1, 2, 4, 8, 16, 32)


@cache
def report(corpus):
    (results,) = tables.load(tables.RESULTS)[corpus].values()
    return results.report()


def mean(corpus, method, k):
    return report(corpus).cell(method, k).mean


def best_baseline(corpus, k):
    return max(mean(corpus, m, k) for m in report(corpus).baselines if report(corpus).cell(m, k))


def lead(corpus, k):
    """Of `auto` over the best baseline, in points."""
    return 100 * (mean(corpus, "auto", k) - best_baseline(corpus, k))


INTENTS = ("injongo", "home-assistant")


def test_every_language_was_held_out():
    counts = {c: len(report(c).languages) for c in (*INTENTS, "masakhanews", "sib200")}
    assert counts == {"injongo": 16, "home-assistant": 6, "masakhanews": 16, "sib200": 205}
    assert sum(counts.values()) == 243


@pytest.mark.parametrize("corpus", INTENTS)
def test_on_intents_auto_is_ahead_at_every_k(corpus):
    assert all(lead(corpus, k) > 0 for k in FEW)
    assert 3 <= lead(corpus, 1) <= 4.5
    assert all(2 <= lead(corpus, k) <= 3.5 for k in (4, 8))
    assert lead(corpus, 32) < 1
    plain = [mean(corpus, "joint", 8) - mean(corpus, m, 8) for m in ("logistic-mteb", "prototypes")]
    assert all(0.1 < gap < 0.25 for gap in plain)


def test_on_news_the_best_three_are_level():
    assert 0.8 < mean("masakhanews", "zero-shot", 8) < 0.82
    for k in FEW[2:]:
        found = [mean("masakhanews", m, k) for m in ("auto", "mixture", "joint")]
        assert max(found) - min(found) < 0.0065
    assert all(abs(lead("masakhanews", k)) < 0.55 for k in FEW)
    assert 0.02 < mean("masakhanews", "auto", 8) - mean("masakhanews", "zero-shot", 8) < 0.03


def test_on_single_sentences_joint_wins():
    assert all(-2.6 <= lead("sib200", k) <= -1 for k in FEW)
    assert all(mean("sib200", "joint", k) == best_baseline("sib200", k) for k in FEW)
    assert all(0 < mean("sib200", "mixture", k) - mean("sib200", "auto", k) < 0.012 for k in FEW)
