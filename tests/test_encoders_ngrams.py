"""Character n-grams, and the reading of encoder specifications."""

import numpy as np
import pytest

from metaglot.encoders import ENCODERS, Encoder, TokenEncoder, load_encoder
from metaglot.encoders.base import clean
from metaglot.errors import EncoderError, SettingsError, UnknownNameError


def cosine(encoder, a, b):
    x = encoder.encode([a, b])[encoder.name]
    return float(x[0] @ x[1])


def test_values_are_signed_logarithms_of_counts():
    from sklearn.feature_extraction.text import HashingVectorizer

    hasher = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), n_features=64, norm=None)
    raw = hasher.transform(["banana banana"]).toarray()[0]
    expected = np.sign(raw) * np.log1p(np.abs(raw))
    found = load_encoder("ngrams:64").encode(["Banana BANANA"])["ngrams:64"]
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), rtol=1e-6)
    assert found.dtype == np.float32
    assert (found < 0).any()


@pytest.mark.parametrize(
    ("a", "near", "far"),
    [
        ("ninakupenda", "tunakupenda", "chakula"),
        ("我喜欢学习中文", "他喜欢学习中文", "今天天气很好"),
        ("ฉันชอบเรียนภาษาไทย", "เขาชอบเรียนภาษาไทย", "วันนี้อากาศดี"),
        ("ⵜⵉⴼⴰⵡⵉⵏ", "ⵜⵉⴼⴰⵡⵜ", "ⴰⵎⴰⵏ"),
    ],
)
def test_shared_stretches_make_texts_near_in_every_script(a, near, far):
    encoder = load_encoder("ngrams")
    assert cosine(encoder, a, near) > cosine(encoder, a, far) + 0.2


def test_forms_and_case_are_folded():
    encoder = load_encoder("ngrams")
    assert cosine(encoder, "Cafe\u0301 STRASSE ＡＢ", "CAFÉ straße ab") == pytest.approx(1, abs=1e-6)


def test_chunks_do_not_show(monkeypatch):
    encoder = load_encoder("ngrams:128")
    texts = [f"text {i}" for i in range(7)] + ["", "\0", "\ud800"]
    whole = encoder.encode(texts)["ngrams:128"]
    monkeypatch.setattr("metaglot.encoders.ngrams.CHUNK", 3)
    np.testing.assert_array_equal(encoder.encode(texts)["ngrams:128"], whole)
    assert not whole[7].any()


def test_joined_encoders_have_the_blocks_of_all():
    joined = load_encoder("ngrams+ngrams:32")
    assert joined.name == "ngrams+ngrams:32"
    assert dict(joined.blocks) == {"ngrams": 4096, "ngrams:32": 32}
    assert {k: v.shape for k, v in joined.encode(["a b", "c"]).items()} == {
        "ngrams": (2, 4096),
        "ngrams:32": (2, 32),
    }
    assert joined.fingerprint == load_encoder("ngrams+ngrams:32").fingerprint
    assert joined.fingerprint != load_encoder("ngrams:32+ngrams").fingerprint
    assert isinstance(joined, Encoder)
    assert not isinstance(load_encoder("ngrams"), TokenEncoder)
    with pytest.raises(SettingsError, match="single tokens"):
        joined.token_states(["a"])


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("e5-smal", UnknownNameError, "Did you mean 'e5-small'"),
        ("nothing", UnknownNameError, "owner/name"),
        ("", UnknownNameError, "owner/name"),
        ("ngrams+", UnknownNameError, "owner/name"),
        ("ngrams+ngrams", SettingsError, "'ngrams' twice"),
        ("ngrams+ngrams:4096", SettingsError, "'ngrams' twice"),
        ("ngrams:many", SettingsError, "as in ngrams:4096"),
        ("./no/such/folder", EncoderError, "no such folder"),
    ],
)
def test_wrong_specifications_are_explained(spec, error, message):
    with pytest.raises(error, match=message):
        load_encoder(spec)


def test_options_that_fit_nothing_are_refused():
    with pytest.raises(SettingsError, match="prefix is an option of transformers"):
        load_encoder("ngrams", prefix="query: ")
    with pytest.raises(SettingsError, match="Did you mean 'mean'"):
        load_encoder("ngrams", pooling="men")
    with pytest.raises(SettingsError, match="at least 8"):
        load_encoder("e5-small", max_length=2)


def test_registered_encoders_have_names_and_descriptions():
    assert set(ENCODERS) >= {"e5-small", "ngrams"}
    assert all(line.endswith(".") for line in ENCODERS.describe().values())


def test_cleaning_keeps_every_character_at_its_place():
    text = "a\0b\ud800c\udfffé😀"
    assert clean(text) == "a b\ufffdc\ufffdé😀"
    assert clean("plain") == "plain"
    clean(text).encode()
