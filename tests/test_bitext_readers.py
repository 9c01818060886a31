"""Pairs of sentences from every format and layout; what cannot be read is told by its place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaglot.bitext import BITEXTS, load_bitext
from metaglot.bitext.files import pair_of
from metaglot.errors import DataError, LanguageError, MetaglotError, SettingsError

EN = ["One day.", "Two days.", 'A "quoted" day.']
SW = ["Siku moja.", "Siku mbili.", 'Siku "iliyonukuliwa".']


@pytest.fixture
def write(tmp_path):
    def file(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    file.root = tmp_path
    return file


def tsv(*columns, header=""):
    return header + "".join("\t".join(row) + "\n" for row in zip(*columns, strict=True))


def said(bitext):
    return [(p.source, p.target) for p in bitext.pairs]


PAIRS = list(zip(EN, SW, strict=True))


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4"><header srclang="en"/><body>
{units}</body></tmx>
"""


def tmx(pairs):
    unit = (
        '<tu tuid="{n}"><tuv xml:lang="EN-us"><seg>{}</seg></tuv>'
        "<tuv xml:lang='sw'><seg><ph>&lt;b></ph>{}</seg></tuv></tu>\n"
    )
    return TMX.format(units="".join(unit.format(*pair, n=n) for n, pair in enumerate(pairs)))


PO = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Language: sw\\n"\n'


def po(pairs):
    quoted = [[json.dumps(each, ensure_ascii=False) for each in pair] for pair in pairs]
    return PO + "".join(f"\nmsgid {source}\nmsgstr {target}\n" for source, target in quoted)


FILES = {
    "en-sw.tsv": tsv(EN, SW),
    "train.en-sw.tsv": tsv(EN, SW),
    "a/en-sw/train.tsv": tsv(EN, SW),
    "sentences.tsv": tsv(EN, SW, header="en\tsw\n"),
    "both.csv": "source,target,source_language,target_language\n"
    + "".join('"{}","{}",en,Swahili\n'.format(*(t.replace('"', '""') for t in pair)) for pair in PAIRS),
    "en_sw.csv": "src,tgt\n"
    + "".join('"{}","{}"\n'.format(*(t.replace('"', '""') for t in p)) for p in PAIRS),
    "flat.jsonl": jsonl({"en": a, "sw": b, "id": n} for n, (a, b) in enumerate(PAIRS)),
    "hf.jsonl": jsonl({"translation": {"en": a, "sw": b}} for a, b in PAIRS),
    "many.json": json.dumps(
        [{"translation": {"language": ["en", "sw"], "translation": pair}} for pair in PAIRS]
    ),
    "memory.tmx": tmx(PAIRS),
    "x.po": po(PAIRS),
    "sw/LC_MESSAGES/django.po": po(PAIRS).replace('"Language: sw\\n"\n', ""),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_and_the_folder_that_it_is_in(write, name):
    if name.endswith(".po"):
        pytest.importorskip("polib")
    path = write(name, FILES[name])
    folder = load_bitext(write.root)
    assert said(folder) == PAIRS
    assert folder.directions == (("eng", "swh"),)
    assert len({pair.id for pair in folder.pairs}) == 3
    if "LC_MESSAGES" not in name:  # there it is the folder that says the language
        assert said(load_bitext(path)) == PAIRS


def test_files_in_step(write):
    write("corpus/train.en", "\n".join(EN) + "\n")
    write("corpus/train.sw", "\n".join(SW))  # the last line may end without a break
    write("corpus/dev.en-sw.en", "One.\n")
    write("corpus/dev.en-sw.sw", "Moja.\n")
    folder = load_bitext(write.root / "corpus")
    assert said(load_bitext(write.root / "corpus" / "train")) == PAIRS
    assert folder.count() == {("eng", "swh", "train"): 3, ("eng", "swh", "dev"): 1}


def test_files_in_step_of_three_languages_are_parallel(write):
    for code, text in {"en": "One\nTwo\n", "sw": "Moja\nMbili\n", "fr": "Un\nDeux\n"}.items():
        write(f"dev.{code}", text)
    bitext = load_bitext(write.root)
    assert bitext.directions == (("eng", "fra"), ("eng", "swh"))
    assert bitext.parallel
    assert {pair.id for pair in bitext.select("swh")} == {pair.id for pair in bitext.select("fra")}
    assert said(load_bitext(write.root, languages=("fr", "sw"))) == [("Un", "Moja"), ("Deux", "Mbili")]


def test_files_of_unequal_length_are_told_with_their_lengths(write):
    write("x.en", "One\nTwo\nThree\n")
    write("x.sw", "Moja\n")
    with pytest.raises(
        DataError, match=r"x.sw, line 2: expected as many lines in each file, found 3 in x.en, 1"
    ):
        load_bitext(write.root / "x")


def test_a_folder_a_pair(write):
    for pair in ("en-sw", "fr-ee"):
        for split in ("train", "dev", "test"):
            write(f"{pair}/{split}.tsv", f"{pair} {split}\tx{pair} {split}\n")
    bitext = load_bitext(write.root)
    assert bitext.directions == (("eng", "swh"), ("fra", "ewe"))
    assert bitext.pivot is None
    assert not bitext.parallel
    assert [p.split for p in bitext.select("ewe")] == ["train", "dev", "test"]
    assert [p.split for p in load_bitext(write.root, split="dev").pairs] == ["dev", "dev"]


def test_two_files_of_one_pair_have_ids_apart(write):
    write("news.en-sw.tsv", tsv(EN, SW))
    write("web.en-sw.tsv", tsv(EN, SW))
    assert len({pair.id for pair in load_bitext(write.root).pairs}) == 6


def test_columns_in_many_languages_are_pairs_with_english(write):
    path = write("flores.tsv", "id\tfr\ten\tsw\nx1\tUn\tOne\tMoja\nx2\tDeux\tTwo\t\n")
    bitext = load_bitext(path)
    assert [(p.id, p.source, p.target) for p in bitext.pairs] == [
        ("x1", "One", "Un"),
        ("x1", "One", "Moja"),
        ("x2", "Two", "Deux"),
    ]
    assert bitext.parallel
    assert any("1 pair(s) with an empty side" in n and "line 3, field 'sw'" in n for n in bitext.notices)


def test_id_is_indonesian_beside_one_other_language(write):
    bitext = load_bitext(write("t.csv", "en,id\nOne,Satu\n"))
    assert bitext.directions == (("eng", "ind"),)


def test_columns_by_any_name(write):
    path = write("t.csv", "english,kiswahili,where\nOne,Moja,valid\n")
    bitext = load_bitext(
        path,
        columns={"source": "english", "target": "kiswahili", "split": "where"},
        languages=("English", "Swahili"),
    )
    assert [(p.source, p.target, p.split) for p in bitext.pairs] == [("One", "Moja", "dev")]
    assert bitext.languages == ("eng", "swh")


def test_a_turned_table(write):
    path = write("sw-en.tsv", tsv(EN, SW))
    bitext = load_bitext(path, turned=True)
    assert (bitext.pairs[0].source_language, bitext.pairs[0].source) == ("eng", EN[0])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("en-sw.tsv", "One\tMoja\nTwo\n", r"en-sw.tsv, line 2: expected a sentence, a tab .* found 1 cells"),
        (
            "en-sw.tsv",
            b"One\tMoja\nTwo\tMb\xffli\n",
            "en-sw.tsv, line 2: expected utf-8, found the byte 0xff",
        ),
        ("en-sw.tsv", "", "en-sw.tsv: expected sentence pairs, found none: the file is empty"),
        ("en-sw.tsv", "One\t\nTwo\t \n", "field 'target': expected sentences, found an empty column"),
        ("x.tsv", tsv(EN, SW), "field 'source_language': expected the language of the source"),
        ("x.csv", "text,label\na,b\n", "expected two columns of sentences"),
        ("x.csv", "en,label\na,b\n", "expected two columns of sentences"),
        ("en-sw.csv", "source,target\nOne,Moja,Mbili\n", "line 2: expected 2 cells"),
        ("en-eng.tsv", "One\tTwo\n", "expected two languages, found 'en' on both sides"),
        ("x.jsonl", jsonl([{"translation": {"en": "One"}}]), "found 'en'"),
        ("x.jsonl", jsonl([{"translation": {"en": "One", "sw": 1}}]), "field 'sw': expected a text"),
        ("x.jsonl", '{"translation": {"en": "One", "sw": "M\\ud800"}}\n', "half a character"),
        (
            "x.jsonl",
            jsonl([{"translation": {"en": "a", "sw": "b"}}, {"translation": 5}]),
            "line 2, field 'transl",
        ),
        (
            "x.jsonl",
            jsonl([{"id": 1, "en": "a", "sw": "b"}] * 2),
            "line 2, field 'id': expected an id of its own",
        ),
        ("x.tmx", "<tmx><body><tu>", "x.tmx, line 1: expected a translation memory"),
        (
            "x.tmx",
            '<!DOCTYPE tmx [<!ENTITY a "aaaa">]><tmx>&a;</tmx>',
            "found declarations of entities",
        ),
        ("x.xlsx", "", "expected a file of a known format, found '.xlsx'"),
    ],
)
def test_faults_are_told_by_their_place(write, name, text, message):
    with pytest.raises(DataError, match=message):
        load_bitext(write(name, text))


def test_a_language_that_is_wanted_and_not_there(write):
    path = write("x.tsv", tsv(EN, SW, header="en\tsw\n"))
    with pytest.raises(DataError, match="expected the language 'fr', found en, sw"):
        load_bitext(path, languages=("en", "fr"))


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("django:x", {}, "expected django, found 'django:x'"),
        ("bible-corpus", {}, "expected bible-corpus:FOLDER"),
        ("bible-corpus:x", {"options": {"sed": 1}}, "expected an option of 'bible-corpus'"),
        ("django", {"turned": True}, "'django' is a corpus"),
        ("x.tsv", {"options": {"seed": 1}}, "'x.tsv' is none"),
        ("x.tsv", {"split": "tst"}, "Did you mean 'test'"),
        ("x.tsv", {"columns": {"text": "a"}}, "expected a field to map"),
    ],
)
def test_settings_that_do_not_fit(spec, settings, message):
    with pytest.raises(SettingsError, match=message):
        load_bitext(spec, **settings)


@pytest.mark.parametrize("spec", ["nowhere/x.tsv", "lafand-mt:nowhere", "nowhere"])
def test_what_is_not_there(spec):
    with pytest.raises(DataError, match="found none called"):
        load_bitext(spec)


def test_an_empty_folder(write):
    write("notes.txt", "nothing")
    with pytest.raises(DataError, match="found no sentence pairs in the folder"):
        load_bitext(write.root)


def test_a_saved_data_set_with_a_translation_feature(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"translation": {"en": a, "sw": b}} for a, b in PAIRS]
    features = datasets.Features({"translation": datasets.Translation(languages=["en", "sw"])})
    table = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": table, "validation": table.select([0])}).save_to_disk(
        str(tmp_path / "saved")
    )
    for spec in (tmp_path / "saved", f"hf:{tmp_path / 'saved'}"):
        bitext = load_bitext(spec)
        assert bitext.count() == {("eng", "swh", "train"): 3, ("eng", "swh", "dev"): 1}
        assert said(bitext)[:3] == PAIRS


def test_lafand_mt_and_tatoeba(write):
    write("lafand/en-hau/train.tsv", tsv(EN, SW))
    write("lafand/fr-bam/test.tsv", tsv(EN, SW))
    lafand = load_bitext(f"lafand-mt:{write.root / 'lafand'}")
    assert lafand.directions == (("eng", "hau"), ("fra", "bam"))
    assert "NC" in lafand.licence
    write("tatoeba/swh-eng.tsv", tsv(EN, SW))
    tatoeba = load_bitext(f"tatoeba-laser:{write.root / 'tatoeba'}")
    assert tatoeba.directions == (("eng", "swh"),)
    assert said(tatoeba) == PAIRS
    assert {pair.split for pair in tatoeba.pairs} == {"test"}


@pytest.fixture
def bible(write):
    languages = {"English-NT": "eng", "Swahili-NT": "swh", "K-one": "quc", "K-two": "quc"}
    write("bible/iso639.json", json.dumps(languages))
    for name in languages:
        chapters = range(1, 21) if name != "K-two" else range(1, 3)
        verses = [f"b.MAT.{c}.{v}" for c in chapters for v in (1, 2)]
        write(f"bible/{name}.tsv", "".join(f"{verse}\t{name} {verse}\n" for verse in verses))
    return write.root / "bible"


def test_the_bible_by_verse(bible):
    bitext = load_bitext(f"bible-corpus:{bible}")
    assert bitext.directions == (("eng", "quc"), ("eng", "swh"))
    assert bitext.parallel
    assert all(pair.source == f"English-NT {pair.id}" for pair in bitext.pairs)
    splits = {pair.id: pair.split for pair in bitext.select("swh")}
    assert {pair.id: pair.split for pair in bitext.select("quc")} == splits
    assert all(splits[f"b.MAT.{c}.1"] == splits[f"b.MAT.{c}.2"] for c in range(1, 21))
    assert sorted(splits.values()).count("test") == 4  # 2 chapters of 20
    assert any("K-one.tsv is read and K-two.tsv left out" in notice for notice in bitext.notices)
    other = load_bitext(f"bible-corpus:{bible}", options={"pivot": "Swahili", "seed": 3})
    assert other.directions == (("swh", "eng"), ("swh", "quc"))
    assert {pair.id: pair.split for pair in other.select("quc")} != splits
    with pytest.raises(LanguageError, match="found 'French'"):
        load_bitext(f"bible-corpus:{bible}", options={"pivot": "French"})
    with pytest.raises(SettingsError, match="Load it as bible-corpus:"):
        load_bitext(bible)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Swahili-NT.tsv", "b.MAT.1.1\tA\nno verse\n", "Swahili-NT.tsv, line 2: expected a verse's id"),
        ("Swahili-NT.tsv", "b.MAT.1.1\tA\nb.MAT.1.1\tB\n", "line 2, field 'verse_id': expected a verse once"),
        ("Stranger.tsv", "b.MAT.1.1\tA\n", "expected the language of 'Stranger' in iso639.json"),
        ("iso639.json", "[]", "expected an object"),
        ("iso639.json", "{", "expected names and languages, as JSON"),
        ("iso639.json", "{}", "expected the language of"),
    ],
)
def test_faults_of_verses(write, bible, name, text, message):
    write(f"bible/{name}", text)
    with pytest.raises(DataError, match=message):
        load_bitext(f"bible-corpus:{bible}")


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("en-sw", ("en", "sw")),
        ("en_sw", ("en", "sw")),
        ("zho_Hans-eng_Latn", ("zho_Hans", "eng_Latn")),
        ("en-pt-BR", ("en", "pt-BR")),
        ("swh-eng", ("swh", "eng")),
        ("train", None),
        ("data-2024", None),
        ("sw", None),
    ],
)
def test_names_of_pairs(name, pair):
    assert pair_of(name) == pair


def test_the_corpora_known_by_name():
    assert list(BITEXTS) == ["django", "bible-corpus", "lafand-mt", "tatoeba-laser"]
    assert all(callable(BITEXTS[name]) for name in BITEXTS)


def test_a_corpus_is_turned_and_narrowed(write):
    write("en-sw.tsv", tsv(EN, SW))
    write("fr-sw.tsv", "Un\tMoja\n")
    bitext = load_bitext(write.root)
    assert bitext.pivot == "swh"
    assert bitext.into("eng").directions == (("swh", "eng"),)
    assert said(bitext.out_of("swh").into("eng")) == [(b, a) for a, b in PAIRS]
    assert bitext.restrict(["fra"]).languages == ("fra", "swh")
    assert bitext.fingerprint == bitext.keep(reversed(bitext.pairs)).fingerprint
    assert bitext.fingerprint != bitext.into("swh").out_of("swh").fingerprint
    with pytest.raises(LanguageError, match="found 'deu'"):
        bitext.select("deu")


@given(
    st.sampled_from(["x.en-sw.tsv", "x.csv", "x.jsonl", "x.tmx", "x.po", "m/x.en"]), st.binary(max_size=120)
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, name, data):
    root = tmp_path_factory.mktemp("any")
    (root / "m").mkdir()
    (root / "m" / "x.sw").write_text("Moja\n")
    (root / name).write_bytes(data)
    try:
        bitext = load_bitext(root / "m" if name[0] == "m" else root / name)
    except MetaglotError as error:
        assert str(error)
    else:
        assert bitext.pairs
