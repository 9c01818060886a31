"""Files and folders → Corpus: what is read, and how faults are told."""

import csv
import io
import json
import random
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_files import fault, jsonl, write
from metaglot.data import CORPORA, load_corpus, load_examples, read_texts
from metaglot.errors import MetaglotError, SettingsError
from metaglot.types import Corpus, Example, Span

FIELDS = ("language", "label", "text")
# What no file may hold is left out: NUL, halves of surrogate pairs, and texts of nothing but space.
# What files are made of, and what breaks them.
PIECES = (
    *(
        b"text",
        b"label",
        b"lang",
        b",",
        b"\t",
        b'"',
        b"\n",
        b"\r\n",
        b"\r",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"1",
    ),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\xe9", b"null", b"\\ud800", b'"text"', b'"label"', b'"spans"'),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    str.strip
)


def row(text="habari", label="greet", **more):
    return {"text": text, "label": label, **more}


def delimited(rows, delimiter):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(FIELDS)
    writer.writerows(rows)
    return out.getvalue()


# --- what is read


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=5), suffix=st.sampled_from(["csv", "tsv", "jsonl", "json"]))
def test_any_text_comes_back_as_it_went_in(tmp_path, texts, suffix):
    rows = [("swh", f"label {i}", text) for i, text in enumerate(texts)]
    path = tmp_path / f"corpus.{suffix}"
    if suffix in {"csv", "tsv"}:
        content = delimited(rows, "," if suffix == "csv" else "\t")
    elif suffix == "jsonl":
        content = jsonl(*(dict(zip(FIELDS, r, strict=True)) for r in rows))
    else:
        content = json.dumps([dict(zip(FIELDS, r, strict=True)) for r in rows], indent=1)
    path.write_bytes(content.encode())
    corpus = load_corpus(path)
    assert [(e.language, e.label, e.text) for e in corpus.examples] == rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | st.lists(
        st.sampled_from(PIECES),
        max_size=40,
    ).map(b"".join),
    suffix=st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "cp1252"]),
)
def test_any_bytes_load_or_say_what_is_wrong(tmp_path, content, suffix, encoding):
    path = tmp_path / f"swh.{suffix}"
    path.write_bytes(content)
    readers = (
        lambda: load_corpus(path, encoding=encoding),
        lambda: load_examples(path, language="swh", encoding=encoding),
        lambda: list(read_texts(path, encoding=encoding)),
    )
    for read in readers:
        try:
            read()
        except MetaglotError as error:
            assert "expected" in str(error) or "found" in str(error)


def test_folder_of_languages(tmp_path):
    write(
        tmp_path,
        {
            "swa/train.jsonl": jsonl(row("moja", "one"), row("mbili", "two")),
            "swa/validation.csv": "label,text\none,moja moja\n",
            "swa/train_5shot.jsonl": "not read",
            "yo/test.tsv": "utt\tintent\nọ̀kan\tone\n",
            "SOURCE.txt": "not read",
            ".git/train.jsonl": "not read",
        },
    )
    corpus = load_corpus(tmp_path)
    assert corpus.languages == ("swh", "yor")
    assert corpus.labels == ("one", "two")
    assert [(e.split, e.text) for e in corpus.select("swh")] == [
        ("train", "moja"),
        ("train", "mbili"),
        ("dev", "moja moja"),
    ]
    assert corpus.select("yor", "test")[0].text == "ọ̀kan"
    assert "train_5shot.jsonl" in " ".join(corpus.notices)


def test_largest_few_shot_file_stands_in_for_train(tmp_path):
    files = {
        f"hau/train_{k}shot.jsonl": jsonl(*(row(f"{i}", label=str(i)) for i in range(k))) for k in (5, 50, 10)
    }
    corpus = load_corpus(write(tmp_path, files))
    assert len(corpus.select("hau", "train")) == 50
    assert "train_50shot.jsonl is the train split" in corpus.notices[0]


@pytest.mark.parametrize(
    "files",
    [
        {"train.csv": "lang,text,label\nsw,a,x\nyo,b,y\n"},
        {"swh.csv": "text,label\na,x\n", "yor.csv": "text,label\nb,y\n"},
        {"train/swh.csv": "text,label\na,x\n", "train/yor.csv": "text,label\nb,y\n"},
    ],
)
def test_other_layouts(tmp_path, files):
    corpus = load_corpus(write(tmp_path, files))
    assert [(e.language, e.text, e.label) for e in corpus.examples] == [("swh", "a", "x"), ("yor", "b", "y")]


def test_columns_by_usual_and_by_mapped_names(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(
        "Locale,utt,intent,partition,headline\nsw-KE,habari yako,greet,train,H\nsw-KE,kwaheri,bye,val,I\n"
    )
    corpus = load_corpus(path)
    assert [(e.text, e.label, e.split) for e in corpus.examples] == [
        ("habari yako", "greet", "train"),
        ("kwaheri", "bye", "dev"),
    ]
    joined = load_corpus(path, columns={"text": "headline+utt", "label": "partition"})
    assert [(e.text, e.label) for e in joined.examples] == [("H habari yako", "train"), ("I kwaheri", "val")]
    assert [e.text for e in load_corpus(path, split="dev").examples] == ["kwaheri"]


def test_numbers_are_labels_and_ids(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(jsonl(row(label=0, id=7), row("b", label=True, id="x")))
    corpus = load_corpus(path, language="swh")
    assert [(e.id, e.label) for e in corpus.examples] == [("7", "0"), ("x", "true")]


def test_mark_crlf_long_cells_and_semicolons(tmp_path):
    path = tmp_path / "c.csv"
    long = "ne" * 600_000
    path.write_bytes(b"\xef\xbb\xbf" + f"text;label\r\n{long};x\r\n😀 مرحبا;y\r\n".encode())
    corpus = load_corpus(path, language="ara")
    assert [e.text for e in corpus.examples] == [long, "😀 مرحبا"]


def test_quotes_in_tsv_are_plain_where_they_do_not_quote(tmp_path):
    path = tmp_path / "c.tsv"
    path.write_text('text\tlabel\n"Habari" alisema\tx\nsema "ndiyo"\ty\n')
    assert [e.text for e in load_corpus(path, language="swh").examples] == [
        '"Habari" alisema',
        'sema "ndiyo"',
    ]


def test_other_encodings(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes("text,label\nçok iyi,x\n".encode("cp1254"))
    message = fault(load_corpus, path, language="tur")
    assert f"{path}, line 2: expected utf-8, found the byte 0xe7 at byte 1" in message
    assert "likely cp1252" in message
    assert load_corpus(path, language="tur", encoding="cp1254").examples[0].text == "çok iyi"
    path.write_bytes("text,label\nçok iyi,x\n".encode("utf-16"))
    assert "likely utf-16" in fault(load_corpus, path, language="tur")
    assert load_corpus(path, language="tur", encoding="utf-16").examples[0].text == "çok iyi"
    with pytest.raises(SettingsError, match="'utf-88'"):
        load_corpus(path, language="tur", encoding="utf-88")


def test_spans_are_characters(tmp_path):
    path = tmp_path / "c.jsonl"
    spans = [{"start_byte": 1, "limit_byte": 3, "label": "T"}, {"start": 0, "end": 1, "label": "U"}]
    path.write_text(jsonl(row("ለ9 ሰ", spans=spans), row("b", spans=None)))
    first, second = load_corpus(path, language="amh").examples
    assert first.spans == (Span(1, 3, "T"), Span(0, 1, "U"))
    assert second.spans == ()
    path.write_text(jsonl(row("ab", spans=[{"start": 1, "end": 3, "label": "T"}])))
    message = fault(load_corpus, path, language="amh")
    assert "line 1, field 'spans': expected a span inside the text's 2 characters, found 1 to 3" in message
    assert load_corpus(path, language="amh", columns={"spans": ""}).examples[0].spans == ()


def test_parquet_with_class_names(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"text": ["a", "b"], "label": [1, 0], "lang": ["swh", "yor"]})
    feature = {"_type": "ClassLabel", "names": ["no", "yes"]}
    info = json.dumps({"info": {"features": {"label": feature, "text": {"_type": "Value"}}}})
    parquet.write_table(table.replace_schema_metadata({"huggingface": info}), tmp_path / "c.parquet")
    assert [e.label for e in load_corpus(tmp_path / "c.parquet").examples] == ["yes", "no"]


# --- languages and ids


def test_languages_of_one_code(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("lang,text,label\npt-BR,a,x\npt-PT,b,x\nen,c,x\nen_ews,d,x\nzz-mine,e,x\nswahilli,f,x\n")
    corpus = load_corpus(path)
    assert [e.language for e in corpus.examples] == ["por_BR", "por_PT", "eng", "eng", "zz-mine", "swahilli"]
    assert [e.id for e in corpus.select("eng")] == ["1", "en_ews/1"]
    told = "\n".join(corpus.notices)
    assert "'en' and 'en_ews' name one language, English (eng)" in told
    assert "'swahilli': it is kept as it is. Did you mean swh (Swahili)" in told


def test_ids_stand_once_in_a_language(tmp_path):
    files = {f"{s}.jsonl": jsonl(row(s, id=0), row(s * 2, id=1)) for s in ("train", "test")}
    corpus = load_corpus(write(tmp_path, files), language="swh")
    assert [e.id for e in corpus.examples] == ["test/0", "test/1", "train/0", "train/1"]


def test_an_id_that_stands_twice_is_a_fault(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(jsonl(row(id=3), row("b", id=4), row("c", id=3)))
    message = fault(load_corpus, path, language="swh")
    assert f"{path}, line 3, field 'id': expected an id of its own, found '3', which line 1 has" in message
    assert [e.id for e in load_corpus(path, language="swh", columns={"id": ""}).examples] == ["1", "2", "3"]


def test_ids_that_count_within_labels(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(jsonl(*(row(f"{label} {i}", label, id=i) for label in "ab" for i in range(3))))
    corpus = load_corpus(path, language="swh")
    assert [e.id for e in corpus.examples] == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]
    assert "count anew within each label" in corpus.notices[-1]


# --- parallel or not


def corpus_of_lengths(folder, lengths):
    for language, sizes in lengths.items():
        rows = (row("n" * size, "abc"[i % 3], id=i) for i, size in enumerate(sizes))
        write(folder, {f"{language}/train.jsonl": jsonl(*rows)})
    return load_corpus(folder)


def test_translations_are_parallel_and_row_numbers_are_not(tmp_path):
    rng = random.Random(0)
    base = [rng.lognormvariate(4, 0.5) + 1 for _ in range(200)]
    translated = {
        lang: [round(b * rng.uniform(0.8, 1.3)) + 1 for b in base] for lang in ("swh", "yor", "hau")
    }
    unrelated = {lang: rng.sample(sizes, len(sizes)) for lang, sizes in translated.items()}
    parallel = corpus_of_lengths(tmp_path / "parallel", translated)
    assert parallel.parallel
    assert "200 texts" in parallel.notices[-1]
    assert not corpus_of_lengths(tmp_path / "counters", unrelated).parallel
    assert not load_corpus(tmp_path / "parallel", parallel=False).parallel
    assert load_corpus(tmp_path / "counters", parallel=True).parallel


def test_lengths_that_only_labels_explain_are_not_parallel(tmp_path):
    rng = random.Random(1)
    lengths = {
        lang: [(20, 60, 180)[i % 3] + rng.randrange(15) for i in range(300)] for lang in ("swh", "yor")
    }
    assert not corpus_of_lengths(tmp_path, lengths).parallel


# --- how faults are told


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.csv", "", "expected rows, found none"),
        ("c.csv", "text,label\n", "expected rows, found none"),
        ("c.csv", "words,label\na,x\n", "found the columns 'words', 'label'"),
        ("c.csv", "words,label\na,x\n", "columns={'text': 'words'}"),
        ("c.csv", "text,gold\na,x\n", "expected a column for the label"),
        ("c.csv", "text,text,label\na,b,x\n", "found 'text' more than once"),
        ("c.csv", "text,label\na,x\nb\n", "line 3: expected 2 cells as in the header, found 1"),
        (
            "c.csv",
            'text,label\na,x\n"b,y\nc,z\n',
            "line 3: expected a row of cells, found a quote that is opened",
        ),
        (
            "c.csv",
            'text,label\n"a"b,x\n',
            "line 2: expected a row of cells, found text after a closing quote",
        ),
        ("c.csv", "text,label\na,x\n ,y\n", "line 3, field 'text': expected a text, found an empty one"),
        ("c.csv", "text,label\na,\n", "line 2, field 'label': expected a name or a number, found an empty"),
        ("c.csv", "text,label\na,x\nb\0,y\n", "line 3: expected text, found a NUL byte"),
        ("c.csv", "text,label,lang\na,x,swh\n", "expected one source of the language, found two"),
        (
            "c.jsonl",
            '{"text": "a", "label": "x"}\n{"text": \n',
            "line 2: expected JSON, found a fault at column",
        ),
        ("c.jsonl", '{"text": "a", "label": "x"}\n7\n', "line 2: expected a JSON object, found '7'"),
        ("c.jsonl", '{"text": null, "label": "x"}\n', "line 1, field 'text': expected a text, found nothing"),
        ("c.jsonl", '{"text": "a"}\n{"text": "b", "label": "x"}\n', "line 1, field 'label': expected a name"),
        ("c.jsonl", '{"text": "a", "label": ["x"]}\n', "several labels"),
        ("c.jsonl", '{"text": "a", "label": 0.5}\n', "found '0.5' (float)"),
        ("c.jsonl", '{"text": "\\ud83d", "label": "x"}\n', "half a character (U+D83D)"),
        ("c.jsonl", "[" * 100_000, "line 1: expected JSON"),
        ("c.json", '[{"text": "a", "label": "x"},\n{"text": "", "label": "x"}]', "line 2, field 'text'"),
        ("c.jsonl", '{"premise": "a", "label": "x"}', "columns={'text': 'premise'}"),
        ("c.jsonl", '{"tokens": ["a"], "label": "x"}', "expected a column for the text"),
        ("c.xlsx", "PK", "expected a file of a known format"),
        ("c.parquet", "PAR1", "expected a Parquet file"),
    ],
)
def test_faults_say_what_and_where(tmp_path, name, content, said):
    path = write(tmp_path, {name: content}) / name
    with pytest.raises(MetaglotError) as caught:
        load_corpus(path, language="swh")
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_faults_of_all_files_in_one_error(tmp_path):
    broken = "text,label\n" + "".join(f"t{i},\n" for i in range(9))
    message = fault(load_corpus, write(tmp_path, {"swh/train.csv": broken, "yor/train.csv": broken}))
    assert message.startswith("found 18 faults in the data:")
    assert message.count("field 'label'") == 10
    assert "yor/train.csv, line 2" in message
    assert "… and 8 more" in message


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"readme.txt": "x"}, "found no data files"),
        ({"swh/words.jsonl": "{}"}, "no file that is named after a split, but words.jsonl"),
        ({"swh/train.csv": "", "swh/train.jsonl": ""}, "found two: train.csv and train.jsonl"),
        ({"swh/dev.csv": "", "swh/valid.csv": ""}, "found two: dev.csv and valid.csv"),
        ({"first_part.csv": ""}, "named after neither a split nor a language: first_part.csv"),
        ({"state.json": "{}"}, "Load it as hf:"),
        ({"train.csv": "text,label\na,x\n"}, "expected a language, found no column for it"),
    ],
)
def test_folders_that_are_no_corpus(tmp_path, files, said):
    assert said in fault(load_corpus, write(tmp_path, files))


def test_names_and_settings_that_do_not_exist(tmp_path):
    write(tmp_path, {"corpus.csv": "lang,text,label\nswh,a,x\n"})
    assert "Did you mean 'home-assistant'" in fault(load_corpus, "home-asistant")
    assert "Did you mean 'corpus.csv'" in fault(load_corpus, tmp_path / "corpsu.csv")
    assert "Did you mean 'label'" in fault(load_corpus, tmp_path / "corpus.csv", columns={"text": "labell"})
    with pytest.raises(SettingsError, match="'text'"):
        load_corpus(tmp_path / "corpus.csv", columns={"txet": "text"})
    with pytest.raises(SettingsError, match="found 'tset'"):
        load_corpus(tmp_path / "corpus.csv", split="tset")
    with pytest.raises(SettingsError, match="built-in"):
        load_corpus("home-assistant", language="swh")
    assert "found none; its splits are unlabelled" in fault(
        load_corpus,
        write(tmp_path, {"s.csv": "split,text,label\nunlabelled,a,x\n"}) / "s.csv",
        language="swh",
    )


def toy():
    """Load a built-in corpus, as the registry would."""
    examples = [Example(s, "a", "x", "swh", s) for s in ("train", "dev", "test")]
    return Corpus("toy", tuple(examples), parallel=True)


def test_built_in_corpora_take_split_and_parallel(monkeypatch):
    monkeypatch.setitem(CORPORA._targets, "toy", f"{__name__}:toy")
    assert load_corpus("toy") == toy()
    narrowed = load_corpus("toy", split="dev", parallel=False)
    assert [e.split for e in narrowed.examples] == ["dev"]
    assert not narrowed.parallel


# --- few-shot files and texts


def test_examples_of_one_language(tmp_path):
    path = tmp_path / "swahili.csv"
    path.write_text("text,label\nhabari,greet\nkwaheri,bye\n")
    assert [(e.language, e.label, e.split) for e in load_examples(path, language="por_BR")] == [
        ("por_BR", "greet", "train"),
        ("por_BR", "bye", "train"),
    ]
    path.write_text("lang,text,label\nsw,a,x\nyo,b,x\n")
    message = fault(load_examples, path, language="swh")
    assert "line 3, field 'language': expected examples in Swahili alone, found 'yo'" in message
    assert "found a folder" in fault(load_examples, tmp_path, language="swh")


def test_texts_to_predict(tmp_path):
    lines = tmp_path / "in.txt"
    lines.write_bytes(b"\xef\xbb\xbfmoja\r\n\r\nmbili")
    assert list(read_texts(lines)) == ["moja", "", "mbili"]
    table = tmp_path / "in.csv"
    table.write_text("n,sentence\n1,moja\n2,\n")
    texts = read_texts(table)
    assert next(texts) == "moja"
    assert "line 3, field 'sentence'" in fault(next, texts)
    assert list(read_texts(table, column="n")) == ["1", "2"]


def test_text_is_not_normalized_in_silence(tmp_path):
    decomposed = unicodedata.normalize("NFD", "ọ̀kan é ")
    path = write(tmp_path, {"c.jsonl": jsonl(row(decomposed))}) / "c.jsonl"
    assert load_corpus(path, language="yor").examples[0].text == decomposed


def test_unknown_language_option_is_kept_as_it_is(tmp_path):
    path = write(tmp_path, {"c.jsonl": jsonl(row())}) / "c.jsonl"
    assert load_corpus(path, language="Klingonish!").languages == ("klingonish",)
