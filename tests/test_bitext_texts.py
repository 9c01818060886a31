"""Running text: files in many languages, their splits, and the stretches that models are adapted on."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaglot.bitext.splitting import check_shares, deal, split_of
from metaglot.bitext.texts import Line, Texts, load_texts
from metaglot.errors import DataError, LanguageError, SettingsError
from metaglot.types import SPLITS


@pytest.fixture
def write(tmp_path):
    def file(name, lines):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(lines, bytes):
            path.write_bytes(lines)
        else:
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    file.root = tmp_path
    return file


def numbered(what, count):
    return [f"{what} line number {n}." for n in range(count)]


def test_a_file_a_language(write):
    write("en.txt", numbered("English", 200))
    write("Swahili.txt", numbered("Swahili", 120))
    texts = load_texts(write.root)
    assert texts.languages == ("eng", "swh")
    counts = [len(texts.select("eng", split)) for split in SPLITS]
    assert counts == [160, 20, 20]
    assert sorted(line.text for line in texts.select("swh")) == sorted(numbered("Swahili", 120))


def test_blocks_are_of_lines_that_follow_each_other(write):
    write("en.txt", numbered("English", 500))
    numbers = [int(line.id.partition(":")[2]) for line in load_texts(write.root).select("eng", "test")]
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    assert steps.count(1) >= 45  # 50 lines in at most 5 blocks


def test_lines_in_step_are_on_the_same_side_in_all_languages(write):
    for code in ("en", "sw", "yo"):
        write(f"{code}.txt", numbered(code, 130))
    texts = load_texts(write.root)
    splits = [{line.id.partition(":")[2]: line.split for line in texts.select(c)} for c in texts.languages]
    assert splits[0] == splits[1] == splits[2]


def test_a_folder_a_language(write):
    write("swh/a.txt", numbered("one", 30))
    write("swh/deep/b.txt", numbered("two", 30))
    write("eng/train.txt", ["Train."])
    write("eng/validation.txt", ["Dev."])
    write("eng/test.txt", ["Test."])
    texts = load_texts(write.root)
    assert [(line.split, line.text) for line in texts.select("eng")] == [
        ("train", "Train."),
        ("dev", "Dev."),
        ("test", "Test."),
    ]
    assert len(texts.select("swh")) == 60


def test_one_file(write):
    path = write("story.txt", numbered("story", 20))
    assert load_texts(path, language="yo").languages == ("yor",)


def test_blank_lines_are_none_and_an_id_is_its_lines_number(write):
    write("en.txt", ["One.", "", "  ", "Two.  ", "Three.", "Four."])
    lines = load_texts(write.root).select("eng")
    assert sorted((line.id, line.text) for line in lines) == [
        ("en:1", "One."),
        ("en:4", "Two."),
        ("en:5", "Three."),
        ("en:6", "Four."),
    ]


def test_what_stands_in_test_is_not_in_train(write):
    write("eng/train.txt", ["One.", "Two!", "Three."])
    write("eng/dev.txt", ["two", "Four."])
    write("eng/test.txt", ["ONE", "four", "Five."])
    texts = load_texts(write.root)
    assert [line.text for line in texts.select("eng")] == ["Three.", "two", "ONE", "four", "Five."]
    assert "3 line(s) that stand in dev or test" in texts.notices[0]


def test_the_bible_by_chapters(write):
    write("iso639.json", [json.dumps({"A": "eng", "B": "swh"})])
    verses = [f"b.MAT.{c}.{v}" for c in range(1, 31) for v in (1, 2, 3)]
    write("A.tsv", [f"{verse}\tEnglish {verse}" for verse in verses])
    write("B.tsv", [f"{verse}\tSwahili {verse}" for verse in verses[:60]])
    texts = load_texts(write.root)
    assert texts.parallel
    english = {line.id: line.split for line in texts.select("eng")}
    assert {line.id: line.split for line in texts.select("swh")}.items() <= english.items()
    assert [list(english.values()).count(split) for split in SPLITS] == [72, 9, 9]
    assert load_texts(f"bible-corpus:{write.root}").fingerprint == texts.fingerprint
    assert load_texts(write.root, seed=1).fingerprint != texts.fingerprint
    halves = load_texts(write.root, shares={"train": 0.5, "test": 0.5})
    assert {line.split for line in halves.lines} == {"train", "test"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"en.txt": b"One\nTw\xffo\nThree\n"}, "en.txt, line 2: expected utf-8"),
        ({"notes.txt": b"One\n"}, "found names that are no language's: notes"),
        ({"en.csv": b"One\n"}, "found no .txt file"),
        ({"en.txt": b"One\nTwo\n"}, "expected at least 3 lines of text in eng, to be divided, found 2"),
        ({"en.txt": b""}, "found empty files"),
        ({"en.txt": b"\n\n\n"}, "expected at least 3 lines"),
        ({"en/train.txt": b"One\n", "en/more.txt": b"Two\n"}, "found more.txt"),
    ],
)
def test_faults_are_told(write, files, message):
    for name, data in files.items():
        write(name, data)
    with pytest.raises(DataError, match=message):
        load_texts(write.root)


def test_settings_that_make_no_sense(write):
    path = write("en.csv", ["One"])
    with pytest.raises(DataError, match=r"expected a \.txt file or a folder"):
        load_texts(path)
    with pytest.raises(SettingsError, match="language is for a single file"):
        load_texts(write.root, language="en")
    with pytest.raises(DataError, match=r"expected iso639\.json"):
        load_texts(f"bible-corpus:{write.root}")
    for shares in ({"train": 0.5}, {"train": 2, "test": -1}, {"exam": 1.0}):
        with pytest.raises(SettingsError, match="expected shares"):
            check_shares(shares)


def texts_of(lines, language="swh"):
    return Texts("t", tuple(Line(str(n), text, language) for n, text in enumerate(lines)))


words = st.text(st.sampled_from("aä字 𝕊"), min_size=1, max_size=400).map(str.strip).filter(bool)


@given(st.lists(words, min_size=1, max_size=40), st.floats(0.01, 3), st.floats(0.01, 3), st.integers(0, 99))
def test_a_stretch_fits_and_is_as_long_as_it_can_be(lines, kilobytes, more, seed):
    texts = texts_of(lines)
    if texts.size("swh") < int(kilobytes * 1024):
        with pytest.raises(SettingsError, match="kilobytes, which swh has"):
            texts.take("swh", kilobytes, seed)
        return
    taken = texts.take("swh", kilobytes, seed)
    room = int(kilobytes * 1024)
    assert len(taken.encode()) <= room
    assert taken == texts.take("swh", kilobytes, seed)
    parts = taken.removesuffix("\n").split("\n")
    if all(part in lines for part in parts):
        assert (
            len(parts) == len(lines)
            or len(taken.encode()) + max(len(line.encode()) + 1 for line in lines) > room
        )
    else:  # the words that fit of a first line that does not
        assert len(parts) == 1
        assert any(line.startswith(parts[0]) for line in lines)
    if kilobytes <= more <= texts.size("swh") / 1024:
        assert texts.take("swh", more, seed).startswith(taken[:-1])


def test_stretches_are_drawn_by_their_seed():
    texts = texts_of(numbered("Swahili", 300))
    assert len({texts.take("swh", 1, seed) for seed in range(20)}) > 15
    with pytest.raises(LanguageError, match="found 'swa'"):
        texts.take("swa", 1)
    assert texts.restrict(["swh"]).fingerprint == texts.fingerprint
    assert texts.restrict([]).lines == ()


@given(st.sets(st.text(max_size=4), max_size=60), st.integers(0, 5))
def test_keys_are_dealt_by_their_shares(keys, seed):
    found = deal(keys, seed)
    assert set(found) == keys
    counts = [list(found.values()).count(split) for split in SPLITS]
    for count, share in zip(counts, (0.8, 0.1, 0.1), strict=True):
        assert abs(count - share * len(keys)) <= 2
        assert count or len(keys) < 3


def test_a_split_is_of_a_key_and_a_seed():
    keys = [str(n) for n in range(2000)]
    splits = [split_of(key) for key in keys]
    assert [splits.count(split) / 2000 for split in SPLITS] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)
    assert [split_of(key, 1) for key in keys] != splits
    assert {split_of(key, shares={"test": 1.0}) for key in keys} == {"test"}
