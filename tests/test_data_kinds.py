"""Files of each kind → examples: what is read, which kind is found, and how faults are told."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_files import fault, jsonl, write
from metaglot.data import load_corpus, load_examples, read_examples_to_predict
from metaglot.data.columns import READABLE
from metaglot.errors import DataError, MetaglotError, SettingsError
from metaglot.kinds.bio import spans_of, tags_of
from metaglot.types import Span

NER = {
    "tokens": ["Asha", "lives", "in", "Dar", "es", "Salaam"],
    "tags": ["B-PER", "O", "O", *["B-LOC"], "I-LOC", "I-LOC"],
}
NILE = {"text": "The Nile flows through Egypt .", "label": "flows"}


def load(folder, *rows, name="c.jsonl", language="swh", **options):
    content = rows[0] if isinstance(rows[0], str) else jsonl(*rows)
    return load_corpus(write(folder, {name: content}) / name, language=language, **options)


def words(example):
    return [(example.text[s.start : s.end], s.label) for s in example.spans]


def refused(folder, *rows, **options):
    return fault(load, folder, *rows, **options)


# --- which kind it is


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"text": "a b", "label": "x"}, "classification"),
        ({"premise": "a", "hypothesis": "b", "label": "x"}, "pairs"),
        ({"Sentence1": "a", "Sentence2": "b", "label": 1}, "pairs"),
        ({"tokens": ["a"], "ner_tags": ["O"]}, "tagging"),
        ({"text": "a b", "spans": [{"start": 0, "end": 1, "label": "x"}]}, "tagging"),
        ({"text": "<e1>a</e1> <e2>b</e2>", "label": "x"}, "relations"),
        ({"text": "a b", "head": [0, 1], "tail": {"start": 2, "end": 3}, "relation": "x"}, "relations"),
        ({"text": "a b", "intent": "IN:X", "mr": "[IN:X [SL:Y b ] ]"}, "parsing"),
        ({"text": "a b", "label": "x", "parse": "(S a b)"}, "classification"),
        ({"text": "a b", "label": "x", "head": "a", "tail": "b"}, "classification"),
    ],
)
def test_the_kind_is_told_from_columns_and_first_rows(tmp_path, row, kind):
    corpus = load(tmp_path, row)
    assert corpus.kind == kind
    assert corpus.notices == ("Rows that do not say their split count as train.",)


def test_labels_with_spans_are_classification_with_a_notice(tmp_path):
    row = {"text": "wake me at 5", "intent": "alarm", **{"tokens": ["wake", "me", "at", "5"]}}
    row["tags"] = ["O", "O", "O", "B-time"]
    corpus = load(tmp_path, row, row)
    assert corpus.kind == "classification"
    assert [n for n in corpus.notices if "kind='tagging'" in n and "kind='frames'" in n] == [
        corpus.notices[-1]
    ]
    assert len(load(tmp_path, row, kind="classification").notices) == 1
    tagged = load(tmp_path, row, kind="tagging")
    assert [(e.label, words(e)) for e in tagged.examples] == [("", [("5", "time")])]
    frames = load(tmp_path, row, kind="frames")
    assert [(e.label, words(e)) for e in frames.examples] == [("alarm", [("5", "time")])]


def test_a_mapped_column_decides(tmp_path):
    row = {"premise": "a", "hypothesis": "b", "label": "x"}
    joined = load(tmp_path, row, columns={"text": "premise+hypothesis"})
    assert [(joined.kind, e.text, e.pair) for e in joined.examples] == [("classification", "a b", "")]
    mapped = load(tmp_path, {"q": "a", "r": "b", "label": "x"}, columns={"text": "q", "pair": "r"})
    assert [(mapped.kind, e.text, e.pair) for e in mapped.examples] == [("pairs", "a", "b")]


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("pairs", {"text": "a", "label": "x"}, "the second text of a pair"),
        ("tagging", {"text": "a", "label": "x"}, "which tagging needs"),
        ("frames", {"tokens": ["a"], "tags": ["O"]}, "the label (label_text"),
        ("relations", {"text": "a", "label": "x"}, "two entities, which relations needs"),
        ("relations", {"text": "<e1>a</e1> <e2>b</e2>"}, "which relations needs"),
        ("parsing", {"text": "a", "label": "x"}, "which parsing needs"),
        ("classification", {"premise": "a", "hypothesis": "b", "label": "x"}, "'premise+hypothesis'"),
    ],
)
def test_what_a_kind_lacks_is_named(tmp_path, kind, row, said):
    assert said in refused(tmp_path, row, kind=kind)


def test_kinds_that_there_are_not(tmp_path):
    with pytest.raises(SettingsError, match="Did you mean 'tagging'"):
        load(tmp_path, NER, kind="taging")


def test_the_first_table_decides_for_all(tmp_path):
    files = {"swh/train.jsonl": jsonl(NER), "yor/train.jsonl": jsonl({"text": "a", "label": "x"})}
    message = fault(load_corpus, write(tmp_path, files))
    assert "yor/train.jsonl" in message
    assert "which tagging needs" in message


def test_built_in_corpora_of_another_kind():
    pytest.importorskip("home_assistant_intents")
    one = {"languages": ["eng"], "per_intent": 10}
    plain = load_corpus("home-assistant", options=one)
    tagged = load_corpus("home-assistant", kind="tagging", options=one)
    frames = load_corpus("home-assistant", kind="frames", options=one)
    assert (plain.kind, tagged.kind, frames.kind) == ("classification", "tagging", "frames")
    assert tagged.labels == ("",)
    assert frames.examples == plain.examples
    assert [e.spans for e in tagged.examples] == [e.spans for e in plain.examples]
    with pytest.raises(SettingsError, match="classification, tagging, frames"):
        load_corpus("home-assistant", kind="pairs", options=one)


# --- tagging


def test_tokens_with_tags(tmp_path):
    (example,) = load(tmp_path, NER).examples
    assert example.text == "Asha lives in Dar es Salaam"
    assert words(example) == [("Asha", "PER"), ("Dar es Salaam", "LOC")]
    assert [example.text[a:b] for a, b in example.tokens] == NER["tokens"]
    assert example.label == ""


def test_one_label_a_token(tmp_path):
    (example,) = load(
        tmp_path, {"words": ["10 000", "birds", "!"], "upos": ["NUM", "NOUN", "PUNCT"]}
    ).examples
    assert words(example) == [("10 000", "NUM"), ("birds", "NOUN"), ("!", "PUNCT")]


def test_tokens_are_found_in_the_text_whatever_their_case_and_form(tmp_path):
    row = {"text": "İstanbul'da  สำหรับ É ß!", "tokens": ["i̇stanbul", "'da", "สําหรับ", "e\u0301", "SS", "!"]}
    (example,) = load(tmp_path, row | {"tags": ["B-x", "O", "B-y", "O", "O", "O"]}).examples
    assert [example.text[a:b] for a, b in example.tokens] == ["İstanbul", "'da", "สำหรับ", "É", "ß", "!"]
    assert words(example) == [("İstanbul", "x"), ("สำหรับ", "y")]
    message = refused(tmp_path, {"text": "one two", "tokens": ["two", "one"], "tags": ["O", "O"]})
    assert (
        "line 1, field 'tokens': expected the tokens in the order of the text, found token 2, 'one'"
        in message
    )
    assert load(tmp_path, row | {"text": None, "tags": ["O"] * 6}).examples[0].text.startswith("i̇stanbul 'da")


def test_cells_of_a_table_hold_words_or_json(tmp_path):
    table = 'tokens\ttags\nAsha lives\tB-PER O\n["a b", "c"]\t["O", "O"]\n'
    first, second = load(tmp_path, table, name="c.tsv").examples
    assert (first.text, words(first), len(second.tokens)) == ("Asha lives", [("Asha", "PER")], 2)
    assert "apart by spaces, or a JSON list" in refused(
        tmp_path, "tokens\ttags\n['a' 'b']\tO O\n", name="c.tsv"
    )


@pytest.mark.parametrize(
    ("tags", "spans", "told"),
    [
        (["B-x", "I-x", "B-x", "O"], [("a b", "x"), ("c", "x")], ""),
        (["I-x", "B-x", "O", "I-y"], [("a", "x"), ("b", "x"), ("d", "y")], "IOB1"),
        (["B-x", "E-x", "S-x", "O"], [("a b", "x"), ("c", "x")], ""),
        (["B-x", "L-x", "U-y", "O"], [("a b", "x"), ("c", "y")], ""),
        (["B-x", "M-x", "E-x", "O"], [("a b c", "x")], ""),
        (["x", "x", "y", "O"], [("a b", "x"), ("c", "y")], "no B- and I-, but O"),
        (["O", "O", "O", "O"], [], ""),
        (["x", "x", "y", "z"], [("a", "x"), ("b", "x"), ("c", "y"), ("d", "z")], ""),
    ],
)
def test_schemes(tmp_path, tags, spans, told):
    corpus = load(tmp_path, {"tokens": list("abcd"), "tags": tags})
    assert words(corpus.examples[0]) == spans
    assert bool(told) == (len(corpus.notices) == 2)
    assert told in corpus.notices[-1]


def test_the_scheme_is_the_whole_corpus_s(tmp_path):
    outside = {"tokens": ["a", "b"], "tags": ["O", "O"]}
    corpus = load(tmp_path, outside, {"tokens": ["c"], "tags": ["B-x"]})
    assert [words(e) for e in corpus.examples] == [[], [("c", "x")]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tags": ["O"]}, "expected a tag for each of the 2 tokens, found 1 tags"),
        ({"tags": ["O", "O", "B-x"]}, "found 3 tags, from 'B-x' (str) on without a token"),
        ({"tags": ["O", "I-x"]}, "expected B-x at token 2, 'b', found 'I-x' behind 'O'"),
        ({"tags": ["I-x", "O"]}, "expected B-x at token 1, 'a', found 'I-x' as the first"),
        ({"tags": ["B-x", "I-y"]}, "expected B-y at token 2, 'b', found 'I-y' behind 'B-x'"),
        (
            {"tags": ["B-x", "O", "x"], "tokens": list("abc")},
            "expected O, or a tag such as B-x or I-x at token 3",
        ),
        ({"tags": ["B-x", "B-"]}, "expected O, or a tag such as B-x or I-x at token 2, 'b', found 'B-'"),
        (
            {"tags": ["B-x", "S-x"]},
            "expected S-x, as no tag behind goes on with it, at token 1, 'a', found 'B-x'",
        ),
        ({"tags": ["S-x", "E-x"]}, "expected B-x at token 2, 'b', found 'E-x' behind 'S-x'"),
        ({"tags": ["O", ""]}, "expected a tag, found an empty one, '', as number 2"),
        ({"tags": ["O", 3]}, "found '3' (int) as number 2"),
        ({"tags": "O"}, "found 1 tags"),
        ({"tokens": ["a", " "]}, "expected a token, found an empty one, ' ', as number 2"),
        ({"tokens": []}, "expected a list of tokens, found an empty one"),
        ({"tokens": None}, "expected a list of tokens, found nothing"),
        ({"tokens": ["a", None]}, "expected a token, found nothing as number 2"),
    ],
)
def test_faults_of_tags_name_line_and_token(tmp_path, row, said):
    message = refused(tmp_path, NER, {"tokens": ["a", "b"], "tags": ["O", "O"]} | row)
    assert said in message
    assert "line 2, field" in message


def test_an_i_without_b_is_mended_on_request_alone(tmp_path):
    rows = [NER, {"tokens": ["a", "b"], "tags": ["O", "I-x"]}]
    assert "mend=True" in refused(tmp_path, *rows)
    corpus = load(tmp_path, *rows, mend=True)
    assert words(corpus.examples[1]) == [("b", "x")]
    assert "1 tag(s) that went on with no span" in corpus.notices[-1]


def test_spans_that_overlap_or_cut_tokens(tmp_path):
    def row(*spans, **more):
        return {
            "text": "pay 100 USD",
            "spans": [dict(zip(("start", "end", "label"), s, strict=True)) for s in spans],
        } | more

    (example,) = load(tmp_path, row((8, 11, "b"), (4, 7, "a"))).examples
    assert example.spans == (Span(4, 7, "a"), Span(8, 11, "b"))
    message = refused(tmp_path, row((8, 11, "money"), (4, 11, "sum")))
    assert "'sum' at 4 to 11 ('100 USD') and 'money' at 8 to 11 ('USD')" in message
    mended = load(tmp_path, row((8, 11, "money"), (4, 11, "sum")), mend=True)
    assert mended.examples[0].spans == (Span(4, 11, "sum"),)
    assert "1 span(s) inside of longer ones" in mended.notices[-1]
    assert "found 4 to 12" in refused(tmp_path, row((4, 12, "a")))
    tokens = {"tokens": ["pay", "100", "USD"]}
    assert load(tmp_path, row((4, 11, "a"), **tokens)).examples[0].tokens == ((0, 3), (4, 7), (8, 11))
    cut = refused(tmp_path, row((4, 9, "a"), **tokens))
    assert "found 'a', which ends at 9, inside of token 3, 'USD' at 8 to 11" in cut


def test_class_numbers_of_tags(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"tokens": [["a", "b"]], "ner_tags": [[1, 2]]})
    for sequence in ("Sequence", "List"):
        names = {"feature": {"_type": "ClassLabel", "names": ["O", "B-x", "I-x"]}, "_type": sequence}
        info = json.dumps({"info": {"features": {"ner_tags": names}}})
        parquet.write_table(table.replace_schema_metadata({"huggingface": info}), tmp_path / "c.parquet")
        corpus = load_corpus(tmp_path / "c.parquet", language="swh")
        assert words(corpus.examples[0]) == [("a b", "x")]
    parquet.write_table(table, tmp_path / "c.parquet")
    assert "names of the classes" in fault(load_corpus, tmp_path / "c.parquet", language="swh")


def test_several_columns_of_tags_are_told(tmp_path):
    row = {"tokens": ["a"], "pos_tags": ["NOUN"], "ner_tags": ["O"]}
    corpus = load(tmp_path, row)
    assert corpus.examples[0].spans == ()
    assert "'ner_tags'; columns={'tags': 'pos_tags'}" in corpus.notices[-1]
    assert words(load(tmp_path, row, columns={"tags": "pos_tags"}).examples[0]) == [("a", "NOUN")]


def test_ids_that_count_within_labels_do_so_without_them(tmp_path):
    rows = [
        {"id": i, "label": label, "text": f"{label} {i}", "spans": [{"start": 0, "end": 1, "label": "s"}]}
        for label in "ab"
        for i in range(3)
    ]
    assert [e.id for e in load(tmp_path, *rows, kind="tagging").examples][:4] == ["a/0", "a/1", "a/2", "b/0"]


TOKENS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4).filter(
        str.strip
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=TOKENS,
    choices=st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), min_size=6, max_size=6),
)
def test_spans_and_tags_go_both_ways(tmp_path, tokens, choices):
    tags, before = [], "O"
    for tag in choices[: len(tokens)]:
        before = tag if tag[:1] != "I" or before[2:] == tag[2:] else "O"
        tags.append(before)
    (example,) = load(tmp_path, {"tokens": tokens, "tags": tags}, kind="tagging").examples
    assert tags_of(example.spans, example.tokens) == tags
    assert spans_of(tags, example.tokens) == example.spans
    assert [example.text[a:b] for a, b in example.tokens] == tokens
    again = [{"start": s.start, "end": s.end, "label": s.label} for s in example.spans]
    row = {"text": example.text, "tokens": tokens, "spans": again}
    assert load(tmp_path, row, kind="tagging").examples[0].spans == example.spans


# --- pairs


def test_pairs(tmp_path):
    (example,) = load(tmp_path, {"premise": "It rains .", "hypothesis": "It is wet .", "label": 0}).examples
    assert (example.text, example.pair, example.label) == ("It rains .", "It is wet .", "0")
    row = {"premise": "It rains .", "hypothesis": " ", "label": 0}
    message = refused(tmp_path, row)
    assert "line 1, field 'hypothesis': expected the second text of a pair, found an empty one" in message
    assert "field 'premise'" in refused(tmp_path, row | {"premise": "", "hypothesis": "a"})


# --- relations


@pytest.mark.parametrize(
    ("marked", "text", "first", "second"),
    [
        ("The <e1> Nile </e1> in <e2>Egypt</e2>.", "The Nile in Egypt.", "Nile", "Egypt"),
        ("<e2> Maggi </e2> of<e1> Nestlé </e1>s", "Maggi of Nestlés", "Nestlé", "Maggi"),
        ("L'<e1> Oréal </e1>, <e2>  Paris </e2>", "L'Oréal, Paris", "Oréal", "Paris"),
        ("<e1>中</e1><e2>国</e2>", "中国", "中", "国"),
    ],
)
def test_markers_are_taken_out(tmp_path, marked, text, first, second):
    (example,) = load(tmp_path, {"text": marked, "label": "x"}).examples
    assert example.text == text
    assert words(example) == [(first, "e1"), (second, "e2")]


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        ("<e1>a</e1> b", "the marker <e2> once in the text, found it nowhere"),
        ("<e1>a</e1> <e2>b</e2> <e1>c</e1>", "the marker <e1> once in the text, found it 2 times"),
        ("<e1>a <e2>b</e1> c</e2>", "found markers that cross"),
        ("<e1>a <e2>b</e2> c</e1>", "found one inside the other"),
        ("</e1>a<e1> <e2>b</e2>", "expected <e1> before </e1>"),
        ("<e1> </e1> <e2>b</e2>", "found nothing inside of <e1>"),
    ],
)
def test_faults_of_markers(tmp_path, marked, said):
    good = {"text": "<e1>a</e1> <e2>b</e2>", "label": "x"}
    message = refused(tmp_path, good, good | {"text": marked})
    assert "line 2, field 'text': expected" in message
    assert said in message


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        ([4, 8], [23, 28]),
        ({"start": 4, "end": 8}, {"start": 23, "end": 28}),
        ({"name": "nile", "pos": [4, 8]}, {"name": "egypt", "pos": [23, 28]}),
    ],
)
def test_entities_by_characters(tmp_path, head, tail):
    (example,) = load(tmp_path, NILE | {"h": head, "t": tail}).examples
    assert words(example) == [("Nile", "e1"), ("Egypt", "e2")]


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (["nile", "Q1", [[1], [0]]], ["egypt", "Q2", [[4]]]),
        ({"text": "nile", "indices": [[1]]}, {"text": "egypt", "indices": [[4]]}),
        ({"pos": [1, 2]}, {"pos": [4, 5]}),
    ],
)
def test_entities_by_tokens(tmp_path, head, tail):
    row = {"tokens": NILE["text"].split(), "h": head, "t": tail}
    files = {
        "c.json": json.dumps({"P1": [row, row], "P2": [row]}),
        "d.json": json.dumps({"P1": [row]}, indent=1),
    }
    corpus = load_corpus(write(tmp_path, files) / "c.json", language="eng")
    assert (corpus.kind, corpus.labels) == ("relations", ("P1", "P2"))
    assert [e.id for e in corpus.examples] == ["P1/0", "P1/1", "P2/0"]
    assert words(corpus.examples[0]) == [("Nile", "e1"), ("Egypt", "e2")]
    assert len(corpus.examples[0].tokens) == 6
    assert load_corpus(tmp_path / "d.json", language="eng").examples[0].spans == corpus.examples[0].spans


@pytest.mark.parametrize(
    ("head", "tail", "said"),
    [
        ([4, 8], [4, 8], "expected two entities that share no character"),
        ([4, 14], [9, 20], "e1 at 4 to 14 ('Nile flows') and e2 at 9 to 20 ('flows throu')"),
        ([4, 8], [23, 99], "expected a span inside the text's 30 characters, found 23 to 99"),
        ([8, 8], [23, 28], "found 8 to 8"),
        ([4, 8], None, "expected an entity's place, found nothing"),
        ([4, 8], ["e", "Q", [[3, 5]]], "expected tokens side by side"),
        ([4, 8], ["e", "Q", [[30]]], "expected numbers of tokens from 0 to"),
        ([4, 8], ["e", "Q", []], "expected an entity's place"),
    ],
)
def test_faults_of_entities(tmp_path, head, tail, said):
    good = NILE | {"h": [4, 8], "t": [23, 28]}
    message = refused(tmp_path, good, good | {"h": head, "t": tail})
    assert said in message
    assert "line 2, field" in message


def test_entities_may_touch(tmp_path):
    (example,) = load(tmp_path, NILE | {"h": [4, 6], "t": [6, 8]}).examples
    assert words(example) == [("Ni", "e1"), ("le", "e2")]


def test_rows_that_do_not_fit_are_left_out_on_request_alone(tmp_path):
    good, empty = (
        {"text": "<e1>a</e1> <e2>b</e2>", "label": "x"},
        {"text": "<e1></e1> <e2>b</e2>", "label": "x"},
    )
    assert "leaves such rows out" in refused(tmp_path, good, empty)
    corpus = load(tmp_path, good, empty, mend=True)
    assert len(corpus.examples) == 1
    assert "1 row(s) were left out, the first being" in corpus.notices[-1]
    assert "nowhere" in refused(tmp_path, good, {"text": "a", "label": "x"}, mend=True)


# --- parsing


def test_trees(tmp_path):
    row = {"text": "call my aunt now", "mr": "[IN:CALL [SL:WHO my aunt ] [SL:WHEN now ] ]"}
    (example,) = load(tmp_path, row).examples
    assert words(example) == [("call my aunt now", "IN:CALL"), ("my aunt", "SL:WHO"), ("now", "SL:WHEN")]
    message = refused(tmp_path, row, row | {"mr": "[IN:CALL [SL:WHO my aunt ]"})
    assert "line 2, field 'mr': expected a ']' for 'IN:CALL'" in message
    assert "line 2, field 'mr': expected words" in refused(tmp_path, row, row | {"text": "call her"})


# --- examples and what is to be predicted


def test_examples_of_a_kind(tmp_path):
    path = write(tmp_path, {"few.jsonl": jsonl(NER, NER)}) / "few.jsonl"
    few = load_examples(path, language="swh", kind="tagging")
    assert [len(e.spans) for e in few] == [2, 2]
    assert load_examples(path, language="swh") == few
    assert "frames needs" in fault(load_examples, path, language="swh", kind="frames")


def asked(path, kind, **options):
    return [
        (e.text, e.pair, words(e), len(e.tokens)) for e in read_examples_to_predict(path, kind, **options)
    ]


def test_what_is_to_be_predicted_has_no_answers(tmp_path):
    write(
        tmp_path,
        {
            "ner.jsonl": jsonl(NER, {"tokens": ["a"], "tags": "any"}),
            "texts.jsonl": jsonl({"text": "a b", "spans": "any"}),
            "pairs.csv": "premise,hypothesis\na,b\n",
            "nile.jsonl": jsonl({"text": "<e1>a</e1> <e2>b</e2>"}),
            "nile.txt": "the <e1>Nile</e1> of <e2>Egypt</e2>\n",
            "lines.txt": "a b\n\nc",
            "c.conll": "Asha\nlives\n\nhere\n",
        },
    )
    assert asked(tmp_path / "ner.jsonl", "tagging") == [
        ("Asha lives in Dar es Salaam", "", [], 6),
        ("a", "", [], 1),
    ]
    assert asked(tmp_path / "ner.jsonl", "frames")[1] == ("a", "", [], 1)
    assert asked(tmp_path / "texts.jsonl", "parsing") == [("a b", "", [], 0)]
    assert asked(tmp_path / "texts.jsonl", "frames") == [("a b", "", [], 0)]
    assert asked(tmp_path / "pairs.csv", "pairs") == [("a", "b", [], 0)]
    assert asked(tmp_path / "nile.jsonl", "relations") == [("a b", "", [("a", "e1"), ("b", "e2")], 0)]
    assert asked(tmp_path / "nile.txt", "relations")[0][2] == [("Nile", "e1"), ("Egypt", "e2")]
    assert [a[0] for a in asked(tmp_path / "lines.txt", "tagging")] == ["a b", "", "c"]
    assert asked(tmp_path / "c.conll", "tagging") == [("Asha lives", "", [], 2), ("here", "", [], 1)]
    first, second = read_examples_to_predict(tmp_path / "ner.jsonl", "tagging", language="swh")
    assert (first.id, second.id, first.language, first.label) == ("1", "2", "swh", "")


def test_what_cannot_be_predicted(tmp_path):
    write(tmp_path, {"a.txt": "a\n", "b.jsonl": jsonl({"premise": "a", "hypothesis": "b"}, {"premise": "a"})})
    assert "a file of lines" in fault(asked, tmp_path / "a.txt", "pairs")
    assert "a.txt, line 1: expected the marker <e1>" in fault(asked, tmp_path / "a.txt", "relations")
    rows = read_examples_to_predict(tmp_path / "b.jsonl", "pairs")
    assert next(rows).pair == "b"
    assert "line 2, field 'hypothesis'" in fault(next, rows)
    with pytest.raises(SettingsError, match="'tagging'"):
        asked(tmp_path / "a.txt", "taging")


# --- whatever is written


JSON = st.recursive(
    st.sampled_from([None, 0, 1, 3, -1, 0.5, "", " ", "a", "b", "a b", "O", "B-x", "I-x", "[IN:X ]"])
    | st.sampled_from(["[IN:X [SL:Y a ] ]", "<e1>a</e1> <e2>b</e2>", "<e1>", "</e1>", "\ud800", "\0", "é"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["start", "end", "label", "pos", "indices"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = ("text", "label", "id", "premise", "hypothesis", "tokens", "tags", "spans", "head", "tail", "mr")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6), min_size=1, max_size=3),
    kind=st.sampled_from([None, *READABLE]),
    mend=st.booleans(),
)
def test_any_row_is_an_example_or_a_fault(tmp_path, rows, kind, mend):
    path = tmp_path / "swh.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        corpus = load_corpus(path, language="swh", kind=kind, mend=mend)
    except DataError as error:
        assert "expected" in str(error) or "found" in str(error)
    else:
        for example in corpus.examples:
            assert example.text.strip()
            assert all(0 <= s.start < s.end <= len(example.text) and s.label for s in example.spans)
            assert list(example.tokens) == sorted(set(example.tokens))
            assert bool(example.pair) == (corpus.kind == "pairs")
            assert bool(example.label) == (corpus.kind not in {"tagging", "parsing"})
    for asked_for in READABLE:
        try:
            list(read_examples_to_predict(path, asked_for))
        except MetaglotError as error:
            assert "expected" in str(error) or "found" in str(error)
