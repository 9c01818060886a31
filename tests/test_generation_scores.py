"""Scores as sacrebleu gives them, and the paired bootstrap."""

import importlib.util
import io
import json
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from metaglot.errors import DataError, MissingExtraError, SettingsError
from metaglot.generation.scores import METRICS, compare, compare_languages, score

sacrebleu = pytest.importorskip("sacrebleu")

WORDS = ["the", "a", "cat", "dog", "house", "sees", "walks", "to", "near", "old", "young", "water", "book"]


def sentences(n, seed=0):
    draws = np.random.default_rng(seed)
    return [" ".join(draws.choice(WORDS, size=draws.integers(4, 12))) + "." for _ in range(n)]


def spoilt(texts, share, seed=0):
    """Texts with a share of their words replaced."""
    draws = np.random.default_rng((7, seed))
    return [
        " ".join(str(draws.choice(WORDS)) if draws.random() < share else w for w in t.split()) for t in texts
    ]


REFERENCES = sentences(80)
GOOD, BAD = spoilt(REFERENCES, 0.2, 1), spoilt(REFERENCES, 0.5, 2)


def test_values_and_signatures_are_sacrebleus():
    found = {one.name: one for one in score(GOOD, REFERENCES, ("chrf++", "chrf", "bleu"))}
    expected = {
        "chrf++": sacrebleu.corpus_chrf(GOOD, [REFERENCES], word_order=2).score,
        "chrf": sacrebleu.corpus_chrf(GOOD, [REFERENCES]).score,
        "bleu": sacrebleu.corpus_bleu(GOOD, [REFERENCES]).score,
    }
    assert {name: one.value for name, one in found.items()} == expected
    version = f"version:{sacrebleu.__version__}"
    assert found["chrf++"].signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|{version}"
    assert found["bleu"].signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"


def test_what_is_said_right_has_100_and_what_shares_nothing_0():
    assert [one.value for one in score(REFERENCES, REFERENCES)] == pytest.approx([100, 100])
    assert [one.value for one in score(["zzz"], ["aaa bbb"])] == [0, 0]
    assert [one.value for one in score([""], ["aaa bbb"])] == [0, 0]


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("", "13a"),
        ("swh", "13a"),
        ("zho_Hans", "zh"),
        ("yue", "zh"),
        ("tha", "char"),
        ("khm", "char"),
        ("mya", "char"),
        ("lo", "char"),
        ("kor", "13a"),
        ("@home", "13a"),
    ],
)
def test_bleu_has_the_tokenizer_of_the_language(language, tokenizer):
    (found,) = score(["ab cd ef gh"], ["ab cd ef gh"], ["bleu"], language=language)
    assert f"tok:{tokenizer}|" in found.signature


@pytest.mark.parametrize("there", [True, False])
def test_japanese_is_parted_by_mecab_where_it_is_there(there, monkeypatch):
    from metaglot.generation.scores import _tokenizer

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if there else None)
    assert _tokenizer("jpn") == ("ja-mecab" if there else "char")


def test_thai_without_spaces_is_not_one_word():
    draft, reference = ["ฉันชอบอ่านหนังสือมาก"], ["ฉันชอบอ่านหนังสือ"]
    (by_word,) = score(draft, reference, ["bleu"])
    (by_character,) = score(draft, reference, ["bleu"], language="tha")
    assert by_word.value == 0 < by_character.value


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_system_twice_has_no_difference(metric):
    found = compare(GOOD, GOOD, REFERENCES, metric, samples=100)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_a_better_system_is_seen_from_either_side(metric):
    found = compare(GOOD, BAD, REFERENCES, metric, samples=300)
    assert found.first == score(GOOD, REFERENCES, [metric])[0].value
    assert found.second == score(BAD, REFERENCES, [metric])[0].value
    assert found.difference == found.first - found.second
    assert 0 < found.low < found.difference < found.high
    assert found.p == pytest.approx(1 / 301)
    back = compare(BAD, GOOD, REFERENCES, metric, samples=300)
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-found.difference, -found.high, -found.low)
    )
    assert back.p == found.p


def test_systems_that_are_equally_good_have_an_interval_with_zero_in_it_and_no_small_p():
    ps = []
    for seed in range(12):
        references = sentences(60, seed)
        first, second = spoilt(references, 0.3, 2 * seed), spoilt(references, 0.3, 2 * seed + 1)
        found = compare(first, second, references, samples=200, seed=seed)
        ps.append(found.p)
    assert sum(p < 0.05 for p in ps) <= 2
    assert max(ps) > 0.5


def test_the_interval_is_as_wide_as_the_difference_scatters_over_fresh_sentences():
    differences = []
    for seed in range(30):
        references = sentences(80, 100 + seed)
        first, second = spoilt(references, 0.2, seed), spoilt(references, 0.3, 50 + seed)
        differences.append(compare(first, second, references, samples=1).difference)
    found = compare(spoilt(REFERENCES, 0.2, 3), spoilt(REFERENCES, 0.3, 4), REFERENCES, samples=500)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(differences), rel=0.4)
    assert found.low < np.mean(differences) < found.high


def test_resamples_give_what_rescored_texts_give():
    from metaglot.space import generator

    rows = generator(3, "bootstrap", "").integers(80, size=(2, 80))
    for metric in ("chrf++", "bleu"):
        rescored = [
            score([GOOD[i] for i in row], [REFERENCES[i] for i in row], [metric])[0].value
            - score([BAD[i] for i in row], [REFERENCES[i] for i in row], [metric])[0].value
            for row in rows
        ]
        found = compare(GOOD, BAD, REFERENCES, metric, samples=2, seed=3)
        assert (found.low, found.high) == pytest.approx(np.quantile(rescored, (0.025, 0.975)), abs=1e-9)


def test_a_seed_gives_the_same_again_and_another_others():
    same = [compare(GOOD, BAD, REFERENCES, samples=50, seed=seed) for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_resamples_in_pieces_are_those_in_one(monkeypatch):
    from metaglot.generation import scores

    whole = compare(GOOD, BAD, REFERENCES, samples=50)
    monkeypatch.setattr(scores, "_CHUNK", 7 * 80)
    assert compare(GOOD, BAD, REFERENCES, samples=50) == whole


def languages(n=5):
    found = {}
    for i in range(n):
        references = sentences(40, i)
        found[f"l{i}"] = (spoilt(references, 0.2, i), spoilt(references, 0.25 + 0.1 * i, 9 + i), references)
    return found


def test_several_languages_are_compared_in_the_mean_of_corpus_scores():
    systems = languages()
    found = compare_languages(systems, samples=300)
    assert list(found.by_language) == list(systems)
    parts = found.by_language.values()
    assert found.mean.first == pytest.approx(np.mean([part.first for part in parts]))
    assert found.mean.difference == pytest.approx(np.mean([part.difference for part in parts]))
    # Of five independent differences the mean scatters less than each.
    widths = [part.high - part.low for part in parts]
    expected = np.sqrt(np.sum(np.square(widths))) / len(widths)
    assert found.mean.high - found.mean.low == pytest.approx(expected, rel=0.15)
    alone = compare_languages({"l2": systems["l2"]}, samples=300)
    assert alone.by_language["l2"] == found.by_language["l2"] == alone.mean


def test_resampled_languages_widen_the_interval_where_languages_differ():
    systems = languages()
    within = compare_languages(systems, samples=300)
    across = compare_languages(systems, samples=300, resample_languages=True)
    assert across.by_language == within.by_language
    assert across.mean.difference == within.mean.difference
    assert across.mean.high - across.mean.low > 1.5 * (within.mean.high - within.mean.low)


def test_every_language_has_its_own_tokenizer():
    thai = (["ฉันชอบอ่านหนังสือ"] * 2, ["ฉันชอบ"] * 2, ["ฉันชอบอ่านหนังสือมาก"] * 2)
    found = compare_languages({"a": thai, "b": thai}, "bleu", language={"b": "tha"}, samples=5)
    assert found.by_language["a"].first == 0 < found.by_language["b"].first


def test_it_is_quick():
    systems = {
        f"l{i}": (spoilt(r, 0.2, i), spoilt(r, 0.3, i), r) for i, r in enumerate(map(sentences, [300] * 6))
    }
    begun = time.process_time()
    compare_languages(systems, samples=1000)
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("drafts", "references", "said"),
    [
        ([], [], "at least one"),
        (["a"], ["a", "b"], "1 drafts and 2 references"),
        (["a", None], ["a", "b"], "NoneType at place 1"),
        ("a", ["a"], "a single text"),
    ],
)
def test_bad_input_is_named(drafts, references, said):
    with pytest.raises(DataError, match=said):
        score(drafts, references)
    with pytest.raises(DataError, match=said):
        compare(drafts, drafts, references)


def test_the_language_of_bad_input_is_named():
    with pytest.raises(DataError, match="'swh'"):
        compare_languages({"swh": (["a"], [], ["a"])})
    with pytest.raises(DataError, match="at least one language"):
        compare_languages({})


def test_options_are_checked():
    with pytest.raises(SettingsError, match=r"Did you mean 'chrf\+\+'"):
        score(["a"], ["a"], ["chrf+++"])
    with pytest.raises(SettingsError, match="at least 1 resample"):
        compare(["a"], ["a"], ["a"], samples=0)


def test_without_sacrebleu_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingExtraError, match=r"metaglot\[translate\]"):
        score(["a"], ["a"])


def shown(*what):
    file = io.StringIO()
    Console(file=file, width=110).print(*what)
    return file.getvalue()


def test_results_can_be_shown_and_stored():
    scores = score(GOOD, REFERENCES)
    assert f"chrF++ {scores[0].value:.1f}" in shown(*scores)
    assert scores[0].signature in shown(*scores)
    found = compare_languages(languages(2), "bleu", samples=20)
    text = shown(found)
    assert "BLEU" in text and "l0" in text and "mean" in text and f"{found.mean.difference:+.1f}" in text
    assert f"{found.mean.low:+.1f} to {found.mean.high:+.1f}" in shown(found.mean)
    stored = json.loads(json.dumps(found.as_dict()))
    assert stored["by_language"]["l1"]["p"] == found.by_language["l1"].p
    assert json.loads(json.dumps(scores[1].as_dict()))["name"] == "bleu"
