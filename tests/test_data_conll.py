"""CoNLL files → sentences with tags: their text is the original where the file says it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_files import fault, write
from metaglot.data import load_corpus, load_examples, read_examples_to_predict
from metaglot.errors import DataError

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# CD B-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def node(number, form, tag, misc="_"):
    return "\t".join([str(number), form, "_", tag, f"x{tag}", "_", "0", "root", "_", misc])


UD = "\n".join(
    [
        "# newdoc id = d",
        "# sent_id = s1",
        "# text = Vámonos al mar, can't  we?",
        node("1-2", "Vámonos", "_"),
        node(1, "Vamos", "VERB"),
        node(2, "nos", "PRON"),
        node("3-4", "al", "_"),
        node(3, "a", "ADP"),
        node(4, "el", "DET"),
        node(5, "mar", "NOUN", "SpaceAfter=No"),
        node(6, ",", "PUNCT"),
        node("6.1", "elided", "VERB"),
        node("7-8", "can't", "_"),
        node(7, "ca", "AUX"),
        node(8, "n't", "PART"),
        node(9, "we", "PRON", "Gloss=x|SpaceAfter=No"),
        node(10, "?", "PUNCT"),
        "",
        node(1, "10 000", "NUM", "SpaceAfter=No"),
        node(2, "!", "PUNCT"),
        "",
    ]
)


def words(example):
    return [(example.text[s.start : s.end], s.label) for s in example.spans]


def load(folder, content, name="c.conllu", **options):
    return load_corpus(write(folder, {name: content}) / name, language="swh", **options)


@pytest.mark.parametrize("name", ["c.conll", "c.iob", "c.bio"])
@pytest.mark.parametrize("sign", [" ", "\t"])
def test_conll(tmp_path, name, sign):
    corpus = load(tmp_path, CONLL.replace(" ", sign), name)
    assert corpus.kind == "tagging"
    assert [e.text for e in corpus.examples] == ["EU rejects #", "Peter Blackburn"]
    assert [words(e) for e in corpus.examples] == [[("EU", "ORG")], [("Peter Blackburn", "PER")]]
    assert [len(e.tokens) for e in corpus.examples] == [3, 2]


def test_comments_of_conll(tmp_path):
    content = "# id 7 domain=en\n# O\na B-x\n"
    assert load(tmp_path, content, "c.conll").examples[0].text == "# a"


def test_faults_of_conll(tmp_path):
    assert "c.conll, line 3: expected 4 columns as in the first line, found 1: 'EU'" in fault(
        load, tmp_path, "a b c O\n\nEU\n", "c.conll"
    )
    message = fault(load, tmp_path, "a O\n\nb O\nc I-x\n", "c.conll")
    assert "c.conll, line 3, field 'tags': expected B-x at token 2, 'c', found 'I-x' behind 'O'" in message
    assert "expected rows, found none" in fault(load, tmp_path, "-DOCSTART- O\n\n", "c.conll")
    assert "tagging needs" in fault(load, tmp_path, "a\nb\n", "c.conll", kind="tagging")


def test_universal_dependencies(tmp_path):
    corpus = load(tmp_path, UD_WITH_IDS)
    first, second = corpus.examples
    # A word of the text that stands for others is replaced by them, unless they make it up.
    assert first.text == "Vamos nos a el mar, can't  we?"
    assert words(first)[:6] == [
        ("Vamos", "VERB"), ("nos", "PRON"), ("a", "ADP"), ("el", "DET"), ("mar", "NOUN"), (",", "PUNCT"),
    ]  # fmt: skip
    assert words(first)[6:] == [("ca", "AUX"), ("n't", "PART"), ("we", "PRON"), ("?", "PUNCT")]
    assert (first.id, second.id) == ("s1", "s2")
    assert (second.text, words(second)) == ("10 000!", [("10 000", "NUM"), ("!", "PUNCT")])
    other = load(tmp_path, UD_WITH_IDS, columns={"tags": "xpos"})
    assert words(other.examples[1]) == [("10 000", "xNUM"), ("!", "xPUNCT")]


UD_WITH_IDS = UD.replace("\n\n", "\n\n# sent_id = s2\n", 1)


def test_text_without_its_line_is_made_of_words_and_spaces(tmp_path):
    without = "\n".join(line for line in UD.splitlines() if not line.startswith("#"))
    assert [e.text for e in load(tmp_path, without).examples] == ["Vamos nos a el mar, can't we?", "10 000!"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (node(1, "a", "X") + "\n" + node(3, "b", "X"), "line 2, field 'ID': expected the word 2, found '3'"),
        (
            "1\ta\tX\n",
            "line 1: expected a number and 9 more columns apart by tabs, found 3 that begin with '1'",
        ),
        (node("x", "a", "X"), "line 1: expected a number"),
        (
            node("1-2", "ab", "_") + "\n" + node(1, "a", "X"),
            "line 1, field 'ID': expected words up to 2, found 1",
        ),
        (node("2-3", "ab", "_"), "line 1, field 'ID': expected a range of words from 1 on, found '2-3'"),
        ("# text = b\n" + node(1, "a", "X"), "line 1, field 'FORM': expected '# text' to have the words"),
        (node(1, "a", "_"), "line 1, field 'upos': expected a tag, found an empty one"),
        (node(1, " ", "X"), "line 1, field 'FORM': expected a token, found an empty one"),
    ],
)
def test_faults_of_universal_dependencies(tmp_path, content, said):
    assert said in fault(load, tmp_path, content)


@pytest.mark.parametrize("folder", ["", "UD_Swahili-Toy/", "whatever/"])
def test_treebanks_under_their_own_names(tmp_path, folder):
    names = ["sw_toy-ud-train", "sw_toy-ud-test"] + (["yo_toy-ud-test"] if not folder else [])
    files = {f"{folder}{name}.conllu": node(1, name, "X") for name in names}
    corpus = load_corpus(write(tmp_path, files))
    found = {(e.language, e.split, e.text) for e in corpus.examples}
    assert found == {((n.startswith("sw") and "swh") or "yor", n.split("-")[-1], n) for n in names}
    alone = load_corpus(tmp_path / f"{folder}sw_toy-ud-test.conllu")
    assert [(e.language, e.split) for e in alone.examples] == [("swh", "test")]


def test_languages_by_folder(tmp_path):
    files = {f"{code}/train.conll": "a O\n" for code in ("swh", "af_Afrikaans-AfriBooms")}
    assert load_corpus(write(tmp_path, files)).languages == ("afr", "swh")
    files = {"train/yo.conll": "a O\n"}
    assert load_corpus(write(tmp_path / "other", files)).languages == ("yor",)


def test_two_treebanks_of_one_language_are_read_as_one(tmp_path):
    files = {f"ko_Korean-{name}/test.conll": "a O\n" for name in ("GSD", "PUD")}
    corpus = load_corpus(write(tmp_path, files))
    assert [(e.language, e.id) for e in corpus.examples] == [("kor", "1"), ("kor", "ko_Korean-PUD/1")]
    assert "are read as one" in corpus.notices[0]


PIECES = (
    *(
        "1",
        "2",
        "1-2",
        "1.1",
        "\t",
        " ",
        "\n",
        "\n\n",
        "\r\n",
        "a",
        "_",
        "O",
        "B-x",
        "I-x",
        "#",
        "# text = a",
    ),
    *(node(1, "a", "X"), node("1-2", "a", "_")),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from(PIECES), max_size=20).map("".join) | st.binary(max_size=80),
    suffix=st.sampled_from(["conll", "conllu"]),
)
def test_any_bytes_are_sentences_or_faults(tmp_path, content, suffix):
    path = write(tmp_path, {f"c.{suffix}": content}) / f"c.{suffix}"
    for read in (
        lambda: load_examples(path, language="swh"),
        lambda: read_examples_to_predict(path, "tagging"),
    ):
        try:
            for example in read():
                assert [example.text[a:b] for a, b in example.tokens]
        except DataError as error:
            assert "expected" in str(error) or "found" in str(error)
