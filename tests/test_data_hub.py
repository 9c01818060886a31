"""Data sets in the format of the library `datasets`, without a network."""

import json
import sys

import pytest

from metaglot.data import load_corpus
from metaglot.errors import DataError, MissingExtraError
from metaglot.types import Span

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def table(**columns):
    names = datasets.ClassLabel(names=["bye", "greet"])
    features = {k: datasets.Value("string") for k in columns} | {"label": names}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def with_configs(folder, configs):
    """Write a data set with configurations, each with a train and a test file."""
    card = ["---", "configs:"]
    for name in configs:
        card += [f"- config_name: {name}", "  data_files:"]
        for split in ("train", "test"):
            file = folder / name / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"text": f"{name} {split}", "label": "x"}) + "\n")
            card += [f"  - split: {split}", f"    path: {name}/{split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return f"hf:{folder}"


def test_saved_to_disk_with_names_of_classes(tmp_path):
    rows = table(sentence=["habari", "ó dàbọ̀"], label=[1, 0], lang=["sw", "yo"])
    datasets.DatasetDict(train=rows, validation=rows, extra=rows).save_to_disk(tmp_path / "saved")
    corpus = load_corpus(f"hf:{tmp_path / 'saved'}")
    assert [(e.language, e.split, e.text, e.label) for e in corpus.select("swh")] == [
        ("swh", "train", "habari", "greet"),
        ("swh", "dev", "habari", "greet"),
    ]
    assert "'extra'" in corpus.notices[0]
    with pytest.raises(DataError, match="Load it as hf:"):
        load_corpus(tmp_path / "saved")


def test_names_of_classes_of_tokens(tmp_path):
    tags = datasets.Sequence(datasets.ClassLabel(names=["O", "B-x", "I-x"]))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": tags})
    rows = {"tokens": [["Dar", "es", "Salaam"], ["a"]], "ner_tags": [[1, 2, 2], [0]]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    corpus = load_corpus(f"hf:{tmp_path / 'saved'}", language="swh")
    assert corpus.kind == "tagging"
    assert [e.spans for e in corpus.examples] == [(Span(0, 13, "x"),), ()]
    rows["ner_tags"][1] = [-1]
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "again")
    with pytest.raises(DataError, match="line 2, field 'ner_tags': expected a tag, found nothing"):
        load_corpus(f"hf:{tmp_path / 'again'}", language="swh")


def test_one_split_on_disk_and_the_language_option(tmp_path):
    table(text=["habari"], label=[1]).save_to_disk(tmp_path / "saved")
    corpus = load_corpus(f"hf:{tmp_path / 'saved'}", language="swh", split="test")
    assert [(e.split, e.label) for e in corpus.select("swh")] == [("test", "greet")]


def test_a_label_that_is_not_given_is_named(tmp_path):
    table(text=["a", "b"], label=[1, -1]).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="line 2, field 'label': expected a name or a number, found nothing"):
        load_corpus(f"hf:{tmp_path / 'saved'}", language="swh")


def test_configurations_that_are_languages(tmp_path):
    spec = with_configs(tmp_path / "data", ["sw-KE", "yo-NG", "all"])
    corpus = load_corpus(spec)
    assert [(e.language, e.split, e.text) for e in corpus.examples] == [
        ("swh", "train", "sw-KE train"),
        ("swh", "test", "sw-KE test"),
        ("yor", "train", "yo-NG train"),
        ("yor", "test", "yo-NG test"),
    ]
    assert "left out: all" in corpus.notices[0]
    assert load_corpus(f"{spec}:yo-NG").languages == ("yor",)
    with pytest.raises(DataError, match=r"Did you mean 'yo-NG'"):
        load_corpus(f"{spec}:yo-NX")


def test_configurations_that_are_not_languages(tmp_path):
    spec = with_configs(tmp_path / "data", ["cola", "mnli", "sentiment"])
    with pytest.raises(DataError, match=f"Name the one that you mean: {spec}:cola"):
        load_corpus(spec)
    assert load_corpus(f"{spec}:mnli", language="eng").languages == ("eng",)


def test_a_data_set_that_cannot_be_had():
    with pytest.raises(DataError, match="expected a data set hf:nobody/nothing, found a fault"):
        load_corpus("hf:nobody/nothing")
    with pytest.raises(DataError, match="expected the name of a data set"):
        load_corpus("hf:")


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'metaglot\[hub\]'"):
        load_corpus("hf:nobody/nothing")
