"""Canonical values: where they come from, how they are found for a new language, where they are kept."""

import io
import json
import random
from dataclasses import replace
from importlib import metadata

import pytest
from benchmarks import slot_values
from benchmarks.markers import ROOT
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_files import fault, write
from kind_corpora import corpus, encoder
from metaglot import artifact as artifacts
from metaglot.adapting import adapt
from metaglot.cli.answers import shown
from metaglot.config import Recipe, TrainSettings
from metaglot.data import home_assistant, load_corpus
from metaglot.data.templates import Grammar
from metaglot.errors import ArtifactError
from metaglot.kinds.tagging import span_f1
from metaglot.kinds.values import NEAR, Values, folded, value_of, with_values
from metaglot.predicting import Prediction, predict
from metaglot.progress import silent
from metaglot.training import train
from metaglot.types import Answer, Example, Span

NONE = Values()


def example(*slots, language="deu"):
    """An example whose text is its slots, each a label, what is written, and what it means."""
    text, spans = "", []
    for label, written, value in slots:
        spans.append(Span(len(text), len(text) + len(written), label, value))
        text += written + " "
    return Example("1", text, "", language, spans=tuple(spans))


def values(*slots):
    return Values.of([example(slot) for slot in slots])


# --- a span's value


def test_spans_are_equal_whatever_their_values():
    plain, meant = Span(0, 4, "colour"), Span(0, 4, "colour", "blue")
    assert plain == meant and hash(plain) == hash(meant)
    assert (plain.value, meant.value) == ("", "blue")
    assert span_f1([example(("colour", "blau", "blue"))], [Answer(spans=(plain,))]) == 1
    with pytest.raises(AttributeError):
        meant.value = "red"


# --- the built-in corpus


GRAMMAR = Grammar(
    rules={},
    lists={
        "colour": {"values": ["red", {"in": "[pale ]blau", "out": "blue"}, {"in": "green", "out": "green"}]},
        "level": {"values": [{"in": "max", "out": 100}]},
        "down": {"range": {"from": 7, "to": 7, "multiplier": -1}},
        "both": {"values": [{"in": "store", "out": ["blind", "shade"]}]},
        "count": {"range": {"from": 7, "to": 7}},
    },
    fillers={"room": ["kitchen"]},
    spell=lambda number: "seven",
)


def meanings(template, label):
    """What is written for a label, and what it means, in many draws."""
    draws = [GRAMMAR.draw(GRAMMAR.parse(template), random.Random(seed)) for seed in range(60)]
    return {(text[s.start : s.end], s.value) for text, spans in draws for s in spans if s.label == label}


def test_lists_say_what_their_values_mean():
    assert meanings("go {colour} !", "colour") == {
        ("red", ""), ("blau", "blue"), ("pale blau", "blue"), ("green", ""),
    }  # fmt: skip
    assert meanings("go {level:how}", "how") == {("max", "100")}
    assert meanings("go {both}", "both") == {("store", "blind, shade")}
    assert meanings("go {room}", "room") == {("kitchen", "")}


def test_numbers_in_words_mean_their_digits_whatever_is_done_with_them():
    assert meanings("go {count}", "count") == {("7", ""), ("seven", "7")}
    assert meanings("go {down}", "down") == {("7", ""), ("seven", "7")}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    pytest.importorskip("home_assistant_intents")
    with pytest.MonkeyPatch.context() as patch, silent():
        patch.setenv("METAGLOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield home_assistant.load(languages=["cym", "tha"])


def test_the_corpus_has_values_from_the_cache_and_without(home):
    found = {(s.label, e.text[s.start : s.end]): s.value for e in home.examples for s in e.spans}
    assert (found["color", "coch"], found["device_class", "ประตู"]) == ("red", "door")
    assert found["percentage", "หกสิบเจ็ด"] == "67"
    assert not any(value for (label, _), value in found.items() if label in {"area", "name"})
    assert all(value != text for (_, text), value in found.items())


def test_values_change_no_sentence_and_no_fingerprint(home):
    made_from = {"home-assistant-intents": "2026.10.27", "hassil": "3.12.1", "unicode-rbnf": "2.4.1"}
    if any(metadata.version(package) != version for package, version in made_from.items()):
        pytest.skip("the fingerprints are of other versions of the packages")
    assert home.fingerprint == "f7b2a0f96a60826e906f7b5a20c63cc9c11782043d66a20b1ad5519fa07f29db"
    assert (
        replace(home, kind="frames").fingerprint
        == "cbeb7f0f81420e8ba585c94844a458e84b6bc081f667fe2d0891178716067578"
    )
    assert replace(home, kind="frames").fingerprint == without_values(replace(home, kind="frames"))


def without_values(found):
    bare = (replace(e, spans=tuple(replace(s, value="") for s in e.spans)) for e in found.examples)
    return replace(found, examples=tuple(bare)).fingerprint


# --- files


def loaded(folder, value, **more):
    row = {"text": "mach blau", "spans": [{"start": 5, "end": 9, "label": "colour", "value": value} | more]}
    write(folder, {"c.jsonl": json.dumps(row)})
    return load_corpus(folder / "c.jsonl", language="deu").examples[0].spans[0].value


@pytest.mark.parametrize(
    ("written", "value"),
    [("blue", "blue"), (" blue ", "blue"), ("", ""), (None, ""), (7, "7"), (21.5, "21.5"), (7.0, "7"),
     (-3, "-3"), ("blau", ""), ("BLAU", "BLAU")],
)  # fmt: skip
def test_spans_in_files_may_have_a_value(tmp_path, written, value):
    assert loaded(tmp_path, written) == value


@pytest.mark.parametrize(
    "written", [True, ["blue"], {"name": "blue"}, float("nan"), float("inf"), 10**20, "bl\0ue", "\ud800"]
)
def test_other_values_are_refused_by_file_line_and_field(tmp_path, written):
    message = fault(loaded, tmp_path, written)
    assert "c.jsonl" in message and "line 1" in message and "'spans'" in message
    assert "found" in message


# --- what a table says


def test_only_labels_with_values_are_kept_and_their_texts_that_mean_themselves():
    found = Values.of(
        [
            example(("colour", "Blau", "blue"), ("room", "Küche", "")),
            example(("colour", "blau", "blue"), ("colour", "rosa", "")),
        ]
    )
    assert found.counts == {"colour": {"blau": {"blue": 2}, "rosa": {"": 1}}}
    assert found and not Values.of([example(("room", "Küche", ""))]) and not NONE


def test_own_examples_come_before_the_sources():
    own, sources = (
        values(("colour", "rosa", "pink")),
        values(("colour", "rosa", "rose"), ("colour", "x", "y")),
    )
    assert value_of("colour", "rosa", own, sources) == "pink"
    assert value_of("colour", "rosa", NONE, sources) == "rose"
    assert value_of("colour", "ROSA ", NONE, sources) == "rose"
    assert value_of("colour", "ｒｏｓａ", NONE, sources) == "rose"
    itself = values(("colour", "rosa", ""), ("colour", "blau", "blue"))
    assert value_of("colour", "rosa", itself, sources) == ""
    assert value_of("room", "rosa", own, sources) == ""
    assert value_of("colour", "pink", values(("colour", "Pink", "pink")), NONE) == ""  # it says so itself
    assert value_of("colour", "PINK", values(("colour", "Pink", "pink")), NONE) == "pink"
    assert value_of("colour", "schwarz", own, sources) == ""


def test_the_most_frequent_value_counts_and_then_the_first_in_the_alphabet():
    assert value_of("c", "x", values(("c", "x", "b"), ("c", "x", "a"), ("c", "x", "b")), NONE) == "b"
    assert value_of("c", "x", values(("c", "x", "b"), ("c", "x", "a")), NONE) == "a"


def test_a_value_may_come_from_another_label_that_has_it():
    own = values(("minutes", "fünfzig", "50"), ("state", "an", "on"))
    sources = values(("hours", "fifty", "50"), ("state", "off", "no"))
    assert value_of("hours", "fünfzig", own, sources) == "50"
    assert value_of("state", "fünfzig", own, sources) == ""  # no state is 50
    assert value_of("hours", "an", own, sources) == ""
    assert value_of("minutes", "fifty", own, sources) == "50"


def test_nearly_the_same_text_means_the_same_unless_it_is_a_number():
    own = values(("colour", "himmelblau", "blue"), ("n", "einundzwanzig", "21"), ("colour", "hellgrau", ""))
    assert value_of("colour", "himmelblaue", own, NONE) == "blue"
    assert value_of("colour", "hellgraue", own, NONE) == ""
    assert value_of("colour", "himmelrot", own, NONE) == ""
    assert value_of("n", "einundzwanzi", own, NONE) == ""
    assert value_of("colour", "himmelblaue", NONE, own) == ""  # another language's nearly the same is not


def test_of_texts_as_near_the_more_frequent_one_counts():
    many = [("c", "bbbbbbbbbx", "second"), ("c", "abbbbbbbbb", "first")]
    assert value_of("c", "bbbbbbbbb", values(*many), NONE) == "first"
    assert value_of("c", "bbbbbbbbb", values(*many, many[0]), NONE) == "second"


TEXTS = st.text(alphabet="abcß١ä ", max_size=12)
SLOTS = st.lists(st.tuples(st.sampled_from("xy"), TEXTS.filter(bool), TEXTS), max_size=8)


@given(SLOTS, SLOTS, TEXTS)
def test_a_value_is_always_one_of_the_labels_and_order_does_not_matter(own, sources, text):
    tables = [[values(*rows) for rows in (order(own), order(sources))] for order in (list, lambda r: r[::-1])]
    (first, second), _ = tables
    found = [value_of("x", text, *pair) for pair in tables]
    assert found[0] == found[1]
    assert found[0] in {"", *(value for label, _, value in (*own, *sources) if label == "x")}
    assert Values.from_json(first.to_json()) == first
    assert folded(folded(text)) == folded(text)
    assert second.by_label.keys() == second.counts.keys()
    assert 0 < NEAR < 1


def test_spans_keep_all_but_their_values():
    e = example(("colour", "blau", "old"), ("room", "Küche", ""))
    found = with_values(e.spans, e.text, values(("colour", "blau", "blue")), NONE)
    assert found == e.spans
    assert [span.value for span in found] == ["blue", ""]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", '{"c": []}', '{"c": {}}', '{"c": {"x": 1}}', '{"c": {"x": {}}}']
    + [f'{{"c": {{"x": {{"v": {count}}}}}}}' for count in ("0", "-1", '"1"', "true", "1.5")],
)
def test_what_is_no_table_is_a_value_error(text):
    with pytest.raises(ValueError):
        Values.from_json(text)


# --- from training to answers


def made(kind, toy, *, meant=True):
    """A model of a small corpus in which a name means its number, its adaptation to Swahili, the corpus."""
    toy = replace(corpus(toy), kind=kind)
    if meant:
        named = [
            replace(e, spans=tuple(replace(s, value=number(e, s)) for s in e.spans)) for e in toy.examples
        ]
        toy = replace(toy, examples=tuple(named))
    settings = TrainSettings(steps=2, pool=4, episodes=2, queries=2)
    recipe = Recipe(corpus="toy", encoder="tiny", held_out=("swh",), learner="ridge", train=settings)
    trained = train_with(toy, recipe)
    return trained, adapt(trained, "swh", toy.select("swh", "train")[:12], estimate=False).adaptation, toy


def train_with(toy, recipe):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metaglot.training.load_encoder", lambda name: encoder())
        return train(toy, recipe)


def number(e, span):
    """What a stretch means: a number of its own."""
    return f"person {sum(map(ord, e.text[span.start : span.end]))}"


@pytest.fixture(scope="module")
def frames():
    return made("frames", "frames")


def test_answers_have_the_values_of_the_examples_before_and_after_saving(frames, tmp_path, monkeypatch):
    trained, adaptation, toy = frames
    test = toy.select("swh", "test")
    found = predict(trained, test, "swh", adaptation=adaptation)
    slots = [(e, span) for e, p in zip(test, found, strict=True) for span, _ in p.spans]
    right = [span.value == number(e, span) for e, span in slots if span in e.spans]
    assert len(right) >= 4 and all(right)
    assert any("value" in slot for p in found for slot in p.as_dict()["spans"])
    artifacts.save(trained, tmp_path / "model")
    artifacts.save_adaptation(adaptation, tmp_path / "model")
    monkeypatch.setattr(artifacts, "load_encoder", lambda name, cache: encoder())
    again = artifacts.load(tmp_path / "model")
    assert (again.values, again.adaptations["swh"].values) == (trained.values, adaptation.values)
    assert [p.as_dict() for p in predict(again, test, "swh")] == [p.as_dict() for p in found]
    artifacts.save(again, tmp_path / "copy")
    files = [(tmp_path / name / "values.json").read_bytes() for name in ("model", "copy")]
    assert files[0] == files[1]


def test_zero_shot_answers_have_the_sources_values(frames):
    trained, _, toy = frames
    assert not set(trained.values.counts["name"]) & {"juma", "asha", "neema"}
    texts = [e.text for e in toy.select("deu", "test")]
    spans = [(p.text[s.start : s.end], s.value) for p in predict(trained, texts, "deu") for s, _ in p.spans]
    known = [value for text, value in spans if text in {"otto", "ida", "udo"}]
    assert len(known) >= 2 and all(known)


@pytest.mark.parametrize(
    ("kind", "toy", "meant"),
    [("tagging", "tagging", False), ("classification", "frames", True), ("relations", "relations", True)],
)
def test_nothing_is_kept_without_values_or_for_kinds_without_spans(kind, toy, meant, tmp_path):
    trained, adaptation, found = made(kind, toy, meant=meant)
    assert meant == any(s.value for e in found.examples for s in e.spans)
    assert not trained.values and not adaptation.values
    artifacts.save(replace(trained, adaptations={"swh": adaptation}), tmp_path / "model")
    assert not (tmp_path / "model" / "values.json").exists()
    assert "values.json" not in json.loads((tmp_path / "model" / "manifest.json").read_text("utf-8"))["files"]


def test_a_part_that_is_missing_or_changed_is_refused(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "load_encoder", lambda name, cache: encoder())
    artifacts.save(frames[0], tmp_path / "model")
    path = tmp_path / "model" / "values.json"
    content = path.read_text("utf-8")
    path.write_text(content.replace("1", "2", 1), "utf-8")
    with pytest.raises(ArtifactError, match=r"values\.json.*damaged or was changed"):
        artifacts.load(tmp_path / "model")
    path.unlink()
    with pytest.raises(ArtifactError, match=r"values\.json.*no such file"):
        artifacts.load(tmp_path / "model")
    manifest = tmp_path / "model" / "manifest.json"
    path.write_text("[]", "utf-8")
    about = json.loads(manifest.read_text("utf-8"))
    about["files"]["values.json"] = artifacts.file_hash(path)
    about["hash"] = artifacts.manifest_hash(about)
    manifest.write_text(json.dumps(about), "utf-8")
    with pytest.raises(ArtifactError, match=r"values\.json.*expected values by label and text"):
        artifacts.load(tmp_path / "model")


# --- on the screen


def test_values_are_shown_with_their_slots():
    spans = ((Span(5, 10, "area"), 0.9), (Span(11, 15, "color", "blue"), 0.8))
    prediction = Prediction("mach Küche blau", "deu", True, (("LightSet", 0.95),), spans)
    screen = Console(file=io.StringIO(), width=200)
    screen.print(shown([prediction], "frames"))
    text = screen.file.getvalue()
    assert "LightSet(area=Küche, color=blue) 95%" in text
    assert "mach [Küche]area 90% [blau]color=blue 80%" in text
    screen.print(shown([replace(prediction, labels=())], "tagging"))
    assert "LightSet" not in screen.file.getvalue()[len(text) :]
    assert [s.get("value") for s in prediction.as_dict()["spans"]] == [None, "blue"]


# --- what is measured


def test_the_benchmark_counts_what_is_found(home, monkeypatch):
    monkeypatch.setattr(slot_values, "load_corpus", lambda name, options: home)
    result = slot_values.measured(2, ["tha"], ["cym"])
    rows = {shots: [row for row in result["rows"] if row["shots"] == shots] for shots in slot_values.SHOTS}
    assert [len(found) for found in rows.values()] == [1, 2, 2, 2, 2]
    assert len({(row["valued"], row["plain"]) for row in result["rows"]}) == 1
    assert rows[400][0]["right"] > rows[20][0]["right"] >= rows[0][0]["right"]
    assert all(row["right"] + row["wrong"] <= row["valued"] for row in result["rows"])
    assert all(row["words_right"] <= min(row["words"], row["right"]) for row in result["rows"])
    (few,) = rows[0]
    every = few["valued"] + few["plain"]
    assert result["means"]["0"]["slots"] == (few["right"] + few["plain"] - few["given"]) / every
    assert result["means"]["0"]["copied"] == few["plain"] / every


def test_what_the_documentation_says_of_values_is_in_the_file():
    page = ROOT / "docs" / "kinds.md"
    assert slot_values.filled(page) == page.read_text("utf-8"), (
        "run: python -m benchmarks.slot_values --tables"
    )
    result = json.loads(slot_values.RESULTS.read_text("utf-8"))
    assert tuple(result["held_out"]) == home_assistant.HELD_OUT and len(result["held_out"]) == 8
    assert len({row["draw"] for row in result["rows"]}) == 10
    found = result["means"]
    assert all(row["wrong"] < 0.01 and row["given"] < 0.01 for row in found.values())  # "rare"
    assert all(row["slots"] > row["copied"] for row in found.values())
    assert 0.05 < found["20"]["right"] < 0.1  # "few of a language's words"
