"""Pretrained models in the place of compact ones: trained by low-rank updates, saved, adapted, used."""

import pytest
import torch
import transformers as hf

from metaglot.config import read_settings
from metaglot.errors import ArtifactError, DataError, SettingsError
from metaglot.generation import adapting, artifact
from metaglot.generation.adapting import adapt_to, material_of
from metaglot.generation.corpora import teach
from metaglot.generation.learning import Updates
from metaglot.generation.pretrained import PretrainedSide
from metaglot.generation.recipe import EpisodeSettings, GenerationRecipe, JointSettings
from metaglot.generation.training import train
from metaglot.generation.using import translate

SIZES = {"d_model": 16, "max_position_embeddings": 64} | {
    f"{side}_{what}": size
    for side in ("encoder", "decoder")
    for what, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))
}


@pytest.fixture(scope="module")
def nllb(tmp_path_factory):
    """A folder with a tiny model of NLLB's kind and its tokenizer."""
    folder = tmp_path_factory.mktemp("nllb")
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    tags = ["eng_Latn", "swh_Latn", "zul_Latn", "xho_Latn", "lug_Latn"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = hf.NllbTokenizer(vocab=vocab, merges=[], extra_special_tokens=tags)
    torch.manual_seed(0)
    hf.M2M100ForConditionalGeneration(hf.M2M100Config(vocab_size=40, **SIZES)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    words = ("red", "green", "blue", "one", "two", "six")
    for code in ("swh", "zul", "xho", "lug"):
        for split, numbers in (("train", range(24)), ("test", range(24, 30))):
            (folder / split).mkdir(exist_ok=True)
            lines = []
            for n in numbers:
                text = " ".join([words[n % 6], words[n * 5 % 6], "abcdefghijklmnopqrstuvwxyz"[n % 26]])
                lines.append(f"{text.replace('e', code[0])}\t{text}\n")
            (folder / split / f"{code}-eng.tsv").write_text("".join(lines), "utf-8")
    return folder


def recipe_of(nllb, pairs, **changes):
    values = {
        "corpus": str(pairs),
        "kind": "translation",
        "model": str(nllb),
        "lora": 2,
        "held_out": ("lug",),
        "joint": JointSettings(steps=2, batch=4),
        "train": EpisodeSettings(steps=2, episodes=1, query=4, support=8),
        "learner_options": {"steps": 2, "batch": 4},
    }
    return GenerationRecipe(**values | changes)


def test_low_rank_updates_are_all_that_is_learned_and_saved(nllb, pairs, tmp_path):
    made = train(recipe_of(nllb, pairs))
    names = [name for name in made.meta if name.startswith("start.")]
    assert names
    assert all("lora_" in name for name in names)
    artifact.save(made, tmp_path / "model")
    assert not (tmp_path / "model" / "vocabulary.json").exists()
    again = artifact.load(tmp_path / "model")
    texts = ["rad abc", "", "green"]
    assert translate(again, texts, "lug", width=1) == translate(made, texts, "lug", width=1)
    assert translate(again, texts, "lug")[1] == ""
    material, told = material_of(again, teach(made.recipe).data.restrict(["lug"]), "lug")
    assert not told
    adapted = adapt_to(again, material, "lug", updates=Updates(3, 4, 3.0))
    assert set(adapted.own) == {name.removeprefix("start.") for name in names}
    artifact.save_adaptation(adapted, tmp_path / "model")
    loaded = artifact.load(tmp_path / "model")
    own = dict(loaded.writer("lug").named_parameters())
    assert all(torch.equal(own[name], value) for name, value in adapted.own.items())
    assert not torch.equal(own[names[-1][6:]], again.meta[names[-1]])
    frozen = dict(made.module.named_parameters())
    assert all(torch.equal(frozen[name], value) for name, value in own.items() if "lora_" not in name)


def test_all_of_a_model_can_be_learned(nllb, pairs):
    made = train(recipe_of(nllb, pairs, lora=0))
    assert made.facts["parameters"] == sum(
        p.numel() for p in PretrainedSide(str(nllb), 0).module().parameters()
    )


def test_what_is_given_is_not_predicted(nllb, pairs):
    side = PretrainedSide(str(nllb))
    known = teach(recipe_of(nllb, pairs)).data.select("swh", "train")[:3]
    material = side.material(known)
    batch = material.batch([0, 1, 2])
    assert material.given == 2
    assert (batch.targets[:, 0] == 0).all()
    assert (batch.targets[:, 1] > 0).all()
    assert material.n_tokens == int((batch.targets > 0).sum())
    tokens = side.tokens.batch([p.source for p in known], [p.target for p in known], "swh", "eng")
    assert torch.equal(tokens.targets, batch.targets)
    assert torch.equal(tokens.inputs["source"], batch.inputs["source"])


def test_another_model_is_refused(nllb, pairs, tmp_path):
    folder = tmp_path / "model"
    artifact.save(train(recipe_of(nllb, pairs, lora=2)), folder)
    weights = nllb / "model.safetensors"
    before = weights.read_bytes()
    try:
        torch.manual_seed(1)
        hf.M2M100ForConditionalGeneration(hf.M2M100Config(vocab_size=40, **SIZES)).save_pretrained(nllb)
        with pytest.raises(ArtifactError, match="fingerprint"):
            artifact.load(folder)
    finally:
        weights.write_bytes(before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 64}, "width is the pretrained model's own"),
        ({"vocabulary": 300}, "vocabulary is the pretrained model's own"),
        ({"model": "", "lora": 4}, "lora is for a pretrained model"),
        ({"model": "", "prompt": "to {target}: "}, "prompt is for a pretrained model"),
        ({"kind": "language-modelling"}, "setting of translation"),
    ],
)
def test_settings_that_do_not_fit_are_said(changes, said):
    values = {"corpus": "x", "kind": "translation", "model": "some/model"} | changes
    with pytest.raises(SettingsError, match=said):
        read_settings(GenerationRecipe, None, values)


def test_models_without_tags_are_told_by_a_prompt(tmp_path, pairs):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    config = hf.T5Config(vocab_size=384, decoder_start_token_id=0, **sizes)
    hf.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    hf.ByT5Tokenizer().save_pretrained(tmp_path)
    known = teach(recipe_of(tmp_path, pairs, prompt="{source} to {target}: ")).sources["swh"]
    plain = teach(recipe_of(tmp_path, pairs)).sources["swh"]
    longer = len(b"Swahili to English: ")
    assert (known.lengths() - plain.lengths() == longer).all()
    assert known.given == 1


def test_no_pair_that_fits(nllb):
    with pytest.raises(DataError, match="none of 0"):
        PretrainedSide(str(nllb)).material([])


def test_updates_are_chosen_for_them_too(nllb, pairs, monkeypatch):
    monkeypatch.setattr(adapting, "STEPS", (2, 4))
    made = train(recipe_of(nllb, pairs))
    material, _ = material_of(made, teach(made.recipe).data.restrict(["lug"]), "lug")
    adapted = adapt_to(made, material, "lug")
    assert adapted.updates in (2, 4)
    assert adapted.estimate is not None
