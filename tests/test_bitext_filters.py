"""What is filtered out of a bitext, for what reason, and what the report says of it."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from metaglot.bitext.filters import Filters, clean
from metaglot.bitext.pairs import Bitext, SentencePair
from metaglot.bitext.scripts import scripts_in, share_in, usual_scripts
from metaglot.data.inspect import normalized
from metaglot.errors import SettingsError
from metaglot.types import SPLITS


def pair(source, target, split="train", languages=("eng", "swh"), id_="", **others):
    return SentencePair(id_ or f"{source}{target}{split}", source, target, *languages, split, **others)


def bitext(*pairs):
    return Bitext("test", tuple(pairs))


GOOD = [pair(f"This is sentence number {n}.", f"Hii ni sentensi namba {n}.") for n in "abcdefghijk"]


def reasons(*pairs, **settings):
    """Return filter → the sources of what it left out, beside pairs that are good."""
    left, report = clean(bitext(*GOOD, *pairs), Filters(**settings))
    assert report.before == len(GOOD) + len(pairs)
    assert report.after == len(left.pairs)
    return {name: [p.source for p in r.examples] for name, r in report.removed.items() if r.count}


@pytest.mark.parametrize(
    ("reason", "made"),
    [
        ("empty", pair("One day.", "  ")),
        ("identical", pair("Tanzania 2024!", "tanzania, 2024")),
        ("too long", pair("a" * 1001, "b" * 1001)),
        ("length ratio", pair("Two words and then some more.", "b " * 200)),
        ("length ratio", pair("Two words and then some more. " * 8, "b")),
        ("wrong script", pair("One day it rained.", "Однажды пошёл дождь.")),
        ("wrong script", pair("Однажды пошёл дождь.", "Siku moja mvua ilinyesha.")),
        ("duplicate", pair("This is sentence number A!", "Hii ni sentensi namba A", id_="x")),
    ],
)
def test_a_reason_each(reason, made):
    assert reasons(made) == {reason: [made.source]}


def test_a_filter_that_is_off_leaves_all():
    off = {"max_length": 0, "max_ratio": 0, "min_script": 0, "identical": False, "duplicates": False}
    made = [
        pair("Tanzania", "Tanzania"),
        pair("a" * 1001, "b" * 9000),
        pair("One day it rained.", "Однажды пошёл дождь."),
        pair("Tanzania", "Tanzania"),
        pair("This is sentence number a.", "x", split="test"),
    ]
    assert reasons(*made, **off, leaked=False) == {}
    assert reasons(pair("", "a"), **off) == {"empty": [""]}


def test_a_ratio_is_against_what_is_usual_between_two_languages():
    chinese = [
        pair(
            "This is the sentence of that number. " * 2,
            f"这是第{n}句话，就是那个号码的句子。",
            languages=("eng", "zho"),
        )
        for n in "一二三四五"
    ]
    assert clean(bitext(*chinese))[1].after == 5
    odd = pair("This is a sentence. " * 10, "字" * 200, languages=("eng", "zho"))
    assert clean(bitext(*chinese, odd), Filters(max_ratio=2.5))[1].removed["length ratio"].count == 1


def test_train_gives_way_to_dev_and_dev_to_test():
    made = [
        pair("It rains today.", "Mvua inanyesha leo.", "train"),
        pair("It RAINS today", "Leo mvua inanyesha.", "dev"),
        pair("It rains, today!", "Kunanyesha.", "test"),
        pair("The sun shines.", "Jua linawaka.", "dev"),
        pair("Sunshine.", "Jua linawaka!", "test"),
    ]
    left, report = clean(bitext(*made))
    assert [p.source for p in left.pairs] == ["It rains, today!", "Sunshine."]
    assert report.removed["leaked"].count == 3


def test_a_sentence_leaks_whatever_the_other_language():
    made = [
        pair("It rains today.", "Mvua inanyesha leo.", "train"),
        pair("It rains today.", "Il pleut aujourd’hui.", "test", ("eng", "fra")),
        pair("Il neige.", "Il neige un peu.", "train", ("fra", "oci")),
        pair("It is snowing.", "Il neige.", "test", ("eng", "fra")),
    ]
    assert clean(bitext(*made))[1].removed["leaked"].count == 2


def test_the_same_letters_in_another_language_are_no_leak():
    made = [pair("Die!", "Kufa!"), pair("The.", "Die.", "test", ("eng", "deu"))]
    assert clean(bitext(*made))[1].removed["leaked"].count == 0


def test_what_is_filtered_out_of_test_takes_nothing_from_train():
    made = [pair("It rains.", "Mvua."), pair("It rains.", "It rains.", "test")]
    assert [p.split for p in clean(bitext(*made))[0].pairs] == ["train"]


def test_one_sentence_with_two_translations_stays():
    assert (
        reasons(pair("Rain falls here.", "Mvua inanyesha."), pair("Rain falls here.", "Kunanyesha hapa."))
        == {}
    )


def test_the_report_counts_by_direction_and_shows_examples():
    made = [pair("Tanzania", "Tanzania"), pair("Kenya", "Kenya", languages=("eng", "fra"))]
    made += [pair(f"Uganda {n}", f"Uganda {n}") for n in range(5)]
    left, report = clean(bitext(*GOOD, *made))
    found = report.as_dict()
    json.dumps(found)
    assert found["removed"]["identical"]["count"] == 7
    assert found["removed"]["identical"]["by_direction"] == {"eng-swh": 6, "eng-fra": 1}
    assert len(found["removed"]["identical"]["examples"]) == 3
    assert left.notices == ("7 of 18 pairs were filtered out.",)
    console = Console(file=io.StringIO(), width=100)
    console.print(report)
    shown = console.file.getvalue()
    assert "11 of 18 pairs are left" in shown
    assert "'Tanzania' ~ 'Tanzania'" in shown
    assert "eng-swh 6, eng-fra 1" in shown


def test_a_clean_bitext_stays_as_it_is():
    left, _ = clean(bitext(*GOOD))
    assert left == bitext(*GOOD)


@pytest.mark.parametrize("settings", [{"max_length": -1}, {"max_ratio": 0.5}, {"min_script": 2}])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(SettingsError, match="found"):
        Filters(**settings)


@pytest.mark.parametrize(
    ("code", "scripts"),
    [
        ("eng", {"Latin"}),
        ("rus", {"Cyrillic"}),
        ("jpn", {"Japanese", "Han"}),
        ("kor", {"Hangul", "Han"}),
        ("zho_Hans", {"Han"}),
        ("srp_Latn", {"Latin"}),
        ("ben", {"Bengali"}),
        ("ori", {"Oriya"}),
        ("amh", {"Ethiopic"}),
        ("village", set()),
    ],
)
def test_usual_scripts(code, scripts):
    assert usual_scripts(code) == scripts


def test_a_corpus_knows_its_script_better_than_the_code():
    assert scripts_in("shi", ["Latin is what is written here"]) == {"Latin"}
    assert scripts_in("srp", ["Latin here and here", "тамо"]) == {"Latin", "Cyrillic"}
    assert scripts_in("rus", ["Django знает нас"]) == {"Cyrillic"}
    assert scripts_in("rus", []) == {"Cyrillic"}
    left, report = clean(bitext(*[pair("One day", "yat n wass", languages=("eng", "shi"))]))
    assert len(left.pairs) == 1
    assert report.as_dict()["scripts"] == {"shi": ["Latin"]}


def test_placeholders_and_short_texts_have_no_script():
    cyrillic = frozenset({"Cyrillic"})
    assert share_in("%(verbose_name)s уже есть", cyrillic) == 1
    assert share_in("OK", cyrillic) == 1
    assert share_in("Django и мы", cyrillic) == pytest.approx(3 / 9)


texts = st.text("ab Яя%s", max_size=5)


@given(st.lists(st.tuples(texts, texts, st.sampled_from(SPLITS)), max_size=12))
def test_nothing_of_test_is_left_in_train(made):
    left, report = clean(bitext(*[pair(a, b, split, id_=str(n)) for n, (a, b, split) in enumerate(made)]))
    again, second = clean(left, Filters(max_ratio=0, min_script=0))
    assert again.pairs == left.pairs
    assert second.before == second.after == report.after
    sentences = {split: set() for split in SPLITS}
    for p in left.pairs:
        sentences[p.split] |= {("eng", normalized(p.source)), ("swh", normalized(p.target))}
    assert not sentences["train"] & (sentences["dev"] | sentences["test"])
    assert not sentences["dev"] & sentences["test"]
