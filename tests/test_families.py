"""Families and branches: the table, and codes of every form."""

import re
from importlib import resources

import pytest
from langcodes import Language
from langcodes.data_dicts import NORMALIZED_MACROLANGUAGES
from language_data.population_data import LANGUAGE_SPEAKING_POPULATION

from metaglot.families import branch, family
from metaglot.languages import custom_language, parse_language

# Facts that every handbook agrees on.
KIN = {
    ("Indo-European", "Germanic"): "eng deu nld afr swe dan nob nno isl fao fry ltz ydd gsw nds",
    ("Indo-European", "Romance"): "fra spa por ita ron cat glg oci ast scn vec hat pap kea lat",
    ("Indo-European", "Slavic"): "rus ukr bel pol ces slk slv hrv srp bos bul mkd hsb dsb orv",
    ("Indo-European", "Baltic"): "lit lvs ltg prg",
    ("Indo-European", "Celtic"): "cym bre gle gla glv cor",
    ("Indo-European", "Indic"): "hin urd ben asm mar guj pan npi sin san snd kas ory bho mai rmy",
    ("Indo-European", "Iranian"): "pes prs tgk pbt ckb kmr oss diq",
    ("Indo-European", "Greek"): "ell grc",
    ("Indo-European", "Armenian"): "hye",
    ("Indo-European", "Albanian"): "als sqi",
    ("Atlantic-Congo", "Bantu"): "swh zul xho sna nya kin run lug lin kon bem tsn sot nso ssw tso kik umb",
    ("Atlantic-Congo", "Igboid"): "ibo",
    ("Atlantic-Congo", "Gbe"): "ewe fon",
    ("Atlantic-Congo", "Wolof"): "wol",
    ("Mande", "Western Mande"): "bam dyu nqo",
    ("Nilotic", "Western Nilotic"): "luo nus dik ach",
    ("Afro-Asiatic", "Semitic"): "arb arz ary heb amh tir mlt aii",
    ("Afro-Asiatic", "Berber"): "kab tzm taq shi",
    ("Afro-Asiatic", "Lowland East Cushitic"): "som gaz orm",
    ("Afro-Asiatic", "West Chadic"): "hau",
    ("Turkic", "Turkic"): "tur azj azb kaz kir uzn uig tat bak tuk chv sah crh",
    ("Uralic", "Finnic"): "fin est ekk",
    ("Uralic", "Ugric"): "hun",
    ("Dravidian", "Dravidian"): "tam tel kan mal tcy",
    ("Sino-Tibetan", "Chinese"): "zho cmn yue wuu",
    ("Sino-Tibetan", "Burmese-Lolo"): "mya",
    ("Tai-Kadai", "Kam-Tai"): "tha lao shn",
    ("Austroasiatic", "Vietic"): "vie",
    ("Austroasiatic", "Khmer"): "khm",
    ("Austronesian", "Malayo-Sumbawan"): "ind zsm min sun ban ace",
    ("Austronesian", "Greater Central Philippine"): "tgl fil ceb hil war",
    ("Austronesian", "Oceanic"): "mri smo fij ton",
    ("Mongolic-Khitan", "Mongolic"): "khk mon",
    ("Kartvelian", "Kartvelian"): "kat",
    ("Basque", "Basque"): "eus",
    ("Japonic", "Japanese"): "jpn",
    ("Koreanic", "Korean"): "kor",
}


@pytest.mark.parametrize("place", KIN, ids=lambda place: place[1])
def test_languages_are_where_handbooks_have_them(place):
    assert {code: (family(code), branch(code)) for code in KIN[place].split()} == dict.fromkeys(
        KIN[place].split(), place
    )


@pytest.mark.parametrize(
    ("written", "same"),
    [("zho_Hans", "zho"), ("uzn_Arab", "uzn"), ("por_BR", "por"), ("zho_Hant_TW", "zho"), ("spa_419", "spa")],
)
def test_a_script_or_region_changes_no_family(written, same):
    assert (family(written), branch(written)) == (family(same), branch(same)) != (None, None)


@pytest.mark.parametrize("text", sorted(set(NORMALIZED_MACROLANGUAGES.values()) | {"no", "sh"}))
def test_a_macrolanguage_is_of_the_branch_of_its_languages(text):
    code = Language.get(text).to_alpha3()
    own = family(code), branch(code)
    assert None not in own
    assert own == (family(parse_language(text)), branch(parse_language(text)))


def test_a_creole_is_kin_of_the_language_of_its_words():
    assert (branch("hat"), branch("pcm"), branch("tpi")) == ("Romance", "Germanic", "Germanic")


@pytest.mark.parametrize("code", ["", "qqq", "en", "ENG", "zha-village", "swh-", "zho_hans", "Deutsch", "\0"])
def test_what_is_no_known_code_has_no_family(code):
    assert family(code) is branch(code) is None


def test_custom_codes_have_no_family():
    assert branch(custom_language("Zha (my village)")) is None


def test_every_language_with_a_million_speakers_has_a_family():
    big = {tag.split("-")[0] for tag, n in LANGUAGE_SPEAKING_POPULATION.items() if n > 1_000_000} - {"und"}
    assert len(big) > 300
    assert [code for code in map(parse_language, sorted(big)) if branch(code) is None] == []


def test_sign_languages_pidgins_and_the_like_are_of_no_family():
    assert [family(code) for code in ("ase", "bfi", "zxx", "mis", "und")] == [None] * 5


def test_the_table_has_every_code_once_and_says_where_it_is_from():
    lines = _lines()
    codes = [code for _, _, listed in lines for code in listed.split()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch("[a-z]{3}", code) for code in codes)
    assert lines == sorted(lines)
    head = resources.files("metaglot").joinpath("families.tsv").read_text("utf-8").split("\nAbinomn")[0]
    assert head.count("CC BY 4.0") == 2


def test_a_branch_is_of_one_family():
    families = {}
    for above, name, _ in _lines():
        families.setdefault(name, set()).add(above)
    assert {name: found for name, found in families.items() if len(found) > 1} == {}


def _lines():
    text = resources.files("metaglot").joinpath("families.tsv").read_text("utf-8")
    return [tuple(line.split("\t")) for line in text.splitlines() if not line.startswith("#")]
