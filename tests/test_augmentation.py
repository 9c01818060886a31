"""Augmentation: any text stays a text, draws are functions of their seed, copies keep to their side."""

import sys
import unicodedata
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import metaglot as mg
from metaglot import adapting, cross_validation, drawing
from metaglot.augmentation import (
    AUGMENTATIONS,
    augment_examples,
    augment_space,
    copies_of,
    find_augmentation,
)
from metaglot.augmentation.features import drop_columns, mix_labels, spoil_prior
from metaglot.augmentation.romanisation import _uroman
from metaglot.augmentation.writing import Writing, clusters
from metaglot.config import Recipe, TrainSettings
from metaglot.data.scripts import script_of
from metaglot.errors import MissingExtraError, SettingsError, UnknownNameError
from metaglot.learners.ridge import Ridge
from metaglot.outer_loop import meta_train
from metaglot.space import TaskSpace, draw_episode, generator
from metaglot.training import fit
from metaglot.types import Batch, Episode, Example
from village import LABELS, assistant, metaglot, refused, sentences, write_examples

NAMES = sorted(AUGMENTATIONS)
every_name = pytest.mark.parametrize("name", NAMES)
SAMPLES = {
    "eng": "Don't turn off the kitchen-lights, please",
    "vie": "Bật đèn phòng bếp lên giúp tôi",
    "yor": "Ẹ jọ̀wọ́, pa iná náà",
    "rus": "Включи свет ещё раз, пожалуйста",
    "ell": "Άναψε το φως στην κουζίνα",
    "ara": "شَغِّل الأَنوار في المطبخ",
    "hin": "रसोई की ज़रूरी बत्ती जलाओ",
    "tha": "เปิดไฟในห้องครัวให้หน่อย",
    "zho": "请打开厨房的灯",
    "kor": "주방 불을 켜 줘",
    "amh": "የወጥ ቤቱን መብራት አብራ",
}
anything = st.text(max_size=40) | st.text(st.sampled_from("".join(SAMPLES.values())), max_size=40)
halves = st.text(st.characters(categories=["Cs", "Lu", "Mn", "Zs", "Cf", "So"]), max_size=20)
seeds = st.integers(0, 2**32)


def run(name, text, seed=0, strength=1.0, language="eng"):
    writing = Writing.of(language, [text, *SAMPLES.values()])
    return AUGMENTATIONS[name](text, generator(seed), writing, strength=strength)


def letters_with_marks(text):
    """How often each letter stands in a text with which marks after it."""
    found = []
    for character in text:
        if found and unicodedata.category(character)[0] == "M":
            found[-1] += character
        else:
            found.append(character)
    return Counter(found)


# --- What holds for all of them.


@every_name
@given(text=anything | halves, seed=seeds, strength=st.sampled_from([0.05, 0.5, 1.0]))
def test_any_text_becomes_a_text_again_and_the_same_one_by_the_same_seed(name, text, seed, strength):
    made = run(name, text, seed, strength)
    assert made == run(name, text, seed, strength)
    lone = Counter(c for c in text if unicodedata.category(c) == "Cs")
    # Of halves of characters that were there before, some may stay; none is made.
    assert Counter(c for c in made if unicodedata.category(c) == "Cs") <= Counter(
        {c: 2 * n for c, n in lone.items()}
    )
    if not lone:
        made.encode("utf-8")
    assert bool(made.strip()) == bool(text.strip()) or name == "romanise"


@every_name
@given(text=anything | halves, seed=seeds)
def test_without_strength_nothing_changes(name, text, seed):
    assert run(name, text, seed, 0.0) == text


@every_name
def test_an_empty_text_stays_empty(name):
    assert run(name, "") == ""


@given(language=st.sampled_from(sorted(SAMPLES)), seed=seeds, strength=st.floats(0, 1))
def test_noise_never_tears_a_letter_from_its_marks(language, seed, strength):
    text = SAMPLES[language]
    made = run("noise", text, seed, strength, language)
    seen = letters_with_marks(text.lower() + "".join(SAMPLES.values()).lower())
    assert set(letters_with_marks(made.lower())) <= set(seen)


def test_clusters_are_whole_letters():
    assert clusters("é\u0323x") == ["é\u0323", "x"]
    assert clusters("ที่นี่") == ["ที่", "นี่"]
    assert clusters("👩‍🚀!") == ["👩‍🚀", "!"]


# --- What each does.


def test_noise_uses_letters_of_the_same_script_that_the_language_has():
    writing = Writing.of("rus", ["да дом", "ok"])
    found = {AUGMENTATIONS["noise"]("эээ эээ 12", generator(i), writing, strength=0.5) for i in range(200)}
    assert set("".join(found)) == set("э 12") | set("дамо")
    assert all("12" in text for text in found)
    assert {len(text) for text in found} >= {9, 10, 11}
    swapped = {
        AUGMENTATIONS["noise"]("аб", generator(i), Writing("rus", {}), strength=0.5) for i in range(50)
    }
    assert swapped == {"аб", "ба", "а", "б"}


def test_a_letter_is_drawn_as_often_as_texts_have_it():
    writing = Writing.of("eng", ["a" * 90 + "b" * 10])
    chance = generator("letters")
    drawn = Counter(writing.letter("Latin", chance) for _ in range(2000))
    assert set(drawn) == {"a", "b"}
    assert 120 < drawn["b"] < 280
    assert writing.letter("Greek", chance) == ""


def test_a_text_of_one_letter_is_not_noised_away():
    assert all(run("noise", "我", i).strip() for i in range(40))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Turn OFF now", {"turn off now", "TURN OFF NOW", "Turn Off Now"}),
        ("ǆ été", {"Ǆ ÉTÉ", "ǅ Été"}),
        ("გამარჯობა", {"გამარჯობა"}),
        ("请打开", {"请打开"}),
    ],
)
def test_case(text, found):
    assert {run("case", text, i) for i in range(40)} == found


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Bật đèn phòng bếp", "Bat đen phong bep"),
        ("Ẹ jọ̀wọ́, náà", "E jowo, naa"),
        ("Άναψε ϊ", "Αναψε ι"),
        ("ещё мой Київ за́мок ѓ", "еще мой Київ замок ѓ"),
        ("شَغِّل الأَنوار", "شغل الأنوار"),
        ("שָׁלוֹם", "שלום"),
        (SAMPLES["hin"], SAMPLES["hin"]),
        (SAMPLES["tha"], SAMPLES["tha"]),
        (SAMPLES["kor"], SAMPLES["kor"]),
        ("が", "が"),
    ],
)
def test_marks_are_left_out_where_they_are_no_vowels(text, bare):
    assert run("diacritics", text) == bare
    # What has no mark to lose keeps its normal form.
    decomposed = unicodedata.normalize("NFD", "한국 हिन्दी")
    assert run("diacritics", decomposed) == decomposed


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("ƙofa", "cofa cofaaa kofa kofaaa"),
        ("Phone", "Fone Foneee"),
        ("ŋ", "ng n"),
        ("don't", "dont"),
        ("all", "al"),
        ("MÜLLER", "MÜLER"),
        ("қала", "кала калааа"),
        ("أحمد", "احمد"),
        ("ज़रा", "जरा"),
        ("ใ", "ไ"),
        ("妈妈", "妈妈"),
        ("\u093c", "\u093c"),  # a mark without its letter
    ],
)
def test_spelling(text, spelt):
    found = {run("spelling", text, i) for i in range(60)} | {run("spelling", text, i, 0.6) for i in range(60)}
    assert found & set(spelt.split())
    assert found - {text} or text == spelt
    if text in {"ŋ", "don't", "all", "MÜLLER", "أحمد", "ज़रा", "ใ", "妈妈", "\u093c"}:
        assert found <= {text, *spelt.split()}


def test_hyphens_are_left_out_or_become_spaces():
    assert {run("spelling", "m-m", i) for i in range(20)} == {"mm", "m m"}
    assert {run("spelling", "- m -", i) for i in range(20)} == {"- m -"}


def test_words_are_left_out_or_swapped():
    found = {run("words", "a b c", i, 0.4) for i in range(300)}
    assert found >= {"a b c", "b a c", "a c b", "a b", "a c", "b c", "a", "b", "c"}
    assert all(set(text.split()) <= set("abc") for text in found)
    assert {run("words", "one", i) for i in range(20)} == {"one"}


def test_in_scripts_without_spaces_pieces_stand_for_words():
    text = "请打开厨房的灯"
    found = {run("words", text, i, 0.4) for i in range(200)}
    assert found >= {text, "开厨请打房的灯", "请打房的灯", "请打开厨灯房的"}
    assert not any(" " in made for made in found)
    # A space stays where it was, unless nothing is left on one side of it.
    assert {run("words", "你好世界 大家", i, 0.4) for i in range(200)} >= {
        "世界你好 大家",
        "你好 大家",
        "大家",
    }
    assert len({run("words", SAMPLES["tha"], i, 0.4) for i in range(50)}) > 5


@pytest.mark.parametrize(
    ("language", "text", "latin"), [("rus", "привет", "privet"), ("tha", "สวัสดีครับ", "swatdiikrap")]
)
def test_romanise(language, text, latin):
    pytest.importorskip("uroman")
    assert run("romanise", text, language=language) == latin
    assert run("romanise", text, language="x-own_Cyrl") != text
    assert {script_of(c) for c in run("romanise", SAMPLES["hin"])} <= {"", "Latin"}


def test_a_missing_package_is_named(monkeypatch):
    _uroman.cache_clear()
    monkeypatch.setitem(sys.modules, "uroman", None)
    with pytest.raises(MissingExtraError, match=r"metaglot\[romanise\]"):
        copies_of([example("привет")], ["romanise:0.01"])
    _uroman.cache_clear()


# --- Copies.


def example(text, label="x", language="eng", **more):
    return Example(more.pop("id", text), text, label, language, **more)


def test_names_and_strengths():
    assert find_augmentation("noise") is AUGMENTATIONS["noise"]
    text, writing = "abcdefgh" * 20, Writing.of("eng", ["abcdefgh"])
    weak, strong = (
        sum(
            a != b
            for a, b in zip(find_augmentation(f"noise:{s}")(text, generator(1), writing), text, strict=False)
        )
        for s in ("0.001", "1")
    )
    assert weak < strong
    for name in ("noise:", "noise:0", "noise:2", "noise:nan", "noise:much"):
        with pytest.raises(SettingsError, match="strength of the augmentation 'noise'"):
            find_augmentation(name)
    with pytest.raises(UnknownNameError, match="Did you mean 'noise'"):
        find_augmentation("niose")
    with pytest.raises(SettingsError, match="a copy or more"):
        copies_of([example("one")], ["case"], 0)


def test_copies_are_new_texts_of_the_same_group_and_id():
    examples = [
        example("turn it on", "on", group="template"),
        example("turn it off", "off", id="2"),
        example("12 34", "number"),
        example("TURN IT ON", "loud", id="4"),
    ]
    made = augment_examples(examples, ["case"], copies=3, seed=1)
    originals, copies = made[:4], made[4:]
    assert [e.text for e in originals] == [e.text for e in examples]
    assert [e.group for e in originals] == ["template", "turn it off", "12 34", "TURN IT ON"]
    texts = [e.text for e in made]
    assert len(set(texts)) == len(texts)
    assert {e.text for e in copies if e.id == "2"} == {"TURN IT OFF", "Turn It Off"}
    assert not [e for e in copies if e.id == "12 34"]
    for copy in copies:
        (original,) = (e for e in originals if e.id == copy.id)
        assert (copy.group, copy.label, copy.split) == (original.group, original.label, original.split)
    assert augment_examples(examples, []) == tuple(examples)
    assert augment_examples(examples, ["noise"], seed=1) != augment_examples(examples, ["noise"], seed=2)
    # A copy does not depend on what else is copied.
    alone = augment_examples(examples[1:2], ["case"], seed=5)
    assert alone[1] in augment_examples(examples, ["case"], seed=5)


def test_every_augmentation_that_changes_a_text_makes_some_of_its_copies():
    examples = [example(f"été numéro {i}", id=str(i)) for i in range(60)]
    copies = [e for _, e in copies_of(examples, ["case:1", "diacritics"])]
    bare = sum("é" not in e.text.lower() for e in copies)
    assert len(copies) == 60
    assert 15 < bare < 45
    # Where the one changes nothing, the other makes the copy.
    assert len(copies_of([example("plain words")], ["diacritics", "case"])) == 1


@given(texts=st.lists(anything, max_size=6), seed=seeds, names=st.sets(st.sampled_from(NAMES), min_size=1))
def test_copies_of_anything(texts, seed, names):
    examples = [example(text, id=str(i)) for i, text in enumerate(texts)]
    made = augment_examples(examples, sorted(names), 2, seed)
    assert made == augment_examples(examples, sorted(names), 2, seed)
    assert [e.text for e in made[: len(texts)]] == texts
    new = [e.text for e in made[len(texts) :]]
    assert len(set(new)) == len(new)
    assert not set(new) & set(texts)
    assert all(text.strip() for text in new)


def test_a_copy_is_never_on_the_other_side_of_an_episode(make_corpus):
    space = augment_space(TaskSpace.of(make_corpus(), ["swh"]), ["case", "noise"], 2)
    plain = TaskSpace.of(make_corpus(), ["swh"])
    assert space.held_out == plain.held_out
    assert space.labels == plain.labels
    for task, before in zip(space.sources, plain.sources, strict=True):
        assert len(task.pool) > 1.9 * len(before.pool)
        for place in range(20):
            drawn = draw_episode(task.pool, task.labels, 4, 8, "copies", place)
            support = {task.pool[row].id for row in drawn.support}
            assert not support & {task.pool[row].id for row in drawn.query}
            assert len({task.pool[row].text for row in drawn.query}) > 4
    assert augment_space(plain, []) is plain


def test_copies_in_a_parallel_corpus_keep_their_content_on_its_side(make_corpus):
    space = TaskSpace.of(make_corpus(parallel=True), ["swh"])
    augmented = augment_space(space, ["case"])
    for task, before in zip(augmented.sources, space.sources, strict=True):
        assert {e.id for e in task.pool} == {e.id for e in before.pool}


def test_fit_adds_copies_to_the_sources_alone(make_corpus, tiny_encoder, own_cache):
    class LowerEncoder(tiny_encoder):
        def encode(self, texts, *, description="encoding"):
            return super().encode([text.lower() for text in texts])

    recipe = Recipe(corpus="tiny", held_out=("swh",), augment=("case",), augment_copies=2)
    made = fit(make_corpus(), recipe, encoder=LowerEncoder())
    plain = fit(make_corpus(), Recipe(corpus="tiny", held_out=("swh",)), encoder=LowerEncoder())
    for ours, theirs in zip(made.sources.tables, plain.sources.tables, strict=True):
        assert 2.7 < len(ours.examples) / len(theirs.examples) <= 3
    assert made.space.held_out == plain.space.held_out
    assert drawing.fingerprint(made.sources) != drawing.fingerprint(plain.sources)


# --- Features.


def test_dropped_columns_are_the_same_in_support_and_query(toy_episode):
    episode = toy_episode((3, 3), blocks={"dense": 400, "lexical": 600})
    made = drop_columns(episode, 0.25, generator("drop"))
    for name, width in (("dense", 400), ("lexical", 600)):
        columns = []
        for before, after in ((episode.support, made.support), (episode.query, made.query)):
            zero = (after.inputs[name] == 0).all(0)
            assert torch.allclose(after.inputs[name][:, ~zero], before.inputs[name][:, ~zero] / 0.75)
            columns.append(zero)
        assert torch.equal(*columns)
        assert 0.18 < float(columns[0].float().mean()) < 0.32, width
    assert torch.equal(made.support.prior, episode.support.prior)
    assert torch.equal(made.query.targets, episode.query.targets)


def test_examples_are_mixed_with_others_of_their_label_alone(toy_episode):
    batch = toy_episode((1, 2, 5)).support
    made = mix_labels(batch, 0.5, generator("mix"))
    assert torch.equal(made.targets, batch.targets)
    assert torch.equal(made.inputs["dense"][0], batch.inputs["dense"][0])
    first, second = batch.inputs["dense"][1:3]
    for row in (1, 2):
        share = ((made.inputs["dense"][row] - second) / (first - second)).unique(dim=0)
        lexical = (made.inputs["lexical"][row] - batch.inputs["lexical"][2]) / (
            batch.inputs["lexical"][1] - batch.inputs["lexical"][2]
        )
        prior = (made.prior[row] - batch.prior[2]) / (batch.prior[1] - batch.prior[2])
        assert torch.allclose(share, share[0].expand_as(share), atol=1e-4)
        assert torch.allclose(lexical, share[0].expand_as(lexical), atol=1e-4)
        assert torch.allclose(prior, share[0].expand_as(prior), atol=1e-4)
        assert 0 <= float(share[0]) <= 1
    assert not torch.allclose(made.inputs["dense"][3:], batch.inputs["dense"][3:])
    # Every one has another for its partner, so that with λ near one half all of them move.
    moved = mix_labels(batch, 1e6, generator("mix")).inputs["dense"] - batch.inputs["dense"]
    assert (moved[1:].abs().max(1).values > 1e-3).all()
    assert mix_labels(replace(batch, prior=None), 1.0, generator("mix")).prior is None


def test_a_spoilt_prior_is_a_random_head_more_the_same_in_support_and_query():
    chance = torch.Generator().manual_seed(0)
    head = torch.randn(5, 3, generator=chance)

    def side(n, prior=True):
        x = {"dense": torch.randn(n, 5, generator=chance), "lexical": torch.randn(n, 4, generator=chance)}
        scores = x["dense"] @ head * torch.tensor([1.0, 1.0, 0.0])  # the third label is new to the sources
        return Batch(x, torch.arange(n) % 3, torch.tensor([4, 0, -1]), scores if prior else None)

    episode = Episode(side(9), side(60), task="swh")
    made = spoil_prior(episode, 0.5, ["dense"], generator("spoil"))
    sides = ((episode.support, made.support), (episode.query, made.query))
    noise = torch.cat([after.prior - before.prior for before, after in sides])
    features = torch.cat([before.inputs["dense"] for before, _ in sides])
    # What was added is linear in the prior's block: support and query share one head, found from both.
    found = torch.linalg.lstsq(features[:9], noise[:9]).solution
    assert torch.allclose(features @ found, noise, atol=1e-4)
    priors = torch.cat([before.prior for before, _ in sides])
    assert noise.std().item() == pytest.approx(0.5 * priors.std().item(), rel=1e-4)
    assert noise[:, :2].abs().max() > 0.01
    assert torch.equal(noise[:, 2], torch.zeros(69))
    assert all(torch.equal(before.inputs["dense"], after.inputs["dense"]) for before, after in sides)
    again, other = (spoil_prior(episode, 0.5, ["dense"], generator(key)) for key in ("spoil", "other"))
    assert torch.equal(made.support.prior, again.support.prior)
    assert not torch.allclose(made.support.prior, other.support.prior)
    for bare in (
        Episode(side(3, prior=False), side(3, prior=False), task="swh"),
        Episode(side(3), side(3, prior=False), task="swh"),
    ):
        assert spoil_prior(bare, 0.5, ["dense"], generator("spoil")) is bare


def test_half_of_the_training_episodes_have_a_spoilt_prior_and_by_zero_none(sources):
    plain, spoilt = TrainSettings(prior_noise=0.0), TrainSettings(prior_noise=0.3)
    by_default = TrainSettings()
    assert by_default.prior_noise is None and drawing.PRIOR_NOISE == {"label": 0.3, "example": 0.0}
    changed = []
    for number in range(40):
        ours, theirs, again = (drawing.source_episode(sources, s, number) for s in (plain, spoilt, spoilt))
        assert torch.equal(ours.support.inputs["dense"], theirs.support.inputs["dense"])
        assert torch.equal(theirs.support.prior, again.support.prior)
        default = drawing.source_episode(sources, by_default, number)
        assert torch.equal(theirs.support.prior, default.support.prior)
        changed.append(not torch.equal(ours.support.prior, theirs.support.prior))
        assert changed[-1] != torch.equal(ours.query.prior, theirs.query.prior)
    assert 10 < sum(changed) < 30
    _, judged = drawing.hold_apart(sources, spoilt.model_copy(update={"validation": ("eng",)}))
    _, calm = drawing.hold_apart(sources, plain.model_copy(update={"validation": ("eng",)}))
    assert all(torch.equal(a.support.prior, b.support.prior) for a, b in zip(judged, calm, strict=True))


def test_training_episodes_alone_are_disturbed_and_by_zero_not_at_all(sources):
    plain, none = TrainSettings(), TrainSettings(feature_dropout=0.0, mixup=0.0, balance=1.0)
    strong = TrainSettings(feature_dropout=0.5, mixup=1.0, validation=("eng",))
    for number in range(4):
        ours, theirs, other = (drawing.source_episode(sources, s, number) for s in (plain, none, strong))
        assert torch.equal(ours.support.inputs["dense"], theirs.support.inputs["dense"])
        assert torch.equal(ours.query.inputs["dense"], theirs.query.inputs["dense"])
        assert (other.query.inputs["dense"] == 0).all(0).any()
        again = drawing.source_episode(sources, strong, number)
        assert torch.equal(other.support.inputs["dense"], again.support.inputs["dense"])
    _, judged = drawing.hold_apart(sources, strong)
    _, calm = drawing.hold_apart(sources, plain.model_copy(update={"validation": ("eng",)}))
    assert all(
        torch.equal(a.support.inputs["dense"], b.support.inputs["dense"])
        for a, b in zip(judged, calm, strict=True)
    )
    everywhere = TrainSettings(tasks="all", feature_dropout=0.5)
    episode = drawing.source_draw(sources, everywhere)(0, 1)
    assert (episode.support.inputs["dense"] == 0).all(0).any()


def test_languages_are_drawn_by_their_size_as_far_as_balance_is_left_out(sources):
    big, *others = sources.tables
    tables = (big, *(replace(t, examples=t.examples[: len(t.examples) // 5]) for t in others))
    uneven = replace(sources, tables=tables)

    def share(balance):
        chance = generator("balance")
        drawn = [drawing._table(uneven, balance, chance).task.language for _ in range(600)]
        return drawn.count(big.task.language) / 600

    assert abs(share(1.0) - 1 / 4) < 0.06
    assert abs(share(0.0) - 5 / 8) < 0.06
    assert share(1.0) < share(0.5) < share(0.0)


def test_a_learner_learns_on_disturbed_episodes(noisy_sources):
    settings = TrainSettings(steps=6, shots=(2, 4), feature_dropout=0.3, mixup=0.5, balance=0.5)
    result = meta_train(noisy_sources, Ridge(), settings)
    other = meta_train(noisy_sources, Ridge(), TrainSettings(steps=6, shots=(2, 4)))
    assert np.isfinite(result.losses).all()
    assert any(not torch.equal(result.meta[name], other.meta[name]) for name in result.meta)


# --- Adapting.


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the village, on disk."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("model")
    patch.setenv("METAGLOT_CACHE", str(folder / "cache"))
    yield assistant(folder)
    patch.undo()


def test_copies_are_adapted_to_and_not_judged(model, monkeypatch):
    artifact = mg.load(model)
    examples = [
        Example(str(i), text, label, "swh")
        for label in LABELS
        for i, text in enumerate(sentences("swh", label, range(3)))
    ]
    sizes = []
    head = adapting.adapted_head

    def seen(*arguments):
        sizes.append(len(arguments[-1]))
        return head(*arguments)

    for place in (adapting, cross_validation):
        monkeypatch.setattr(place, "adapted_head", seen)
    plain = mg.adapt(artifact, "swh", examples)
    alone = list(sizes)
    sizes.clear()
    made = mg.adapt(artifact, "swh", examples, augment=("noise:0.5",), copies=2)
    assert alone == [12, 8, 8, 8]
    # Wherever an example is left out its copies are.
    assert sizes == [36, 24, 24, 24]
    assert made.adaptation.estimate["judged"] == plain.adaptation.estimate["judged"] == 12
    assert made.adaptation.examples == 12
    assert "24 changed copies of the examples" in " ".join(made.notices)
    differ = any(not torch.equal(made.adaptation.head[n], v) for n, v in plain.adaptation.head.items())
    assert differ
    with pytest.raises(UnknownNameError, match="Did you mean 'noise'"):
        mg.adapt(artifact, "swh", examples, augment=("niose",))


def test_the_command_adapts_to_copies(model, tmp_path):
    examples = write_examples(tmp_path / "swahili.csv")
    asked = ("adapt", model, "--language", "swh", "--examples", examples)
    assert "12 changed copies" in metaglot(*asked, "--augment", "case").err
    assert "strength of the augmentation" in refused(*asked, "--augment", "case:9")
    assert "a copy or more" in refused(*asked, "--augment", "case", "--copies", "0")
