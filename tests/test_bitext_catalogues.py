"""Django's catalogues: a parallel corpus of an application's texts."""

from collections import defaultdict

import pytest

pytest.importorskip("django")
pytest.importorskip("polib")

from metaglot.bitext import catalogues
from metaglot.bitext.catalogues import load, locales
from metaglot.bitext.placeholders import find, kept
from metaglot.errors import DataError, LanguageError, MissingExtraError


@pytest.fixture(scope="module")
def corpus():
    return load(languages=["ru", "Swahili", "ja", "sr_Latn", "pt_BR"])


def test_it_has_nearly_a_hundred_languages_and_no_english():
    codes = locales()
    assert len(codes) > 90
    assert {"swh", "por", "por_BR", "srp", "srp_Latn", "zho_Hans", "zho_Hant", "amh"} <= set(codes)
    assert not any(code.startswith("eng") for code in codes)


def test_its_pairs_are_from_english(corpus):
    assert corpus.languages == ("eng", "jpn", "por_BR", "rus", "srp_Latn", "swh")
    assert corpus.pivot == "eng"
    assert corpus.parallel
    assert "BSD" in corpus.licence
    assert len(corpus.select("rus")) > 800
    assert all(pair.source.strip() and pair.target.strip() for pair in corpus.pairs)


def test_one_message_has_one_id_and_one_split_in_all_languages(corpus):
    sources, splits, groups = defaultdict(set), defaultdict(set), defaultdict(set)
    for pair in corpus.pairs:
        sources[pair.id].add(pair.source)
        splits[pair.id].add(pair.split)
        groups[pair.group].add(pair.split)
    assert all(len(each) == 1 for each in splits.values())
    assert all(len(each) == 1 for each in groups.values())
    # Only what 1 and what other numbers are said by differs, and only for languages that say 21 as 1.
    assert all(len(each) == 1 or id_.endswith("/one") for id_, each in sources.items())
    shares = [sum(split == {s} for split in splits.values()) / len(splits) for s in ("train", "dev", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.04)


def test_ids_stand_once_in_a_language(corpus):
    for code in corpus.languages[1:]:
        ids = [pair.id for pair in corpus.select(code)]
        assert len(ids) == len(set(ids))


def test_plural_forms_are_those_for_one_and_for_most(corpus):
    forms = {
        (pair.target_language, pair.id.partition("/")[2]): pair
        for pair in corpus.pairs
        if pair.source in {"%(num)d hour", "%(num)d hours"} and "past" not in pair.note
    }
    assert forms["rus", "one"].source == "%(num)d hour"
    assert "1, 21, 31" in forms["rus", "one"].note
    assert forms["rus", "other"].source == "%(num)d hours"
    assert "form 3 of 4, for 0, 5, 6, 7 …" in forms["rus", "other"].note
    assert ("jpn", "one") not in forms
    assert forms["jpn", "other"].source == "%(num)d hours"


def test_translators_have_kept_nearly_all_placeholders(corpus):
    with_some = [p for p in corpus.pairs if any(kind != "space" for _, kind in find(p.source))]
    assert len(with_some) > 500
    assert sum(kept(p.source, p.target) for p in with_some) / len(with_some) > 0.98


def test_another_seed_splits_otherwise(corpus):
    other = load(languages=["swh"], seed=1)
    assert {p.id: p.split for p in other.pairs} != {p.id: p.split for p in corpus.select("swh")}
    assert load(languages=["swh"]).fingerprint == corpus.restrict(["swh"]).fingerprint


def test_a_language_that_it_lacks_is_told():
    with pytest.raises(LanguageError, match=r"expected a language of Django's catalogues .* found 'Yoruba'"):
        load(languages=["Yoruba"])


def test_django_is_asked_for(monkeypatch):
    monkeypatch.setattr(catalogues.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"metaglot\[translate\]"):
        load()


def test_a_django_without_catalogues_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogues, "_root", lambda: tmp_path)
    with pytest.raises(DataError, match="found none"):
        load()
