"""The benchmark of what helps against overfitting: it goes on where it was, and its table is right."""

import json

import pytest
from benchmarks.fewshot import ablations, corpora
from benchmarks.fewshot.folds import Benchmark
from benchmarks.fewshot.results import read_rows
from benchmarks.fewshot.run import Settings, run
from benchmarks.markers import ROOT

from metaglot.data import load_corpus
from village import write_corpus

PAGE = ROOT / "docs" / "overfitting.md"
QUICK = Settings(encoder="ngrams:256", methods=("auto", "protonet"), shots=(1, 2), draws=2, steps=2)


@pytest.fixture
def village(tmp_path, own_cache):
    """Four languages, two folds of two."""
    corpus = load_corpus(write_corpus(tmp_path / "village.csv"), parallel=False)
    return Benchmark(corpus, corpora.leave_some_out(corpus.languages, 2, "village"))


def test_it_judges_what_is_missing_and_as_the_grid_does(village, tmp_path):
    out = tmp_path / "ablations.jsonl"
    some = [ablations.PLAIN, "mixup 0.5", "`noise` on support", "`case` on sources"]
    ablations.measure(village, QUICK, some[:3], 6, out)
    ablations.measure(village, QUICK, some, 6, out)
    rows = read_rows([out])
    assert len(rows) == 4 * 2 * 2
    assert {row["method"] for row in rows} == {f"{x}, {name}" for x in QUICK.methods for name in some}
    by_method = {(row["method"], row["language"]): row for row in rows}
    for language in village.folds[0].held_out:
        assert by_method["auto, the default", language]["examples"] == {"1": 4, "2": 8}
        assert by_method["auto, `noise` on support", language]["examples"] == {"1": 8, "2": 16}
    # Without a cap and copies it is the grid's own number.
    run(village, QUICK, tmp_path / "grid.jsonl")
    for row in read_rows([tmp_path / "grid.jsonl"]):
        if row["fold"] == village.folds[0].name:
            ours = by_method[f"{row['method']}, the default", row["language"]]
            assert ours["accuracy"] == row["accuracy"]
    before = out.read_text(encoding="utf-8")
    ablations.measure(village, QUICK, some, 6, out)
    after = [json.loads(line) for line in out.read_text(encoding="utf-8")[len(before) :].splitlines()]
    assert [list(line) for line in after] == [["run"]]


def test_sources_have_so_many_examples_of_a_label_and_the_others_all(village):
    corpus = ablations.capped(village.corpus, village.folds[0].sources, 2)
    for code in corpus.languages:
        per_label = 2 if code in village.folds[0].sources else 6
        assert len(corpus.select(code, "train")) == 4 * per_label
        assert corpus.select(code, "test") == village.corpus.select(code, "test")


def test_the_table_has_paired_gains():
    def row(method, language, accuracy):
        found = {"corpus": "c", "fold": "1", "encoder": "e", "method": method, "language": language}
        return found | {"learned": True, "examples": {"1": 4}, "accuracy": {"1": accuracy}}

    rows = [
        row("auto, the default", "a", [0.1, 0.5]),
        row("auto, the default", "b", [0.5, 0.9]),
        row("auto, mixup 0.5", "a", [0.2, 0.6]),
        row("auto, mixup 0.5", "b", [0.6, 1.0]),
        row("auto, feature dropout 0.1", "a", [0.0, 0.7]),
        row("auto, feature dropout 0.1", "b", [0.3, 1.0]),
        row("auto, all on both", "a", [0.5, 0.5]),
        row("protonet, the default", "a", [0.5, 0.5]),
    ]
    table = ablations.gains_table(rows, "auto")
    assert "| the default | 50.0 |" in table
    assert "| mixup 0.5 | **+10.0 ±0.0** |" in table
    assert "| feature dropout 0.1 | +0.0 ±" in table
    assert "all on both" not in table
    page = ablations.filled("<!-- ablations-auto:start -->\n<!-- ablations-auto:end -->", rows)
    assert "mixup 0.5" in page
    assert ablations.filled("<!-- ablations-maml:start --><!-- ablations-maml:end -->", rows).count("|") == 0


def test_the_page_is_in_step_with_the_result_files():
    text = PAGE.read_text(encoding="utf-8")
    rows = read_rows(sorted(ablations.RESULTS.glob("*.jsonl")))
    assert ablations.filled(text, rows) == text, "run: python -m benchmarks.fewshot.ablations tables"
