"""What `inspect` says of a corpus that has every trouble, and of one that has none."""

import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from metaglot.data.advice import similar_labels
from metaglot.data.inspect import inspect, normalized, render
from metaglot.data.scripts import script_shares
from metaglot.types import Corpus, Example, Span


def corpus(*rows, **fields):
    """Make a corpus of (language, split, text, label[, id])."""
    examples = (
        Example(row[4] if len(row) > 4 else f"{split}/{i}", text, label, language, split)
        for i, row in enumerate(rows)
        for language, split, text, label in [row[:4]]
    )
    return Corpus("toy", tuple(examples), **fields)


def clean():
    words = ["habari", "asante", "karibu", "pole", "ndiyo", "hapana"]
    return corpus(
        *(("swh", s, f"{w} {s}", "ab"[i % 2]) for s in ("train", "test") for i, w in enumerate(words))
    )


def said(found, *parts):
    return any(all(part in sentence for part in parts) for sentence in found.warnings)


def test_a_clean_corpus_has_no_warnings():
    found = inspect(clean())
    assert found.warnings == ()
    report = found.languages["swh"]
    assert report.splits == {"train": 6, "test": 6}
    assert report.labels == {"a": {"train": 3, "test": 3}, "b": {"train": 3, "test": 3}}
    assert (report.name, report.script, report.max_length, report.median_length) == (
        "Swahili",
        "Latin",
        12,
        11,
    )


def test_repeats_leaks_and_contradictions():
    found = inspect(
        corpus(
            ("swh", "train", "Habari yako?", "a"),
            ("swh", "train", "Habari yako?", "a"),
            ("swh", "train", "kwaheri", "b"),
            ("swh", "dev", "Habari yako?", "a"),
            ("swh", "test", "habari  yako!", "a"),
            ("swh", "test", "Kwaheri.", "a"),
        )
    )
    report = found.languages["swh"]
    assert (report.duplicates, report.leaks, report.near_leaks, report.contradictions) == (
        {"train": 1},
        1,
        2,
        1,
    )
    assert said(found, "stand in train too", "Swahili (3)")
    assert said(found, "more than once", "Swahili (1)")
    assert said(found, "different labels", "Swahili (1)")


def test_pairs_and_relations_are_more_than_their_text():
    pairs = [Example(str(i), "a", "xyz"[i], "swh", "train", pair="bcd"[i]) for i in range(3)]
    found = inspect(Corpus("toy", tuple(pairs), kind="pairs"))
    assert (found.languages["swh"].duplicates, found.languages["swh"].contradictions) == ({}, 0)
    spans = (Span(0, 1, "e1"), Span(2, 3, "e2"))
    relations = [
        Example("1", "a b c", "x", "swh", spans=spans),
        Example("2", "a b c", "y", "swh", spans=(Span(0, 1, "e1"), Span(4, 5, "e2"))),
        Example("3", "A B c", "y", "swh", split="test", spans=spans),
    ]
    report = inspect(Corpus("toy", tuple(relations), kind="relations")).languages["swh"]
    assert (report.duplicates, report.contradictions, report.near_leaks) == ({}, 1, 1)
    assert report.labels == {"x": {"train": 1}, "y": {"test": 1, "train": 1}}


def test_labels_of_spans():
    one, other = Span(0, 6, "thing"), Span(7, 12, "person")
    examples = [
        Example("1", "habari asha", "greet", "swh", spans=(one, Span(7, 11, "person"))),
        Example("2", "habari, asha!", "greet", "swh", spans=(one,)),
        Example("3", "habari mtoto", "greet", "swh", spans=(one, Span(3, 12, "person"))),
        Example("4", "pele", "greet", "yor"),
    ]
    tagging = inspect(Corpus("toy", tuple(examples), kind="tagging"))
    assert tagging.labels == {"thing": 3, "person": 2}
    assert tagging.languages["swh"].labels == {"person": {"train": 2}, "thing": {"train": 3}}
    assert tagging.languages["swh"].overlaps == 1
    assert said(tagging, "overlap", "tagging", "Swahili (1)")
    assert said(tagging, "No example has a span", "Yoruba (1)")
    assert said(tagging, "different labels", "Swahili (1)")
    frames = inspect(Corpus("toy", tuple(examples), kind="frames"))
    assert frames.labels == {"intent:greet": 4, "thing": 3, "person": 2}
    assert not said(frames, "nothing to learn")
    tree = Example("1", "habari mtoto", "", "swh", spans=(Span(0, 12, "IN:X"), other))
    parsing = inspect(Corpus("toy", (tree,), kind="parsing"))
    assert (parsing.labels, parsing.languages["swh"].overlaps) == ({"IN:X": 1, "person": 1}, 0)
    stream = io.StringIO()
    Console(file=stream, width=160).print(render(tagging))
    assert "2 labels; tagging; not parallel" in stream.getvalue()
    assert "spans" in stream.getvalue()


def test_vowel_signs_are_not_punctuation():
    assert normalized("की") != normalized("का")
    assert normalized("Ọ̀kan!") == normalized("ọ̀kan")
    assert normalized("?!") == "?!"


def test_labels_missing_single_unbalanced_and_misspelt():
    rows = [("swh", "train", f"neno {i}", "weather") for i in range(45)]
    rows += [("swh", "train", "x", "wether"), ("swh", "train", "y", "alarm"), ("yor", "train", "z", "alarm")]
    found = inspect(corpus(*rows))
    assert found.similar_labels == (("wether", "weather"),)
    assert said(found, "'wether' (1 example)", "'weather' (45)")
    assert said(found, "nothing to learn", "Yoruba (alarm)")
    assert said(found, "missing", "Yoruba (2 of 3)")
    assert said(found, "more than 20 times", "Swahili (45 to 1)")
    assert found.languages["yor"].missing_labels == ("weather", "wether")


def test_similar_labels():
    assert list(similar_labels({"Book Hotel": 50, "book_hotel": 50})) == [("Book Hotel", "book_hotel")]
    assert list(similar_labels({"recieve": 1, "receive": 90})) == [("recieve", "receive")]
    assert not list(similar_labels({"receive": 80, "received": 90}))  # both common: two labels
    assert not list(similar_labels({"topic1": 1, "topic2": 90}))
    assert not list(similar_labels({"set_alarm": 1, "cancel_alarm": 90}))


def test_scripts():
    assert script_shares(["abc где"]) == {"Latin": 0.5, "Cyrillic": 0.5}
    assert script_shares(["12 😀!"]) == {}
    assert list(script_shares(["日本", "ひらカナ"])) == ["Japanese", "Han"]
    rows = [("amh", "train", f"ሰላም ለዓለም {i}", "ab"[i % 2]) for i in range(30)]
    found = inspect(corpus(*rows, ("amh", "test", "hello there", "a", "odd")))
    report = found.languages["amh"]
    assert report.script == "Ethiopic"
    assert [(s.id, s.script, s.text) for s in report.strange] == [("odd", "Latin", "hello there")]
    assert said(found, "another script", "Amharic (1, e.g. id odd in Latin)")


def test_long_texts():
    found = inspect(corpus(("swh", "train", "neno " * 500, "a"), ("swh", "train", "neno", "b")))
    assert said(found, "more than 2,000 characters", "Swahili (1)")


def test_ids_on_both_sides_of_a_parallel_corpus():
    rows = (
        ("swh", "train", "moja", "a", "7"),
        ("yor", "test", "ọ̀kan", "a", "7"),
        ("yor", "train", "b", "a", "8"),
    )
    found = inspect(corpus(*rows, parallel=True))
    assert (found.shared_ids, found.mixed_ids) == (1, 1)
    assert said(found, "1 id can be found in train in one language and in dev or test in another")
    assert inspect(corpus(*rows)).mixed_ids == 0


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["swh", "yor", "zz-mine"]),
            st.sampled_from(["train", "dev", "test"]),
            st.text(min_size=1, max_size=20),
            st.text(min_size=1, max_size=5),
        ),
        max_size=8,
    )
)
def test_anything_is_inspected_rendered_and_written(rows):
    found = inspect(corpus(*rows, notices=("[bold]not markup[/]",)))
    stream = io.StringIO()
    Console(file=stream, width=160).print(render(found))
    assert "[bold]not markup[/]" in stream.getvalue()
    assert json.loads(json.dumps(found.to_dict()))["n_examples"] == len(rows)


def test_rendering_shows_languages_labels_and_warnings():
    stream = io.StringIO()
    troubled = corpus(("swh", "train", "a b", "[x]"), ("swh", "test", "A b!", "[x]"))
    Console(file=stream, width=160).print(render(inspect(troubled)))
    shown = stream.getvalue()
    for part in (
        "toy: 2 examples, 1 language, 1 label",
        "Swahili",
        "Latin",
        "[x]",
        "Warnings",
        "nothing to learn",
    ):
        assert part in shown
