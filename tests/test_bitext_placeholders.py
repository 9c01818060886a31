"""What a program fills in survives hiding, and no draft passes that has not kept it."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metaglot.bitext.placeholders import faults, find, hide, kept, restore

PIECES = [
    "%s", "%d", "%(name)s", "%1$s", "%5.2f", "%%", "{}", "{0}", "{name!r:>{width}}", "{{ user }}", "${home}",
    "{% if x %}", "%{count}", "<b>", "</b>", '<a href="%(url)s">', "<br/>", "&nbsp;", "&#x27;",
    "https://example.org/a?b=%s", "\n", "  ", "\t", "⟨", "⟩", "⟨0⟩", "⟨12⟩", "%", "{", "}", "<", "&", "word",
]  # fmt: skip
texts = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3))).map("".join))


@given(texts)
@example("⟨%s⟩")
@example("⟨1%s⟩")
@example("⟨%(a)s0⟩ ⟨99999999999999999999⟩")
def test_what_is_hidden_comes_back(text):
    hidden = hide(text)
    assert restore(hidden.text, hidden.slots) == text
    assert not faults(text, text)


@given(texts, texts)
def test_a_translation_is_hidden_by_the_slots_of_its_source(source, target):
    slots = hide(source).slots
    hidden = hide(target, slots)
    assert hidden.slots[: len(slots)] == slots
    assert restore(hidden.text, hidden.slots) == target


@given(texts, st.integers(0, 30))
def test_a_lost_placeholder_is_a_fault(text, which):
    fixed = [found for found, kind in find(text) if kind != "space"]
    if fixed:
        lost = fixed[which % len(fixed)]
        assert not kept(text, text.replace(lost, "x"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%(count)d of %(all)d", ["%(count)d", "%(all)d"]),
        ("100% of 50 %", []),
        ("50%% of %s", ["%%", "%s"]),
        ("%-5.2f|%+d|%*d|%lu|%1$s", ["%-5.2f", "%+d", "%*d", "%lu", "%1$s"]),
        ("{} {0} {a.b[0]!r:>{w}} {not one}", ["{}", "{0}", "{a.b[0]!r:>{w}}"]),
        ("{{ user.name }} {% url 'x' %} ${a} %{b}", ["{{ user.name }}", "{% url 'x' %}", "${a}", "%{b}"]),
        ('<a href="%(u)s">here</a><br />', ['<a href="%(u)s">', "</a>", "<br />"]),
        ("a < b and c > d", []),
        ("&lt;&#39;&amp; AT&T; R&D", ["&lt;", "&#39;", "&amp;"]),
        ("See https://a.org/b?c=%s.", ["https://a.org/b?c=%s"]),
        ("“https://”, 见https://a.org/b。", ["https://a.org/b"]),
        (" two\n lines\n", [" ", "\n ", "\n"]),
    ],
)
def test_what_is_a_placeholder(text, found):
    assert [each for each, _ in find(text)] == found


def test_slots_are_the_same_in_both_languages():
    source = hide("%(one)s of %(two)s")
    assert source.text == "⟨0⟩ of ⟨1⟩"
    assert hide("%(two)s: %(one)s", source.slots).text == "⟨1⟩: ⟨0⟩"
    assert hide("%(two)s %(new)s", source.slots).text == "⟨1⟩ ⟨2⟩"
    assert restore("⟨1⟩ ⟨7⟩", source.slots) == "%(two)s ⟨7⟩"


@pytest.mark.parametrize(
    ("source", "draft", "fault"),
    [
        ("%(a)s", "a", "'%(a)s' is missing"),
        ("%(a)s", "%(b)s", "'%(b)s' is not in the source"),
        ("%s of %d", "%d von %s", "order of '%s', '%d'"),
        ("{} of {:d}", "{:d} von {}", "order of"),
        ("One\n", "Eins", "ends with ''"),
        ("One", " Eins", "begins with ' '"),
        ("%d sure", "%d zu 100 % sicher", "a '%' which is no placeholder"),
        ("{} a", "{} { a", "a '{' which is no placeholder"),
        ("<b>x</b>", "<b>x<b>", "'</b>' is missing"),
        ("a", "⟨0⟩", "'⟨0⟩' is not in the source"),
    ],
)
def test_faults_are_named(source, draft, fault):
    assert any(fault in found for found in faults(source, draft)), faults(source, draft)


@pytest.mark.parametrize(
    ("source", "draft"),
    [
        ("%(a)s of %(b)s", "%(b)s %(a)s"),
        ("%1$s of %2$d", "%2$d von %1$s"),
        ("{0} of {1}", "{1} von {0}"),
        ("one\ntwo", "eins zwei"),
        ("100% sure", "zu 100 % sicher"),
        ("", ""),
    ],
)
def test_what_may_change_is_no_fault(source, draft):
    assert kept(source, draft)


@pytest.mark.parametrize(
    "piece", ["{", "{%", "<a ", "%(", "&a", "http://", "<!--", "⟨1", " ", "\n ", "{a{b}"]
)
def test_hiding_takes_time_in_proportion_to_the_text(piece):
    start = time.process_time()
    hide("x" + piece * 50_000 + "x")
    assert time.process_time() - start < 5
