"""One code for one language, whatever its users write."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metaglot.errors import LanguageError
from metaglot.languages import custom_language, language_name, parse_language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("swh", "swh"),
        ("sw", "swh"),
        ("swahili", "swh"),
        ("Kiswahili", "swh"),
        ("sw-KE", "swh"),
        ("sw_KE", "swh"),
        (" SWA ", "swh"),
        ("pt_BR", "por"),
        ("Deutsch", "deu"),
        ("iw", "heb"),
        ("yor_Latn", "yor"),
        ("zho_Hans", "zho_Hans"),
        ("zh-Hans-CN", "zho_Hans"),
        ("zh-TW", "zho_Hant"),
        ("cmn_Hans", "zho_Hans"),
        ("zh", "zho"),
        ("cmn", "zho"),
        ("et", "est"),
        ("ekk", "est"),
        ("sr-Latn", "srp_Latn"),
        ("uzn_Arab", "uzn_Arab"),
        ("uz", "uzn"),
        ("ar", "arb"),
        ("ary", "ary"),
        ("pcm", "pcm"),
        ("af_Afrikaans-AfriBooms", "afr"),
        ("prs", "prs"),
        ("pes", "pes"),
        ("fa", "pes"),
        ("nb", "nob"),
        ("tl", "fil"),
    ],
)
def test_codes_tags_and_names_give_one_code(text, code):
    assert parse_language(text) == code
    assert parse_language(code) == code


@pytest.mark.parametrize(
    ("text", "code"), [("pt_BR", "por_BR"), ("pt-PT", "por_PT"), ("pt", "por"), ("zh-TW", "zho_Hant_TW")]
)
def test_a_region_is_kept_on_request(text, code):
    assert parse_language(text, region=True) == code
    assert parse_language(code, region=True) == code


@pytest.mark.parametrize(
    ("text", "meant"), [("swahilli", "swh"), ("Yorba", "yor"), ("und", "urd"), ("mul", "Malayalam")]
)
def test_an_unknown_language_is_an_error_that_suggests_one(text, meant):
    with pytest.raises(LanguageError, match=r"expected a language code or name") as error:
        parse_language(text)
    assert repr(text) in str(error.value)
    assert "Did you mean" in error.value.hint
    assert meant in error.value.hint


@pytest.mark.parametrize(
    "text", ["", " ", "-", "\0", "x-private", "und", "mul", "zxx", "😀", "a" * 10_000, "\ud800"]
)
def test_what_is_no_language_says_what_to_give(text):
    with pytest.raises(LanguageError) as error:
        parse_language(text)
    assert error.value.hint


@given(st.text(max_size=12) | st.from_regex(r"[a-zA-Z]{1,8}([-_][a-zA-Z0-9]{1,8}){0,3}", fullmatch=True))
@settings(max_examples=300)
@example("\x0000\x80")
def test_any_text_gives_a_stable_code_or_a_language_error(text):
    try:
        code = parse_language(text)
    except LanguageError:
        return
    assert parse_language(code) == code
    assert language_name(code)


@given(st.text(max_size=20))
def test_a_language_that_no_standard_knows_keeps_a_usable_name(text):
    code = custom_language(text)
    assert code
    assert not set(code) & set(" /\\:\n\t")
    assert custom_language(code) == code


def test_names_are_english_and_a_code_without_one_is_its_own():
    assert language_name("swh") == "Swahili"
    assert language_name("prs") != language_name("pes")
    assert language_name("my-own-language") == "my-own-language"
