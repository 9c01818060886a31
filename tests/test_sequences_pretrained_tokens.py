"""Tokenizers of pretrained models, tiny ones: languages' tags, numbers, loading."""

import json

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from metaglot.errors import ArtifactError, DataError, LanguageError, MissingExtraError, SettingsError
from metaglot.sequences.decoding import Decoding, Limits, greedy
from metaglot.sequences.pretrained import PretrainedTranslation
from metaglot.sequences.pretrained_loading import load_pretrained
from metaglot.sequences.pretrained_tokens import PretrainedTokens

SIZES = {"d_model": 16, "max_position_embeddings": 64} | {
    f"{side}_{what}": size
    for side in ("encoder", "decoder")
    for what, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
TAGS = ["eng_Latn", "swh_Latn", "lug_Latn", "zho_Hans", "zho_Hant", "kor_Hang"]
TEXTS = ["the cat sees a dog", "a house"]


def nllb(**options):
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdeghostu", "▁a"]
    tokenizer = hf.NllbTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[("▁", "a")],
        extra_special_tokens=TAGS,
    )
    model = PretrainedTranslation(
        hf.M2M100ForConditionalGeneration(hf.M2M100Config(vocab_size=32, **SIZES)).eval()
    )
    return model, PretrainedTokens(tokenizer, model, **options)


def byt5(**options):
    model = PretrainedTranslation(hf.T5ForConditionalGeneration(hf.T5Config(vocab_size=384, **T5)).eval())
    return model, PretrainedTokens(hf.ByT5Tokenizer(), model, **options)


def marian(tags=(">>swa<<", ">>lug<<"), **options):
    """Numbers as Marian's: the end is 0, and padding is last."""
    words = ["</s>", "<unk>", "the", "cat", "sees", "a", "dog", "house", *tags, "<pad>"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    size = len(words)
    config = hf.MarianConfig(
        vocab_size=size, pad_token_id=size - 1, eos_token_id=0, decoder_start_token_id=size - 1, **SIZES
    )
    model = PretrainedTranslation(hf.MarianMTModel(config).eval())
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    return model, PretrainedTokens(fast, model, **options)


@pytest.mark.parametrize("make", [nllb, byt5, marian])
def test_texts_come_back(make):
    _, tokens = make()
    for text, ids in zip(TEXTS, tokens.targets(TEXTS, "swh"), strict=True):
        assert tokens.decode(ids) == text
        assert ids[-1] == 2


@pytest.mark.parametrize("make", [nllb, byt5, marian])
def test_targets_are_what_the_models_own_labels_are(make):
    """As `transformers` trains: labels, and the decoder's input by shifting them."""
    model, tokens = make()
    batch = tokens.batch(TEXTS, TEXTS[::-1], "eng", "swh")
    own = tokens._tokenizer
    if make is nllb:
        own.src_lang, own.tgt_lang = "eng_Latn", "swh_Latn"
    labels = own(text_target=TEXTS[::-1], add_special_tokens=make is not marian).input_ids
    if make is marian:
        labels = [[*ids, own.eos_token_id] for ids in labels]
    start = model.base.config.decoder_start_token_id
    for label, target, expected in zip(labels, batch.targets, batch.inputs["target"], strict=True):
        shifted = model.rows[expected].tolist()[: len(label)]
        assert shifted == [start, *label[:-1]]
        told = make is nllb  # the tag is always given
        assert target[: int(told)].sum() == 0
        assert model.rows[target[int(told) : len(label)]].tolist() == label[int(told) :]
        assert target[len(label) :].sum() == 0
    assert len(batch.classes) == 0 and batch.group == -1


def test_nllb_has_tags_in_the_source_and_after_the_start():
    model, tokens = nllb()
    assert tokens.languages == ("eng", "kor_Hang", "lug", "swh", "zho_Hans", "zho_Hant")
    tag = tokens._tokenizer.convert_tokens_to_ids
    assert model.rows[tokens.prefix("swh")].tolist() == [2, tag("swh_Latn")]
    for language, name in (("eng", "eng_Latn"), ("lug", "lug_Latn")):
        ids = model.rows[tokens.sources(["a"], language)[0]].tolist()
        assert ids == [tag(name), tag("▁a"), 2]
    model_numbers = model.rows[list(tokens.unsayable)].tolist()
    assert {0, 1, 3, *map(tag, TAGS), 31} <= set(model_numbers)
    assert 2 not in model_numbers and tag("a") not in model_numbers


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("swh", "swh_Latn"),
        ("sw", "swh_Latn"),
        ("swh_Latn", "swh_Latn"),
        ("Swahili", "swh_Latn"),
        ("zho_Hant", "zho_Hant"),
        ("kor", "kor_Hang"),
        ("eng_Cyrl", "eng_Latn"),
    ],
)
def test_languages_are_found(asked, code):
    assert nllb()[1].code(asked) == code


def test_an_unknown_language_gets_its_neighbours_and_may_go_in_the_name_of_one():
    _, tokens = nllb()
    with pytest.raises(
        LanguageError, match=r"Kinyarwanda \('kin'\)\.\n.*lug \(Ganda\), swh \(Swahili\)"
    ) as e:
        tokens.prefix("kin")
    assert "codes={'kin': 'lug'}" in str(e.value)
    _, tokens = nllb(codes={"kin": "lug", "rw-own": "zho_Hant"})
    assert tokens.prefix("kin") == tokens.prefix("rw") == tokens.prefix("lug")
    assert tokens.prefix("rw-own") == tokens.prefix("zho_Hant")
    assert tokens.sources(["a"], "kin") == tokens.sources(["a"], "lug")
    with pytest.raises(LanguageError, match="French"):
        nllb(codes={"kin": "fra"})


def test_a_language_in_two_scripts_is_asked_for():
    with pytest.raises(LanguageError, match="zho_Hans and zho_Hant: say which"):
        nllb()[1].prefix("zho")
    with pytest.raises(LanguageError, match="wants to be told, found none"):
        nllb()[1].prefix()


def test_marians_tag_is_before_the_source():
    model, tokens = marian()
    assert tokens.languages == ("lug", "swh")
    assert tokens.prefix("swh") == [model.start]
    tag = tokens._tokenizer.convert_tokens_to_ids(">>swa<<")
    with_tag, without = tokens.sources(["the cat"], "eng", "swh")[0], tokens.targets(["the cat"], "swh")[0]
    assert model.rows[with_tag].tolist()[0] == tag
    assert with_tag[1:3] == without[1:3]
    with pytest.raises(LanguageError, match="French"):
        tokens.sources(["the cat"], "eng", "fra")


def test_a_model_of_one_direction_takes_no_tags():
    _, tokens = marian(tags=())
    assert tokens.languages == () and tokens.code("fra") == ""
    assert tokens.sources(["the cat"]) == tokens.sources(["the cat"], "eng", "fra")


def test_a_prompt_says_it_where_there_are_no_tags():
    _, tokens = byt5(prompt="{source} to {target}: ")
    assert tokens.decode(tokens.sources(["ab"], "swh", "eng")[0]) == "Swahili to English: ab"
    assert byt5()[1].sources(["ab"], "swh", "eng") != tokens.sources(["ab"], "swh", "eng")
    with pytest.raises(SettingsError, match="model has tags, found prompt='to'"):
        nllb(prompt="to")
    with pytest.raises(SettingsError, match="model has no tags"):
        byt5(codes={"kin": "swh"})


def test_what_looks_like_a_special_token_is_text():
    _, tokens = byt5()
    text = "a</s>b<pad> <extra_id_0>"
    assert tokens.decode(tokens.targets([text])[0]) == text
    assert tokens.decode(tokens.sources([text])[0]) == text
    model, tokens = nllb()
    for ids in (tokens.sources(["a</s> swh_Latn"], "eng")[0], tokens.targets(["a</s> swh_Latn"], "eng")[0]):
        assert ids.count(2) == 1 + (ids[0] == 2)  # the end, and a target's start
        assert tokens._tokenizer.convert_tokens_to_ids("swh_Latn") not in model.rows[ids].tolist()


def test_what_is_too_long_is_cut():
    _, tokens = byt5(limit=6)
    batch = tokens.batch(["abcdefghij", "a"], ["abcdefghij", "a"])
    assert batch.inputs["source"].shape == (2, 6)
    assert batch.inputs["source_mask"].sum(1).tolist() == [6, 2]
    assert tokens.decode(tokens.targets(["abcdefghij"])[0]) == "abcde"
    assert 2 not in tokens.targets(["abcdefghij"])[0], "what was cut does not end"
    with pytest.raises(SettingsError, match="limit of at least 4"):
        byt5(limit=3)


def test_a_model_writes_with_its_tokens():
    torch.manual_seed(0)
    model, tokens = nllb()
    inputs = tokens.inputs(TEXTS, "eng", "swh")
    decoding = Decoding(limits=Limits(0, 8), banned=tokens.unsayable)
    found = greedy(model, [tokens.prefix("swh")] * 2, inputs, decoding)
    assert all(tokens.decode(one.ids).isprintable() for one in found)
    assert not {i for one in found for i in one.ids} & set(tokens.unsayable)


def test_bad_input_is_named():
    _, tokens = byt5()
    with pytest.raises(DataError, match="a translation for each of 2 texts, found 1"):
        tokens.batch(["a", "b"], ["c"])
    with pytest.raises(DataError, match="at least one text"):
        tokens.inputs([])
    with pytest.raises(DataError, match="from 0 to 383, found 384"):
        tokens.decode([384])
    with pytest.raises(DataError, match="at least one text"):
        tokens.batch([], [])
    other = hf.MT5ForConditionalGeneration(hf.MT5Config(vocab_size=384, **T5 | {"eos_token_id": 7}))
    with pytest.raises(SettingsError, match="padding 0 and end 7, found 0 and 1"):
        PretrainedTokens(hf.ByT5Tokenizer(), PretrainedTranslation(other))
    small = PretrainedTranslation(hf.T5ForConditionalGeneration(hf.T5Config(vocab_size=64, **T5)))
    with pytest.raises(SettingsError, match="at most the model's 64 tokens"):
        PretrainedTokens(hf.ByT5Tokenizer(), small)


def test_tags_need_a_tokenizer_that_is_told_the_source():
    tokenizer = Tokenizer(models.WordLevel({"</s>": 0, "<pad>": 1, "__sw__": 2, "<unk>": 3}, "<unk>"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=["__sw__"])
    with pytest.raises(SettingsError, match="told the source's language"):
        PretrainedTokens(fast, nllb()[0])


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A sentencepiece model of a few words."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pieces")
    words = ["the", "cat", "sees", "a", "dog", "house", "paka", "mbwa", "nyumba"]
    texts = [" ".join(words[(i * j) % len(words)] for j in range(6)) for i in range(60)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "tiny"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(str(folder / "tiny.model"))
    return folder / "tiny.model", [model.id_to_piece(i) for i in range(model.get_piece_size())]


def numbered(file, *names):
    file.write_text(json.dumps({name: i for i, name in enumerate(dict.fromkeys(names))}))
    return str(file)


def test_m2m100s_own_tokenizer(pieces, tmp_path):
    spm, names = pieces
    vocabulary = numbered(tmp_path / "vocab.json", "<s>", "<pad>", "</s>", "<unk>", *names)
    tokenizer = hf.M2M100Tokenizer(vocabulary, str(spm))
    model = PretrainedTranslation(
        hf.M2M100ForConditionalGeneration(hf.M2M100Config(vocab_size=200, **SIZES)).eval()
    )
    tokens = PretrainedTokens(tokenizer, model)
    assert len(tokens.languages) == 100
    assert [tokens.code(one) for one in ("swh", "nso", "zho_Hans")] == ["sw", "ns", "zh"]
    tag = tokenizer.convert_tokens_to_ids("__sw__")
    assert model.rows[tokens.prefix("swh")].tolist() == [2, tag]
    assert model.rows[tokens.sources(["paka"], "swh")[0]].tolist()[0] == tag
    (ids,) = tokens.targets(["paka mbwa"], "swh")
    assert tokens.decode(ids) == "paka mbwa" and ids[-1] == 2
    assert tokens.targets(["paka </s> __sw__"], "swh")[0].count(2) == 2
    tokenizer.save_pretrained(tmp_path / "saved")
    model.base.save_pretrained(tmp_path / "saved")
    assert load_pretrained(tmp_path / "saved")[1].targets(["paka mbwa"], "swh") == [ids]


def test_marians_own_tokenizer(pieces, tmp_path):
    spm, names = pieces
    vocabulary = numbered(tmp_path / "vocab.json", "</s>", "<unk>", *names, ">>swa<<", ">>lug<<", "<pad>")
    tokenizer = hf.MarianTokenizer(str(spm), str(spm), vocabulary)
    last = len(tokenizer.get_vocab()) - 1
    config = hf.MarianConfig(
        vocab_size=last + 1, pad_token_id=last, eos_token_id=0, decoder_start_token_id=last, **SIZES
    )
    tokens = PretrainedTokens(tokenizer, model := PretrainedTranslation(hf.MarianMTModel(config).eval()))
    (ids,) = tokens.sources(["the cat"], "eng", "lug")
    assert model.rows[ids].tolist() == tokenizer(">>lug<< the cat").input_ids
    assert model.rows[ids].tolist()[0] == tokenizer.convert_tokens_to_ids(">>lug<<")
    assert tokens.decode(tokens.targets(["paka mbwa"])[0]) == "paka mbwa"


def saved(folder, make):
    model, tokens = make()
    model.base.save_pretrained(folder)
    tokens._tokenizer.save_pretrained(folder)
    return model, tokens


@pytest.mark.parametrize("make", [nllb, byt5])
def test_a_folder_is_loaded(tmp_path, make):
    model, tokens = saved(tmp_path, make)
    again, its_tokens = load_pretrained(tmp_path, limit=128)
    batch = its_tokens.batch(TEXTS, TEXTS, "eng", "swh")
    assert not again.training
    assert torch.equal(tokens.batch(TEXTS, TEXTS, "eng", "swh").targets, batch.targets)
    with torch.no_grad():
        assert torch.equal(model(**batch.inputs), again(**batch.inputs))


def test_parameters_are_loaded_in_full_precision(tmp_path):
    model, tokens = byt5()
    model.base.half().save_pretrained(tmp_path)
    tokens._tokenizer.save_pretrained(tmp_path)
    assert {p.dtype for p in load_pretrained(tmp_path)[0].parameters()} == {torch.float32}


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="expected the folder of a model, found none"):
        load_pretrained(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="found no 'nobody/nothing'") as e:
        load_pretrained("nobody/nothing", offline=True)
    assert "Check its name and the network" in str(e.value)
    hf.BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ArtifactError, match=r"writes from a source, found .* of the type 'bert'"):
        load_pretrained(tmp_path / "bert")
    saved(tmp_path / "damaged", byt5)
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"123")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_pretrained(tmp_path / "damaged")
    byt5()[0].base.save_pretrained(tmp_path / "no-tokenizer")
    with pytest.raises(ArtifactError, match="files of a tokenizer"):
        load_pretrained(tmp_path / "no-tokenizer")


def test_missing_parameters_are_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file

    saved(tmp_path, byt5)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file({n: t for n, t in tensors.items() if "SelfAttention.q" not in n}, file, {"format": "pt"})
    with pytest.raises(ArtifactError, match=r"found 2 missing, such as decoder.*SelfAttention.q.weight"):
        load_pretrained(tmp_path)


def test_without_sentencepiece_the_extra_is_named(tmp_path, monkeypatch):
    class NeedsIt:
        @staticmethod
        def from_pretrained(*given, **options):
            raise ImportError("MarianTokenizer requires the SentencePiece library")

    saved(tmp_path, byt5)
    monkeypatch.setattr("transformers.AutoTokenizer", NeedsIt)
    with pytest.raises(MissingExtraError, match=r"metaglot\[translate\]"):
        load_pretrained(tmp_path)
