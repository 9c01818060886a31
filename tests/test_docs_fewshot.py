"""What the results page says of the public corpora is in the result files."""

from functools import cache

import pytest
from benchmarks.fewshot import tables

FEW = (1, 2, 4, 8, 16, 32)


@cache
def report(corpus):
    (results,) = tables.load(tables.RESULTS)[corpus].values()
    return results.report()


@cache
def mean(corpus, method, k):
    return report(corpus).mean(method, k)


@cache
def best_baseline(corpus, k):
    found = [mean(corpus, m, k) for m in report(corpus).baselines]
    return max(value for value in found if value is not None)


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


def test_auto_is_within_half_a_point_of_the_best_baseline_everywhere():
    corpora = (*INTENTS, "masakhanews", "sib200")
    assert all(lead(corpus, k) > -0.5 for corpus in corpora for k in (0, *FEW))

    def behind(name):
        return 100 * max(
            best_baseline(corpus, k) - mean(corpus, name, k)
            for corpus in corpora
            for k in FEW
            if mean(corpus, name, k) is not None
        )

    assert 1.5 < behind("joint-fine-tuned") < 2 and 4.5 < behind("joint") < 5.5
    others = {name for c in corpora for name in report(c).baselines} - {"joint-fine-tuned", "joint"}
    assert all(behind(name) > 12 for name in others)


def test_on_single_sentences_auto_and_joint_are_level():
    gaps = [100 * (mean("sib200", "auto", k) - mean("sib200", "joint", k)) for k in FEW]
    assert all(abs(gap) < 0.34 for gap in gaps) and min(gaps) < 0 < max(gaps)
    assert all(mean("sib200", "joint", k) == best_baseline("sib200", k) for k in FEW)


def gain(corpus, k):
    """Of `auto` over zero-shot, in points."""
    return 100 * (mean(corpus, "auto", k) - mean(corpus, "zero-shot", k))


def test_tokens_gain_from_sentences_and_most_by_what_was_learned():
    assert 14.5 < gain("ud-pos", 10) < 16
    assert all(0.35 < lead("ud-pos", k) < 1.3 for k in (5, 10, 20)) and abs(lead("ud-pos", 50)) < 0.15
    assert 0.5 < 100 * (mean("ud-pos", "auto", 10) - mean("ud-pos", "joint-fine-tuned", 10)) < 1.5
    assert 2.5 < 100 * (mean("ud-pos", "auto", 10) - mean("ud-pos", "joint", 10)) < 3.5
    assert len(report("ud-pos").languages) == 16


def by_language(corpus, method, k):
    found = report(corpus).values(method, k)
    return {code: 100 * float(found[i].mean()) for i, code in enumerate(report(corpus).languages)}


def test_of_slots_only_auto_is_above_zero_shot_at_ten_sentences():
    corpus = "injongo-slots"
    assert gain(corpus, 10) > 1 and lead(corpus, 10) > 1 and gain(corpus, 50) > gain(corpus, 10)
    others = [*report(corpus).baselines, "ridge"]
    assert all(mean(corpus, m, 10) <= mean(corpus, "zero-shot", 10) for m in others)


def test_of_names_zero_shot_is_hard_to_beat():
    assert -1.5 < gain("uner", 10) < 0 and gain("uner", 50) > 1
    none, ten = by_language("uner", "zero-shot", 0), by_language("uner", "auto", 10)
    gains = {code for code in none if ten[code] > none[code]}
    assert gains == {"ceb", "zho"} and none["fil"] == 100


def test_inference_relations_and_meanings():
    assert len(report("afrixnli").languages) == 15 and 0.51 < mean("afrixnli", "auto", 0) < 0.525
    assert -2 < gain("afrixnli", 1) < gain("afrixnli", 8) < 0
    assert 0.4 < gain("afrixnli", 32) < 0.7
    assert best_baseline("afrixnli", 32) < mean("afrixnli", "zero-shot", 32) + 0.001
    assert 1.5 < gain("relx", 1) < 2.5 and -1 < gain("relx", 5) < 0


def test_meanings_are_mostly_there_without_an_example():
    assert len(report("mtop").languages) == 6
    none, fifty = by_language("mtop", "zero-shot", 0), by_language("mtop", "auto", 50)
    assert 49 < none["eng"] < 52 and all(23 < none[code] < 27 for code in ("hin", "tha"))
    gains = {code: fifty[code] - none[code] for code in none}
    assert 5.5 < gains["hin"] < 6.5 and all(1 < gains[code] < 2.5 for code in ("eng", "tha"))
    assert all(abs(gains[code]) < 0.5 for code in ("deu", "fra", "spa"))
    others = [m for m in report("mtop").baselines if m != "zero-shot"]
    assert max(mean("mtop", m, 50) for m in others) < 0.5 * mean("mtop", "zero-shot", 50)


def test_intents_and_slots_together():
    corpus = "home-assistant-frames"
    assert 0.31 < mean(corpus, "zero-shot", 0) < 0.34 and 0.42 < mean(corpus, "auto", 50) < 0.43
    assert 9.5 < 100 * (mean(corpus, "auto", 50) - mean(corpus, "joint", 50)) < 10.5
    assert 0 <= gain(corpus, 5) < 0.7


def test_setfit_of_one_example_for_each_intent():
    (results,) = tables.load(tables.RESULTS)["home-assistant"].values()
    rows = results.partial["setfit"]
    assert len(rows) == 6 and all(row["steps"] == row["planned"] for row in rows)
    assert sum(row["accuracy"]["1"][0] for row in rows) / 6 == pytest.approx(0.45, abs=0.005)
    assert all(120 < row["seconds"]["1"][0] < 330 for row in rows)
