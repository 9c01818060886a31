"""Learners and adaptations on disk: what is written is what is read, or nothing is."""

import json

import pytest
import torch

import networks as nets
from metaglot.errors import ArtifactError, SettingsError, StorageError, UnknownNameError
from metaglot.learners import saving
from metaglot.learners.maml import MAML
from metaglot.learners.modules import ModuleModel
from metaglot.learners.saving import load_adaptation, load_learner, save_adaptation, save_learner

OPTIONS = {"steps": 2, "rate": 0.1, "adapt": "head", "learn_rates": "step"}


@pytest.fixture
def model():
    return ModuleModel(nets.mlp())


@pytest.fixture
def meta(model):
    return nets.moved(MAML(**OPTIONS), model)


@pytest.fixture
def folder(tmp_path, meta):
    return save_learner(tmp_path / "runs" / "one", "maml", OPTIONS, meta)


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_learner_comes_back_with_its_options_and_meta_parameters(folder, meta, model):
    learner, found = load_learner(folder, model)
    assert isinstance(learner, MAML)
    assert (learner.inner.steps, learner.inner.adapt, learner.inner.learn_rates) == (2, "head", "step")
    assert list(found) == list(meta)
    assert all(torch.equal(found[n], meta[n]) for n in meta)
    assert set(files(folder)) == {
        "learner.json",
        saving._file_of(json.loads((folder / "learner.json").read_text())["meta"]),
    }


def test_shared_and_own_parameters_are_apart(folder, meta, model, tmp_path):
    learner, found = load_learner(folder)
    adapted = learner.adapt(model, found, nets.batch(0))
    file = save_adaptation(tmp_path / "swh.safetensors", adapted, learner=folder, about={"language": "swh"})
    again, about = load_adaptation(file, learner=folder)
    assert about == {"language": "swh"}
    assert list(again) == list(adapted) == ["2.weight", "2.bias"]
    batch = nets.batch(1)
    with torch.no_grad():
        expected = learner.predict(model, found, adapted, batch)
        assert torch.equal(learner.predict(model, found, again, batch), expected)
    assert load_adaptation(file)[1] == about  # a learner that is not named is not checked


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_every_type_and_shape_comes_back(tmp_path, dtype):
    value = torch.ones(2, 3).to(dtype)
    adapted = {"whole": value, "view": value.T, "scalar": value[0, 0], "empty": value[:0], "same": value}
    adapted = {
        n: v.requires_grad_() if dtype is torch.float64 and n == "whole" else v for n, v in adapted.items()
    }
    found, _ = load_adaptation(save_adaptation(tmp_path / "a", adapted))
    assert all(torch.equal(found[n], adapted[n]) and found[n].dtype is dtype for n in adapted)


def test_the_same_content_is_the_same_bytes(tmp_path, meta):
    one, two = (save_learner(tmp_path / name, "maml", OPTIONS, meta) for name in ("a", "b"))
    assert files(one) == files(two)


def test_a_learner_saved_again_takes_the_place_of_the_old(folder, meta):
    save_learner(folder, "maml", OPTIONS, {n: v + 1 for n, v in meta.items()})
    assert len(files(folder)) == 2
    assert torch.equal(load_learner(folder)[1]["start.0.bias"], meta["start.0.bias"] + 1)


def test_stopped_at_any_moment_the_old_learner_is_whole(folder, meta, monkeypatch):
    def fails(*args, **options):
        raise OSError(28, "No space left on device")

    for name in ("saving.write_json", "saving.save_tensors", "saving._file_of"):
        with monkeypatch.context() as patched, pytest.raises((OSError, StorageError)):
            patched.setattr(f"metaglot.learners.{name}", fails)
            save_learner(folder, "maml", OPTIONS, {n: v + 1 for n, v in meta.items()})
        assert torch.equal(load_learner(folder)[1]["start.0.bias"], meta["start.0.bias"])


def test_every_changed_byte_is_seen(folder, model, meta, tmp_path):
    learner, found = load_learner(folder)
    adaptation = save_adaptation(tmp_path / "a.safetensors", learner.adapt(model, found, nets.batch(0)))
    (tensors,) = folder.glob("meta-*")
    for file, load in (
        (adaptation, lambda: load_adaptation(adaptation)),
        (tensors, lambda: load_learner(folder)),
    ):
        whole = file.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 60)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(ArtifactError, match="expected"):
                load()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ArtifactError, match="damaged"):
            load()
        file.write_bytes(whole)
        load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("meta"), "found a damaged file: KeyError"),
        (lambda m: m.update(format=2), "format 1, found format 2"),
        (
            lambda m: m.update(options={"steps": 3}),
            "the meta-parameters of learner.json, found others",
        ),
        (lambda m: m.update(learner="reptile"), "the meta-parameters of learner.json, found others"),
        (lambda m: m["tensors"].popitem(), "the meta-parameters of learner.json, found others"),
        (lambda m: m.update(meta="0" * 64), "meta-parameters, found no such file"),
    ],
)
def test_a_description_that_was_changed_is_refused(folder, change, message):
    manifest = json.loads((folder / "learner.json").read_text())
    change(manifest)
    (folder / "learner.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=message):
        load_learner(folder)


def test_what_is_no_learner_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"a folder with learner.json\), found none"):
        load_learner(tmp_path)
    (tmp_path / "learner.json").write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        load_learner(tmp_path)
    with pytest.raises(ArtifactError, match="an adaptation, found no such file"):
        load_adaptation(tmp_path / "none.safetensors")


def test_another_model_is_refused_with_both_shapes(folder):
    with pytest.raises(ArtifactError, match=r"0.weight float32 \[7, 4\], found float32 \[6, 4\]"):
        load_learner(folder, ModuleModel(nets.mlp(width=7)))
    with pytest.raises(
        ArtifactError, match=r"start.weight float32 \[3, 4\], found none.*no start.0.bias, found"
    ):
        load_learner(folder, ModuleModel(torch.nn.Linear(4, 3)))


def test_an_adaptation_by_another_learner_is_refused(folder, tmp_path, meta):
    other = save_learner(tmp_path / "other", "maml", OPTIONS, {n: v + 1 for n, v in meta.items()})
    file = save_adaptation(tmp_path / "a", {"2.bias": torch.zeros(3)}, learner=other)
    with pytest.raises(ArtifactError, match=r"by the learner in .*one, found one by another"):
        load_adaptation(file, learner=folder)


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("mamll", {}, UnknownNameError),
        ("maml", {"stepss": 2}, SettingsError),
        ("maml", {"rates": {"*": object()}}, Exception),
        ("maml", {"optimizer_options": {"betas": {1, 2}}, "optimizer": "adam"}, SettingsError),
    ],
)
def test_a_learner_that_could_not_be_made_again_is_not_written(tmp_path, meta, name, options, error):
    with pytest.raises(error):
        save_learner(tmp_path / "x", name, options, meta)
    assert not (tmp_path / "x").exists()
