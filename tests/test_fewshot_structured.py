"""The harness's corpora of tokens, pairs, entities and trees, from folders as they are handed out."""

import json

import pytest
from benchmarks.fewshot import corpora, structured
from benchmarks.fewshot.results import Unit, metric_of, records_of, row_of
from benchmarks.fewshot.tables import Results, metric_table

from metaglot.evaluation.grid import Record
from metaglot.types import Corpus, Example


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def examples(language, **splits):
    return [
        Example(f"{split}/{n}", f"text {n}", "", language, split)
        for split, count in splits.items()
        for n in range(count)
    ]


def test_a_language_without_train_divides_what_it_has():
    corpus = Corpus(
        "some",
        (
            *examples("eng", train=60, dev=5, test=9),
            *examples("deu", dev=30, test=20),
            *examples("yor", test=100),
            *examples("bxr", train=4, test=80),
        ),
        kind="tagging",
    )
    made = structured._divided(corpus, {"train": 40, "dev": 0, "test": 15})
    count = {
        code: [len(made.select(code, split)) for split in ("train", "dev", "test")] for code in made.languages
    }
    assert count["eng"] == [40, 0, 9] and count["deu"] == [30, 0, 15]
    for code, most in (("yor", 40), ("bxr", 40)):
        assert 30 <= count[code][0] <= most and count[code][2] == 15
        ids = [{e.id for e in made.select(code, split)} for split in ("train", "test")]
        assert not ids[0] & ids[1]
    assert made == structured._divided(corpus, {"train": 40, "dev": 0, "test": 15})


def test_treebanks_are_of_other_branches_than_those_learned_from(tmp_path):
    rows = [{"id": n, "tokens": ["a", "b"], "tags": ["DET", "NOUN"]} for n in range(130)]
    for names in structured._TREEBANKS.values():
        for name in names:
            write(tmp_path / "ud_pos" / name / "test.jsonl", rows)
    benchmark = corpora.load("ud-pos", tmp_path)
    (fold,) = benchmark.folds
    assert (len(fold.sources), len(fold.held_out), benchmark.corpus.kind) == (20, 16, "tagging")
    from metaglot.families import branch

    assert not {branch(code) for code in fold.sources} & {branch(code) for code in fold.held_out}
    for code in fold.held_out:
        assert benchmark.corpus.select(code, "train") and benchmark.corpus.select(code, "test")


def test_relations_are_learned_from_english_alone(tmp_path):
    row = {"text": "<e1> A </e1> knows <e2> B </e2>.", "label": "knows(e1,e2)"}
    write(tmp_path / "relx" / "en_kbp37" / "train.jsonl", [row | {"id": n} for n in range(8)])
    write(tmp_path / "relx" / "en_kbp37" / "test.jsonl", [row | {"id": n} for n in range(8)])
    for name in ("de", "es", "fr", "tr"):
        empty = {"id": 99, "text": "<e1> </e1> knows <e2> B </e2>.", "label": "knows(e1,e2)"}
        write(tmp_path / "relx" / name / "test.jsonl", [*(row | {"id": n} for n in range(40)), empty])
    benchmark = corpora.load("relx", tmp_path)
    (fold,) = benchmark.folds
    assert (fold.sources, fold.held_out) == (("eng",), ("deu", "fra", "spa", "tur"))
    assert len(benchmark.corpus.select("eng")) == 8  # KBP-37's own test split is not learned from
    own = benchmark.corpus.select("tur")
    assert len(own) == 40 and {e.split for e in own} == {"train", "test"}


def test_inference_is_learned_from_dev_where_there_is_one(tmp_path):
    rows = [{"id": n, "label": "neutral", "premise": f"p{n}", "hypothesis": f"h{n}"} for n in range(6)]
    for name in ("eng", "hau", "ibo", "yor", "zul", "amh"):
        write(tmp_path / "afrixnli" / name / "dev.jsonl", rows)
        write(tmp_path / "afrixnli" / name / "test.jsonl", rows)
    write(tmp_path / "afrixnli" / "fra" / "test.jsonl", rows)
    benchmark = corpora.load("afrixnli", tmp_path)
    assert benchmark.corpus.parallel and "fra" not in benchmark.corpus.languages
    assert sorted(code for fold in benchmark.folds for code in fold.held_out) == [
        "amh",
        "hau",
        "ibo",
        "yor",
        "zul",
    ]
    assert all("eng" in fold.sources for fold in benchmark.folds)


def test_meanings_hold_out_each_language_in_turn(tmp_path):
    rows = [{"id": n, "text": f"call mum {n}", "mr": f"[IN:CALL [SL:WHO mum {n} ] ]"} for n in range(5)]
    for name in ("en", "de", "th"):
        write(tmp_path / "mtop" / name / "dev.jsonl", rows)
        write(tmp_path / "mtop" / name / "test.jsonl", rows)
    benchmark = corpora.load("mtop", tmp_path)
    assert [fold.held_out for fold in benchmark.folds] == [("deu",), ("eng",), ("tha",)]
    assert benchmark.corpus.kind == "parsing"
    assert [len(benchmark.corpus.select("tha", split)) for split in ("train", "test")] == [5, 5]


@pytest.mark.parametrize("name", ["injongo-slots", "injongo-frames"])
def test_injongo_is_read_as_the_kind_that_is_asked_for(tmp_path, name):
    row = {
        "text": "wake me at 7",
        "label": "alarm",
        "spans": [{"start_byte": 11, "limit_byte": 12, "label": "TIME"}],
    }
    for code in ("eng", "hau", "ibo", "yor", "zul", "amh"):
        for split in ("train", "test"):
            write(
                tmp_path / "injongo_intent" / code / f"{split}.jsonl",
                [row | {"id": f"{split}-{n}"} for n in range(60)],
            )
    corpus = corpora.load(name, tmp_path).corpus
    assert corpus.kind == {"injongo-slots": "tagging", "injongo-frames": "frames"}[name]
    assert not corpus.select("eng", "test")  # its sentences are all in train
    assert {e.label for e in corpus.examples} == ({""} if corpus.kind == "tagging" else {"alarm"})


def test_a_line_has_the_metric_that_counts_of_every_draw_and_the_means_of_others():
    unit = Unit("c", "f", "e", "auto", "swh")
    found = [
        Record("auto", True, "swh", k, draw, k, {"f1": 0.1 * k + draw, "accuracy": 0.5, "log_loss": 1.0})
        for k, draws in ((0, 1), (5, 2))
        for draw in range(draws)
    ]
    row = json.loads(json.dumps(row_of(unit, found, tests=3)))
    assert metric_of(row) == "f1" and row["f1"] == {"0": [0.0], "5": [0.5, 1.5]}
    assert row["accuracy"] == {"0": 0.5, "5": 0.5}
    assert [r.metrics for r in records_of([row])] == [{"f1": 0.0}, {"f1": 0.5}, {"f1": 1.5}]
    assert metric_of({"accuracy": {}}) == "accuracy"  # as lines were before there were kinds
    assert "50.0" in metric_table(Results([row]), "accuracy")
