"""Catalogues: what is translated and what is not; drafts fill gaps, and touch nothing else."""

import difflib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("polib")

import polib

from metaglot.bitext.placeholders import faults
from metaglot.bitext.po import messages, plural_numbers, read_po
from metaglot.bitext.po_filling import fill, gaps
from metaglot.errors import DataError, MissingExtraError, SettingsError

HEADER = """# Messages of Zebra.
#
msgid ""
msgstr ""
"Content-Type: text/plain; charset={charset}\\n"
"Language: ru\\n"
"Plural-Forms: nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n"
"%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);\\n"
"""
BODY = """
#: views.py:12
#, python-format
msgid "Hello, %(name)s"
msgstr   "Привет, %(name)s"

#. A month
#: views.py:13 models.py:3
#| msgid "Mai"
msgctxt "month"
msgid "May"
msgstr ""

#, python-format
msgid "%(count)d file"
msgid_plural "%(count)d files"
msgstr[0] ""
msgstr[1] ""
msgstr[2] ""

#, fuzzy
msgid "Guess"
msgstr "Догадка"

# translated in part
msgid "%d dog"
msgid_plural "%d dogs"
msgstr[0] "%d собака"
msgstr[1] ""
msgstr[2] ""

msgid ""
"Two\\n"
"lines\\n"
msgstr ""
""

#~ msgid "Old"
#~ msgstr "Старое"
"""


@pytest.fixture
def catalogue(tmp_path):
    def write(text=HEADER + BODY, charset="utf-8", name="ru.po"):
        path = tmp_path / name
        path.write_bytes(text.replace("{charset}", charset).encode(charset))
        return path

    return write


def upper(wanted):
    """Drafts that keep every placeholder, and say which message they are for."""
    return [f"{m.source.strip()} [{m.context}{m.form if m.form is not None else ''}]" for m in wanted]


def test_gaps_are_the_entries_without_any_text(catalogue):
    found = gaps(catalogue())
    assert [(m.source, m.context, m.form) for m in found] == [
        ("May", "month", None),
        ("%(count)d file", "", 0),
        ("%(count)d files", "", 1),
        ("%(count)d files", "", 2),
        ("Two\nlines\n", "", None),
    ]
    assert found[0].comment == "A month"
    assert found[1].numbers[:3] == (1, 21, 31)
    assert found[2].note == "plural form 2 of 3, for 2, 3, 4, 22 …"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("ending", ["", "\n"])
def test_filling_changes_the_gaps_lines_and_no_others(catalogue, newline, ending):
    text = (HEADER + BODY).rstrip("\n") + ending
    path = catalogue(text.replace("\n", newline))
    before = path.read_bytes().decode().split(newline)
    report = fill(path, upper)
    after = path.read_bytes().decode().split(newline)
    assert (report.translated, report.filled, report.empty, report.partly) == (2, 3, 0, 1)
    changes = list(difflib.ndiff(before, after))
    assert [line[2:] for line in changes if line[0] == "-"] == [
        'msgstr ""',
        "#, python-format",
        'msgstr[0] ""',
        'msgstr[1] ""',
        'msgstr[2] ""',
        '""',
    ]
    assert [line[2:] for line in changes if line[0] == "+"] == [
        "#, fuzzy",
        'msgstr "May [month]"',
        "#, fuzzy, python-format",
        'msgstr[0] "%(count)d file [0]"',
        'msgstr[1] "%(count)d files [1]"',
        'msgstr[2] "%(count)d files [2]"',
        "#, fuzzy",
        '"Two\\n"',
        '"lines []\\n"',
    ]
    assert after.index("#, fuzzy") == after.index('#| msgid "Mai"') - 1
    assert gaps(path) == ()


def test_the_files_own_layout_stays_where_it_is_not_filled(catalogue):
    path = catalogue()
    before = path.read_text()
    fill(
        path,
        lambda wanted: [d if m.source == "May" else "" for m, d in zip(wanted, upper(wanted), strict=True)],
    )
    assert path.read_text() == before.replace(
        '#| msgid "Mai"\nmsgctxt "month"\nmsgid "May"\nmsgstr ""',
        '#, fuzzy\n#| msgid "Mai"\nmsgctxt "month"\nmsgid "May"\nmsgstr "May [month]"',
    )


def test_a_draft_without_its_placeholder_is_refused_and_told(catalogue):
    path = catalogue()
    before = path.read_bytes()
    report = fill(
        path, lambda wanted: [m.source if m.form == 0 else "файлы" if m.form else "" for m in wanted]
    )
    assert path.read_bytes() == before
    assert report.filled == 0
    assert [(r.draft, r.faults) for r in report.refused] == [("файлы", ("'%(count)d' is missing",))] * 2
    assert report.as_dict()["refused"][0]["message"]["line"] == 22


def test_one_form_that_is_refused_keeps_back_the_others(catalogue):
    path = catalogue()
    report = fill(
        path, lambda wanted: [m.source.replace("%(count)d", "") if m.form == 2 else m.source for m in wanted]
    )
    assert report.filled == 2
    assert len(report.refused) == 1
    assert [m.form for m in gaps(path)] == [0, 1, 2]


def test_space_at_the_ends_is_the_sources(catalogue):
    path = catalogue()
    fill(path, lambda wanted: [f"  {m.source.strip()}!" for m in wanted])
    (entry,) = [e for e in read_po(path) if e.msgid == "Two\nlines\n"]
    assert entry.msgstr == "Two\nlines!\n"


def test_an_output_of_its_own_leaves_the_file(catalogue, tmp_path):
    path = catalogue()
    before = path.read_bytes()
    report = fill(path, upper, output=tmp_path / "new" / "ru.po")
    assert path.read_bytes() == before
    assert report.path == tmp_path / "new" / "ru.po"
    assert gaps(report.path) == ()


def test_a_full_catalogue_is_not_touched_nor_anything_asked_for(catalogue):
    path = catalogue(HEADER + '\nmsgid "a"\nmsgstr "б"\n')
    before = path.stat().st_mtime_ns
    assert fill(path, lambda _: pytest.fail("asked for drafts of nothing")).filled == 0
    assert path.stat().st_mtime_ns == before


def test_a_form_beyond_the_rule_counts_for_nothing_and_stays(catalogue):
    entry = '\nmsgid "a"\nmsgid_plural "b"\nmsgstr[0] "x"\nmsgstr[1] "x"\nmsgstr[2] "x"\nmsgstr[3] "x"\n'
    path = catalogue(HEADER + entry + entry.replace('"x"', '""').replace('"a"', '"c"'))
    assert fill(path, upper).translated == 1
    first, second = read_po(path)
    assert first.msgstr_plural == dict.fromkeys(range(4), "x")
    assert second.msgstr_plural == {0: "c [0]", 1: "b [1]", 2: "b [2]"}
    path = catalogue(HEADER + entry.replace('"x"', '""', 3))
    before = path.read_bytes()
    assert fill(path, upper).partly == 1
    assert path.read_bytes() == before


def test_the_wrong_number_of_drafts_is_an_error(catalogue):
    path = catalogue()
    with pytest.raises(SettingsError, match="expected 5 drafts, one for each gap, found 1"):
        fill(path, lambda _: ["one"])


def test_another_encoding_is_kept_and_what_it_lacks_is_told(catalogue):
    path = catalogue(charset="cp1251")
    fill(path, lambda wanted: [m.source for m in wanted])
    assert "Привет".encode("cp1251") in path.read_bytes()
    path = catalogue(charset="cp1251")
    before = path.read_bytes()
    with pytest.raises(DataError, match="'ሰላ'"):
        fill(path, lambda wanted: ["ሰላ" if m.source == "May" else "" for m in wanted])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('msgid "a"\nmsgstr "b\n"x" y "z"\n', r"ru.po, line \d"),
        ("nothing of the kind\n", "ru.po, line 1: expected a gettext catalogue"),
        ('msgid "a"\nmsgid_plural "b"\nmsgstr[0] ""\nmsgstr[1] ""\n', "Plural-Forms.*found ''"),
        (
            HEADER.replace("nplurals=3", "nplurals=2") + '\nmsgid "a"\nmsgid_plural "b"\nmsgstr[0] ""\n',
            "expected a rule for 2 plural forms",
        ),
    ],
)
def test_what_is_no_catalogue_is_told_by_its_line(catalogue, text, message):
    path = catalogue(text)
    before = path.read_bytes()
    with pytest.raises(DataError, match=message):
        fill(path, upper)
    assert path.read_bytes() == before


def test_a_byte_of_another_encoding_is_told_by_its_line(catalogue):
    path = catalogue()
    path.write_bytes(path.read_bytes() + b'\nmsgid "\xff"\nmsgstr ""\n')
    with pytest.raises(DataError, match=r"ru.po, line 49: expected utf-8, found the byte 0xff"):
        gaps(path)


def test_no_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="found none"):
        gaps(tmp_path / "no.po")


def test_polib_is_asked_for(monkeypatch, catalogue):
    monkeypatch.setitem(__import__("sys").modules, "polib", None)
    with pytest.raises(MissingExtraError, match=r"metaglot\[translate\]"):
        gaps(catalogue())


@pytest.mark.parametrize("rule", ["n ==", "1/0", "n", "__import__('os')", "(" * 200 + "n" + ")" * 200, "-1"])
def test_a_rule_that_is_none_is_told(catalogue, rule):
    text = HEADER.replace(
        '"Plural-Forms: nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n"\n', ""
    ).replace(
        '"%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);\\n"', f'"Plural-Forms: nplurals=2; plural={rule};\\n"'
    )
    path = catalogue(text)
    with pytest.raises(DataError, match="plural forms"):
        plural_numbers(read_po(path), path)


def test_forms_by_the_rule(catalogue):
    def rule(header):
        path = catalogue(f'msgid ""\nmsgstr ""\n"Plural-Forms: {header}\\n"\n')
        return [numbers[:4] for numbers in plural_numbers(read_po(path), path)]

    assert rule("nplurals=1; plural=0;") == [(0, 1, 2, 3)]
    assert rule("nplurals=2; plural=n != 1") == [(1,), (0, 2, 3, 4)]
    assert rule("nplurals=2; plural=(n > 1);") == [(0, 1), (2, 3, 4, 5)]


# Any catalogue whatever, and any drafts: what is no gap stays, what is written keeps its placeholders.
texts = st.text(st.sampled_from('aб字\n\t "\\%sd{}()<>№\u2028\x85\x0c'), min_size=1, max_size=90)
entries = st.lists(
    st.tuples(
        texts,
        st.sampled_from(["", "gap", "plural gap", "obsolete", "fuzzy", "fuzzy gap"]),
        st.one_of(st.none(), texts),
        st.sampled_from(["", "python-format"]),
    ),
    max_size=6,
    unique_by=lambda entry: entry[0],
)


@settings(max_examples=150)
@given(entries, st.lists(texts, min_size=1), st.booleans())
def test_filling_any_catalogue(tmp_path_factory, made, drafts, copy):
    path = tmp_path_factory.mktemp("po") / "x.po"
    catalogue = polib.POFile(wrapwidth=40)
    catalogue.metadata = {
        "Content-Type": "text/plain; charset=utf-8",
        "Plural-Forms": "nplurals=2; plural=n>1;",
    }
    for text, state, context, flag in made:
        entry = polib.POEntry(msgid=text, msgctxt=context, flags=[f for f in [flag] if f], comment="why")
        if state == "plural gap":
            entry.msgid_plural, entry.msgstr_plural = text, {0: "", 1: ""}
        elif "gap" not in state:
            entry.msgstr = text[::-1]
        entry.obsolete = state == "obsolete"
        entry.fuzzy = "fuzzy" in state
        catalogue.append(entry)
    catalogue.save(str(path))
    before, start = read_po(path), path.read_bytes()
    again = itertools.cycle(drafts)
    report = fill(path, lambda wanted: [m.source if copy else next(again) for m in wanted])
    after = read_po(path)
    assert len(before) == len(after)
    assert (report.filled == 0) == (path.read_bytes() == start)
    filled = 0
    for old, new in zip(before, after, strict=True):
        said = [new.msgstr_plural[i] for i in sorted(new.msgstr_plural)] or [new.msgstr]
        if str(old) == str(new):
            continue
        filled += 1
        assert not old.obsolete
        assert not old.msgstr
        assert not any(old.msgstr_plural.values())
        assert new.fuzzy
        assert all(not faults(old.msgid, text) for text in said)
        assert (new.msgid, new.msgctxt, new.comment) == (old.msgid, old.msgctxt, old.comment)
    assert filled == report.filled
    if copy:
        assert not report.refused
        assert all(not m.source.strip() for m in gaps(path))
    assert [m for _, group in messages(after, path) for m in group] or not any(not e.obsolete for e in after)
