"""The options of `metaglot train` for runs that last, and what is left when something goes wrong."""

import errno
import json

import pytest

from metaglot import artifact, meta_loss
from metaglot.cli.options import train_settings
from metaglot.config import TrainSettings, read_recipe
from metaglot.errors import SettingsError
from village import QUICK, metaglot, refused, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("village") / "village.csv")


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [
        ("clip=1.0", "clip", 1.0),
        ("clip = 2", "clip", 2.0),
        ("optimizer=adamw", "optimizer", "adamw"),
        ('schedule="linear"', "schedule", "linear"),
        ("shots=1,2", "shots", (1, 2)),
        ("shots=[4]", "shots", (4,)),
        ("validation=swh,yor", "validation", ("swh", "yor")),
        ("validation=swh", "validation", ("swh",)),
        ('validation=["a b"]', "validation", ("a b",)),
        ("validation=0.25", "validation", 0.25),
        ("weights.swh=2", "weights", {"swh": 2.0}),
        ("weights={swh = 2, yor = 0.5}", "weights", {"swh": 2.0, "yor": 0.5}),
        ("tasks=all", "tasks", "all"),
    ],
)
def test_a_setting_is_written_as_in_a_recipe_or_shorter(written, name, value):
    recipe = read_recipe(None, {"corpus": "c", **train_settings([written])})
    assert getattr(recipe.train, name) == value


def test_settings_lie_over_the_recipe_and_before_their_own_options(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("corpus = 'c'\n[train]\nclip = 3.0\nwarmup = 4\n[train.weights]\nswh = 2.0\n")
    overrides = {**train_settings(["clip=1.0", "weights.yor=3", "steps=9"]), "train.steps": 8}
    settings = read_recipe(path, {"corpus": "c", **overrides}).train
    assert (settings.clip, settings.warmup, settings.steps) == (1.0, 4, 8)
    assert settings.weights == {"swh": 2.0, "yor": 3.0}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--set", "clip"], ["expected --set SETTING=VALUE", "found 'clip'"]),
        (["--set", "=1"], ["expected --set SETTING=VALUE"]),
        (["--set", "klip=1"], ["train.klip: no such setting. Did you mean 'clip'?"]),
        (["--set", "clip=-1"], ["train.clip: Input should be greater than or equal to 0, found -1"]),
        (["--set", "clip=hard"], ["train.clip", "found 'hard'"]),
        (["--set", "optimizer=adm"], ["'adam', 'adamw' or 'sgd', found 'adm'"]),
        (["--set", "warmup=500"], ["warmup should be less than steps"]),
        (["--set", "validation=1.5"], ["languages or a share between 0 and 1, found 1.5"]),
        (["--set", "weights.swh=0"], ["train.weights.swh", "greater than 0"]),
        (["--set", "seed.x=1"], ["train.seed"]),
        (["--set", "validation=hausa"], ["expected source languages (deu, eng, spa, swh)", "found 'hausa'"]),
        (["--track", "tensorboard"], ["expected --log-folder DIR with --track"]),
        (["--track", "tensorbord", "--log-folder", "log"], ["Did you mean 'tensorboard'?"]),
        (["--plot", "curves.doc"], ["expected the plot's file to end in"]),
    ],
    ids=lambda value: value[-1] if value[0].startswith("--") else "",
)
def test_what_is_wrong_is_said_and_nothing_is_written(options, parts, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = " ".join(refused("train", corpus, *QUICK, *options, "--out", tmp_path / "new").split())
    for part in parts:
        assert part in said
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_everything(corpus, tmp_path):
    out = tmp_path / "model"
    settings = [
        "--set",
        "validation=eng",
        "--set",
        "clip=1.0",
        "--set",
        "tasks=all",
        "--set",
        "curves_every=1",
    ]
    more = ["--log-folder", tmp_path / "log", "--plot", tmp_path / "curves.png"]
    metaglot("train", corpus, "--held-out", "swh", *QUICK, *settings, *more, "--out", out)
    training = json.loads((out / "manifest.json").read_text())["facts"]["training"]
    assert set(training["curves"]) == {"deu", "spa"}
    assert set(training["validation"]) == {"eng"}
    assert training["best_step"] in [step for step, _ in training["validation"]["eng"]]
    used = read_recipe(out / "recipe.toml", {}).train
    assert used == TrainSettings(steps=used.steps, validation=("eng",), clip=1.0, tasks="all", curves_every=1)
    assert len((tmp_path / "log" / "log.jsonl").read_text().splitlines()) >= used.steps
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))
    assert artifact.load(out).facts["training"] == training


def test_what_was_learned_is_kept_until_the_artifact_is_saved(corpus, tmp_path, monkeypatch):
    command = ("train", corpus, "--held-out", "swh", *QUICK, "--out", tmp_path / "model")
    steps, gradient, write = [], meta_loss.meta_gradient, artifact.write_tensors

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifact, "write_tensors", full)
    assert "The disk is full" in metaglot(*command, may=(2,)).err
    assert not (tmp_path / "model").exists()
    assert (tmp_path / ".model.checkpoint.safetensors").is_file()
    monkeypatch.setattr(artifact, "write_tensors", write)
    monkeypatch.setattr(meta_loss, "meta_gradient", lambda *a, **k: (steps.append(1), gradient(*a, **k))[1])
    metaglot(*command)
    assert steps == []
    assert (tmp_path / "model" / "manifest.json").is_file()
    assert not list(tmp_path.glob(".*"))


def test_only_pairs_are_settings():
    with pytest.raises(SettingsError, match="found 'x'"):
        train_settings(["x"])
    assert train_settings(None) == {}
