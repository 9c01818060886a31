"""The snippets of the page on translation's data run, and it says what the code says."""

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("django")
pytest.importorskip("polib")

from metaglot.bitext import BITEXTS
from metaglot.bitext.columns import USUAL
from metaglot.bitext.files import TABLES
from metaglot.bitext.filters import Filters

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "translation-data.md").read_text(encoding="utf-8")


def test_the_built_in_corpus(capsys):
    left = runpy.run_path(str(ROOT / "docs_src" / "bitext.py"))
    printed = capsys.readouterr().out
    assert f"{left['report'].after:,} of {left['report'].before:,} pairs are left" in printed
    assert printed.count("→") == 2
    assert left["bitext"].languages == ("eng", "ind", "swh", "tur")


def test_filling_a_catalogue(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("sw.po").write_text(
        '#, python-format\nmsgid "Hello, %(name)s"\nmsgstr ""\n\nmsgid "%d of %d"\nmsgstr ""\n',
        encoding="utf-8",
    )
    runpy.run_path(str(ROOT / "docs_src" / "fill_catalogue.py"))
    printed = capsys.readouterr().out
    assert "1 of 2 gaps filled" in printed
    assert "'%d' is missing" in printed
    assert Path("sw.po").read_text(encoding="utf-8") == (
        '#, fuzzy, python-format\nmsgid "Hello, %(name)s"\nmsgstr "Habari, %(name)s"\n\n'
        'msgid "%d of %d"\nmsgstr ""\n'
    )


def test_the_page_names_all_that_there_is():
    for name in (*BITEXTS, *TABLES, *Filters.__dataclass_fields__, *(f for f in USUAL if f != "split")):
        assert re.search(rf"`{re.escape(name)}[`:]", PAGE), name
