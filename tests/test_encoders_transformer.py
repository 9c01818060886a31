"""Transformers of any kind, on tiny random models."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from metaglot.encoders import TokenEncoder, load_encoder
from metaglot.encoders.cache import usage
from metaglot.errors import EncoderError, MetaglotError, SettingsError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", ":", *(f"w{i}" for i in range(40))]
TEXTS = ["w1 w2 w3", "w1", "", "w5 w6 w7 w8 w9 w10 w11", "w3 w2 w1", "unknown w4"]


def save_tokenizer(folder):
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def make(folder, seed=0, **changes):
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=20,
        **{"initializer_range": 0.5} | changes,
    )
    BertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path / "cache"))


def load(model, **options):
    return load_encoder(model, **{"dtype": "float32", "device": "cpu", "cache": False} | options)


def vectors(encoder, texts):
    (block,) = encoder.encode(texts).values()
    return block


def direct(folder, ids):
    """The last layer's states of one sequence, straight from transformers."""
    from transformers import AutoModel

    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0].numpy()


def unit(x):
    return x / np.linalg.norm(x)


@pytest.mark.parametrize(
    ("pooling", "pool"), [("mean", lambda s: s.mean(0)), ("cls", lambda s: s[0]), ("last", lambda s: s[-1])]
)
def test_pooling_is_that_of_the_formula_in_any_batch(model, pooling, pool):
    found = vectors(load(model, pooling=pooling), TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = [2, *[WORDS.index(w) if w in WORDS else 1 for w in text.split()], 3]
        np.testing.assert_allclose(vector, unit(pool(direct(model, ids))), atol=1e-5)


def configure(folder, pooling=None, **settings_):
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        modules = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
        (folder / "modules.json").write_text(json.dumps(modules))
    if settings_:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings_))


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_mean_tokens": True, "include_prompt": True}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
        (None, "mean"),
    ],
)
def test_pooling_comes_from_the_models_own_files(tmp_path, config, pooling):
    make(tmp_path / "m")
    configure(tmp_path / "m", config)
    assert load(str(tmp_path / "m")).settings.pooling == pooling
    assert load(str(tmp_path / "m"), pooling="cls").settings.pooling == "cls"


def test_an_unsupported_pooling_is_refused_unless_one_is_chosen(tmp_path):
    make(tmp_path / "m")
    configure(tmp_path / "m", {"pooling_mode_max_tokens": True})
    with pytest.raises(EncoderError, match="max_tokens"):
        load(str(tmp_path / "m"))
    assert load(str(tmp_path / "m"), pooling="mean").settings.pooling == "mean"


def test_the_prefix_comes_from_the_models_own_files(tmp_path, model):
    make(tmp_path / "m")
    configure(tmp_path / "m", prompts={"query": "query: ", "passage": "p"}, default_prompt_name="query")
    with_prefix = load(str(tmp_path / "m"))
    assert with_prefix.settings.prefix == "query: "
    np.testing.assert_allclose(
        vectors(with_prefix, ["w1 w2"]), vectors(load(model), ["query: w1 w2"]), atol=1e-6
    )
    assert load(str(tmp_path / "m"), prefix="").settings.prefix == ""
    assert load(model).settings.prefix == ""


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("multilingual-e5-base", "query: "),
        ("multilingual-e5-large-instruct", ""),
        ("e5-small-v2", "query: "),
        ("bert", ""),
    ],
)
def test_the_e5_family_has_its_prefix(tmp_path, name, prefix):
    assert load(make(tmp_path / name)).settings.prefix == prefix


def test_windows_are_the_weighted_mean_of_their_own_vectors(model):
    words = [f"w{i}" for i in range(25)]  # 20 positions: windows of 18 and 7 words
    states = [direct(model, [2, *map(WORDS.index, part), 3]).mean(0) for part in (words[:18], words[18:])]
    expected = unit(states[0] * 18 + states[1] * 7)
    np.testing.assert_allclose(vectors(load(model), [" ".join(words)])[0], expected, atol=1e-5)
    shorter = load(model, max_length=10)
    states = [
        direct(model, [2, *map(WORDS.index, words[i : i + 8]), 3]).mean(0) * len(words[i : i + 8])
        for i in range(0, 25, 8)
    ]
    np.testing.assert_allclose(vectors(shorter, [" ".join(words)])[0], unit(sum(states)), atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS[4:]), max_size=40).map(" ".join), min_size=1, max_size=6),
    seed=st.integers(0, 9),
)
def test_neither_order_nor_company_changes_a_vector(model, texts, seed):
    encoder = load(model)
    whole = vectors(encoder, texts)
    order = np.random.default_rng(seed).permutation(len(texts))
    np.testing.assert_allclose(vectors(encoder, [texts[i] for i in order]), whole[order], atol=1e-5)
    alone = np.concatenate([vectors(encoder, [text]) for text in texts])
    assert ((alone * whole).sum(1) > 0.9999).all()


@pytest.mark.parametrize("limit", [8, 20])
def test_token_states_are_the_models_and_lie_where_their_characters_do(model, limit):
    encoder = load(model, prefix="query: ", max_length=limit)
    assert isinstance(encoder, TokenEncoder)
    text = "w1  w2:w3\tunknown  " + " ".join(f"w{i}" for i in range(10))
    found, empty = encoder.token_states([text, ""], layers=(0, -1))
    assert [text[a:b] for a, b in found.offsets] == [
        "w1",
        "w2",
        ":",
        "w3",
        "unknown",
        *(f"w{i}" for i in range(10)),
    ]
    assert found.states.shape == (15, 64)
    assert found.states.dtype == np.float16
    assert empty.states.shape == (0, 64)
    ids = [2, 4, 5, *(WORDS.index(w) if w in WORDS else 1 for w in text.replace(":", " : ").split()), 3]
    if limit == 20:
        np.testing.assert_allclose(found.states[:, 32:], direct(model, ids)[3:-1], atol=5e-3)
    else:  # the first window holds the prefix's two tokens and four of the text's
        np.testing.assert_allclose(found.states[:4, 32:], direct(model, [*ids[:7], 3])[3:-1], atol=5e-3)
    with pytest.raises(SettingsError, match="between 0 and 2"):
        encoder.token_states([text], layers=(7,))


def test_cached_features_are_those_computed(model):
    encoder = load(model, cache=True)
    first = vectors(encoder, TEXTS + TEXTS[:2])
    states = encoder.token_states(TEXTS)
    again = load(model, cache=True)
    np.testing.assert_array_equal(vectors(again, TEXTS + TEXTS[:2]), first)
    for a, b in zip(again.token_states(TEXTS), states, strict=True):
        np.testing.assert_array_equal(a.states, b.states)
        np.testing.assert_array_equal(a.offsets, b.offsets)
    assert "engine" not in vars(again)
    assert {u.texts for u in usage()} == {2 * len(TEXTS)}


def test_settings_and_weights_are_part_of_the_fingerprint(tmp_path, model):
    prints = {
        load(model).fingerprint,
        load(model, pooling="cls").fingerprint,
        load(model, prefix="x").fingerprint,
        load(model, max_length=10).fingerprint,
        load(make(tmp_path / "other", seed=1)).fingerprint,
    }
    assert len(prints) == 5
    assert load(model, dtype="bfloat16").fingerprint == load(model).fingerprint
    assert load(make(tmp_path / "same")).fingerprint == load(model).fingerprint


def test_precisions_agree_and_do_not_share_the_cache(model):
    found = [vectors(load(model, dtype=dtype, cache=True), TEXTS) for dtype in ("float32", "bfloat16")]
    assert ((found[0] * found[1]).sum(1) > 0.995).all()
    assert not np.array_equal(*found)


def test_no_texts_and_wrong_texts(model):
    assert vectors(load(model), []).shape == (0, 32)
    assert load(model).token_states([]) == []
    with pytest.raises(SettingsError, match="NoneType at 1"):
        load(model).encode(["a", None])


def test_folders_with_a_plus_in_their_name(tmp_path):
    folder = make(tmp_path / "a+b")
    joined = load_encoder(f"{folder}+ngrams:16")
    assert dict(joined.blocks) == {folder: 32, "ngrams:16": 16}
    assert load(folder).name == folder
    assert len(joined.token_states(["w1 w2"])[0].states) == 2


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json, found none"),
        (lambda f: (f / "config.json").write_text("{"), "expected a JSON file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 50), "model cannot be loaded"),
        (lambda f: (f / "model.safetensors").unlink(), "model cannot be loaded"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer cannot be loaded"),
    ],
)
def test_broken_folders_are_explained(tmp_path, breakage, message):
    folder = tmp_path / "m"
    make(folder)
    breakage(folder)
    with pytest.raises(MetaglotError, match=message) as caught:
        load(str(folder)).encode(["w1"])
    assert str(folder) in str(caught.value)


def test_more_tokens_than_positions_are_refused(model):
    with pytest.raises(EncoderError, match="20 positions, found 21"):
        load(model, max_length=21)
