"""Vocabularies: nothing is out of them, and what comes back is what went in."""

import json
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metaglot.errors import ArtifactError, DataError, LanguageError, SettingsError
from metaglot.sequences.vocabulary import BEGIN, END, PADDING, Vocabulary

TEXTS = [
    "Habari ya asubuhi, rafiki yangu! Karibu nyumbani.",
    "Good morning, my friend! Welcome home, my friend.",
    "Доброе утро, мой друг! Добро пожаловать домой.",
    "早上好，我的朋友！欢迎回家，我的朋友。",
    "<0x41> <0x41> <0x41> <0x41> is how a byte may be written",
] * 4
SUBWORDS = Vocabulary.train(TEXTS, 600, ["eng", "swh"])
BYTES = Vocabulary.of_bytes(["eng", "swh"])
BOTH = pytest.mark.parametrize("vocabulary", [SUBWORDS, BYTES], ids=["subwords", "bytes"])


@BOTH
@given(text=st.text())
@example(text="  both ends  ")
@example(text="<0x41><pad></s>⟨0⟩<2swh>")
@example(text="e\u0301 \u00e9 👩‍👩‍👧‍👦 \x00\x1b\r\n\u2028\ufeff\ufffd")
@example(text=" \u0301 a\u200b\u00a0\t\t  b")
def test_any_text_comes_back(vocabulary, text):
    ids = vocabulary.encode([text], "swh")[0]
    assert vocabulary.decode(ids) == text
    assert vocabulary.bytes_of(ids) == len(text.encode())
    assert ids[0] == vocabulary.tag("swh")
    assert ids[-1] == END
    assert not set(ids[1:-1]) & {*vocabulary.unsayable, END}


@BOTH
@given(
    parts=st.lists(st.text(alphabet="ab% ()s⟨0⟩"), min_size=1, max_size=6),
    kept=st.lists(st.sampled_from(["%(a)s", "%s", "%(a)s%s", "{b}"]), unique=True, min_size=1),
    data=st.data(),
)
def test_kept_strings_are_slots_and_come_back(vocabulary, parts, kept, data):
    text = parts[0] + "".join(data.draw(st.sampled_from(kept)) + part for part in parts[1:])
    ids = vocabulary.encode([text], kept=[kept])[0]
    assert vocabulary.decode(ids, kept) == text
    assert sum(i in vocabulary.slots for i in ids) >= len(parts) - 1 - text.count("%(a)s%s")
    assert ids[0] == BEGIN


def test_a_kept_string_is_one_slot_each_time():
    ids = SUBWORDS.encode(["%s and %(a)s and %s"], kept=[["%(a)s", "%s"]], framed=False)[0]
    assert [i - SUBWORDS.slots.start for i in ids if i in SUBWORDS.slots] == [1, 0, 1]
    assert SUBWORDS.decode(ids) == "⟨1⟩ and ⟨0⟩ and ⟨1⟩"
    assert SUBWORDS.bytes_of(ids) == len(" and  and ")


def test_subwords_are_learned_and_words_keep_their_space():
    ids = SUBWORDS.encode([" my friend"], framed=False)[0]
    assert [SUBWORDS.decode([i]) for i in ids] == [" my", " friend"]
    assert len(SUBWORDS) <= 600
    assert len(BYTES) == 3 + 32 + 64 + 256


def test_training_is_the_same_every_time_in_every_process():
    code = (
        "from tests.test_sequences_vocabulary import SUBWORDS, BYTES; "
        "print(SUBWORDS.fingerprint, BYTES.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [SUBWORDS.fingerprint, BYTES.fingerprint]


def test_a_character_outside_the_alphabet_is_spelt_in_bytes():
    few = Vocabulary.train(["aaaa bbbb aaaa bbbb " * 100 + "ж"], 400, coverage=0.99)
    assert "ж" not in few.alphabet
    ids = few.encode(["ж"], framed=False)[0]
    assert [i - few.tags.stop for i in ids] == list("ж".encode())


def test_a_new_language_takes_a_spare_row_and_no_other_moves():
    more = SUBWORDS.with_languages(["yor", "eng"])
    assert more.languages == ("eng", "swh", "yor")
    assert more.tag("yor") == SUBWORDS.tag("swh") + 1
    assert len(more) == len(SUBWORDS)
    assert more.encode(TEXTS, "swh") == SUBWORDS.encode(TEXTS, "swh")
    with pytest.raises(SettingsError, match="at most 64"):
        SUBWORDS.with_languages([f"l{i:02d}" for i in range(63)])


def test_saved_and_loaded_it_is_the_same(tmp_path):
    path = tmp_path / "vocabulary.json"
    SUBWORDS.save(path)
    again = Vocabulary.load(path)
    assert again == SUBWORDS != BYTES
    assert hash(again) == hash(SUBWORDS)
    assert again.encode(TEXTS, "eng") == SUBWORDS.encode(TEXTS, "eng")


@pytest.mark.parametrize("harm", ["gone", "text", "list", "format", "merge", "languages"])
def test_a_damaged_file_is_named(tmp_path, harm):
    path = tmp_path / "vocabulary.json"
    content = SUBWORDS._content()
    changed = {
        "text": "{",
        "list": "[]",
        "format": json.dumps(content | {"format": 9}),
        "merge": json.dumps(content | {"merges": [["no", "such"]]}),
        "languages": json.dumps(content | {"languages": ["eng", "eng"]}),
    }
    if harm in changed:
        path.write_text(changed[harm])
    with pytest.raises(ArtifactError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def test_bytes_that_are_no_text_are_marked():
    assert BYTES.decode([PADDING, BYTES.tags.stop + 0xFF, END]) == "\ufffd"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SUBWORDS.encode(["a"], "swa"), LanguageError, "swh"),
        (lambda: SUBWORDS.encode(["fine", "\ud800"]), DataError, "text 1"),
        (lambda: SUBWORDS.encode(["a"], kept=[["", "b"]]), DataError, "empty"),
        (lambda: SUBWORDS.encode(["a"], kept=[[str(i) for i in range(33)]]), DataError, "at most 32"),
        (lambda: SUBWORDS.decode([len(SUBWORDS)]), DataError, "numbers from 0"),
        (lambda: SUBWORDS.bytes_of([-1]), DataError, "numbers from 0"),
        (lambda: Vocabulary.train([]), DataError, "found none"),
        (lambda: Vocabulary.train(["a"], 300), SettingsError, "size above"),
        (lambda: Vocabulary.train(["a"], coverage=0), SettingsError, "coverage"),
        (lambda: Vocabulary(("a",), (("a", "b"),)), SettingsError, "known pieces"),
    ],
)
def test_what_is_wrong_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_it_needs_no_pytorch():
    code = "import sys, metaglot.sequences.vocabulary; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
