"""What training leaves: whole, refused by name where it is not, and never half replaced."""

import errno
import json
import os
import shutil
import stat
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import village
from metaglot import adapting, artifact
from metaglot.artifact import Adaptation, check_free, load, save, save_adaptation
from metaglot.calibration import Calibration
from metaglot.data import load_examples
from metaglot.errors import ArtifactError, StorageError
from metaglot.model_card import model_card
from metaglot.predicting import predict
from village import metaglot, snapshot, write_examples

pytestmark = pytest.mark.usefixtures("own_cache")
PARTS = ("recipe.toml", "model.safetensors", "learner.safetensors")
TEXTS = ["muziki sasa", "weka alamu", "halo", ""]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained model's folder with an adaptation to Swahili, not to be changed."""
    folder = tmp_path_factory.mktemp("village")
    made = village.assistant(folder)
    metaglot("adapt", made, "--language", "swh", "--examples", write_examples(folder / "swahili.csv"))
    return made


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it that may be changed."""
    return shutil.copytree(trained, tmp_path / "assistant")


def refused(folder, *parts):
    with pytest.raises(ArtifactError) as caught:
        load(folder)
    message = str(caught.value)
    assert [part for part in parts if str(part) not in message] == []


def rewrite(path, **changes):
    """Change a manifest and seal it again: another version's, not a damaged one."""
    manifest = json.loads(path.read_text("utf-8")) | changes
    manifest = {name: value for name, value in manifest.items() if value is not None}
    manifest["hash"] = artifact.manifest_hash(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def seen(loaded):
    return [p.labels for p in predict(loaded, TEXTS, "swh", top=4)]


# --- what is saved is what is loaded


def test_adaptations_of_older_versions_have_no_calibration(folder):
    path = folder / "adaptations" / "swh.safetensors"
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["adaptation"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert json.loads(about.pop("calibration"))["temperature"] != 1
    about["hash"] = artifact.content_hash(about, tensors)
    artifact.write_tensors(path, tensors, {"adaptation": json.dumps(about)})
    assert load(folder).adaptations["swh"].calibration == Calibration()


@pytest.mark.parametrize("calibration", ["[1]", "3", '{"scope": 3}', '{"temperature": "hot"}'])
def test_a_calibration_that_makes_no_sense_is_refused(folder, calibration):
    path = folder / "adaptations" / "swh.safetensors"
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["adaptation"]) | {"calibration": calibration}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about["hash"] = artifact.content_hash(about, tensors)
    artifact.write_tensors(path, tensors, {"adaptation": json.dumps(about)})
    refused(folder, "expected an adaptation, found a damaged file", path)


def test_predictions_are_the_same_before_and_after(trained, tmp_path):
    loaded = load(trained)
    examples = load_examples(trained.parent / "swahili.csv", language="swh")
    made = adapting.adapt(loaded, "yor", examples).adaptation
    path = save_adaptation(made, shutil.copytree(trained, tmp_path / "copy"))
    again = load(tmp_path / "copy").adaptations["yor"]
    for name, value in made.head.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, again.head[name])
    assert replace(again, head={}) == replace(made, head={})
    before = [p.labels for p in predict(loaded, TEXTS, "yor", top=4, adaptation=made)]
    assert before == [p.labels for p in predict(load(tmp_path / "copy"), TEXTS, "yor", top=4)]
    assert path.stat().st_size < 8000  # 4 labels, 256 n-grams, two bytes each, and a header


def test_saving_what_was_loaded_keeps_everything(trained, tmp_path):
    save(load(trained), tmp_path / "copy")
    before, after = snapshot(trained), snapshot(tmp_path / "copy")
    assert after == before
    assert "adaptations/swh.safetensors" in after
    assert seen(load(tmp_path / "copy")) == seen(load(trained))


def test_anyone_may_read_it_and_nothing_is_pickled(trained):
    files = [p for p in trained.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".safetensors", ".toml", ".json", ".md"}
    readers = {".json": json.loads, ".toml": tomllib.loads, ".md": str}
    for file in files:
        if os.name == "posix":
            assert stat.S_IMODE(file.stat().st_mode) & 0o044 == 0o044 & ~current_umask()
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as tensors:
                assert list(tensors.keys())
        else:
            assert readers[file.suffix](file.read_text("utf-8"))


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- what is refused, by name


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_missing_changed_or_cut_is_named(folder, name):
    data = (folder / name).read_bytes()
    for changed in (data[:-1] + bytes([data[-1] ^ 1]), data[: len(data) // 2], b""):
        (folder / name).write_bytes(changed)
        refused(folder, folder / name, "damaged or was changed")
    (folder / name).unlink()
    refused(folder, folder / name, "no such file", "not copied whole")


def test_a_half_written_artifact_is_none(folder, tmp_path):
    manifest = folder / "manifest.json"
    data = manifest.read_bytes()
    for cut in (b"", b"{", data[:-3], data[: len(data) // 2], b"[]", b"3", b"\xff"):
        manifest.write_bytes(cut)
        refused(folder, manifest, "damaged")
    manifest.unlink()
    refused(folder, folder, "expected an artifact (a folder with manifest.json)", "metaglot train")
    refused(tmp_path / "none", "expected an artifact")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "expected an artifact")


def test_every_changed_byte_of_the_manifest_is_seen(folder):
    path = folder / "manifest.json"
    text = path.read_text("utf-8")
    for old, new in (('"greet"', '"greed"'), ('"sharpness": ', '"sharpness": 1'), ('"deu"', '"dev"')):
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")
        refused(folder, path, "damaged or was changed")


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9, 0.999])
def test_a_changed_byte_of_an_adaptation_is_seen(folder, at):
    path = folder / "adaptations" / "swh.safetensors"
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)
    refused(folder, path)


def test_damaged_adaptations_are_named(folder):
    path = folder / "adaptations" / "swh.safetensors"
    data = path.read_bytes()
    for cut in (b"", data[:4], data[: len(data) // 2], (folder / "model.safetensors").read_bytes()):
        path.write_bytes(cut)
        refused(folder, path, "Remove the file and adapt the language again")


def test_an_adaptation_of_another_run_is_refused(folder, trained, tmp_path):
    corpus = trained.parent / "village.csv"
    metaglot("train", corpus, "--out", tmp_path / "other", *village.QUICK, "--seed", 1)
    (tmp_path / "other" / "adaptations").mkdir()
    copied = shutil.copy(folder / "adaptations" / "swh.safetensors", tmp_path / "other" / "adaptations")
    refused(tmp_path / "other", copied, "another training run")


def test_other_formats_and_encoders_are_refused(folder):
    path = folder / "manifest.json"
    encoder = json.loads(path.read_text("utf-8"))["encoder"]
    rewrite(path, format=2)
    refused(folder, path, "of format 1, found format 2", "another version")
    rewrite(path, format=1, encoder=encoder | {"fingerprint": "0" * 64})
    refused(folder, path, "field 'encoder'", "'ngrams:256'", "found", "000000000000…")
    rewrite(path, encoder=None)
    refused(folder, path, "without encoder")


# --- where it may be written


def test_an_artifact_is_replaced_only_on_request(folder, trained):
    with pytest.raises(ArtifactError, match="its adaptations would be lost"):
        save(load(trained), folder)
    save(replace(load(trained), adaptations={}), folder, overwrite=True)
    assert not (folder / "adaptations").exists()
    assert [p.name for p in folder.parent.glob(".*")] == []


def test_what_is_no_artifact_is_never_replaced(trained, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.md").write_text("years of work")
    (tmp_path / "file").write_text("")
    for place in ("thesis", "file", "file/below", "..", "."):
        for overwrite in (False, True):
            with pytest.raises(ArtifactError):
                save(load(trained), tmp_path / place if place[0] != "." else Path(place), overwrite=overwrite)
    assert snapshot(tmp_path) == {"thesis/chapter.md": b"years of work", "file": b""}


def test_new_empty_and_linked_folders_are_written(trained, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")
    for place in ("empty", "a/b/c"):
        save(load(trained), tmp_path / place)
        assert seen(load(tmp_path / place)) == seen(load(trained))
    (tmp_path / "link").symlink_to(folder)
    save(replace(load(trained), adaptations={}), tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert load(folder).adaptations == {}
    assert {p.name for p in tmp_path.iterdir()} - {"cache"} == {"a", "assistant", "empty", "link"}


# --- nothing is lost


def fail(number):
    def raise_it(*_, **__):
        raise OSError(number, os.strerror(number))

    return raise_it


@pytest.mark.parametrize(
    "part", ["write_tensors", "write_recipe", "model_card", "write_json", "save_adaptation"]
)
def test_a_disk_that_fills_in_the_middle_costs_nothing(folder, trained, monkeypatch, part):
    before, loaded = snapshot(folder.parent), load(trained)
    monkeypatch.setattr(artifact, part, fail(errno.ENOSPC))
    with pytest.raises(StorageError, match="No space left on device") as caught:
        save(loaded, folder, overwrite=True)
    assert "The disk is full" in caught.value.hint
    assert snapshot(folder.parent) == before
    assert seen(load(folder)) == seen(loaded)


@pytest.mark.parametrize("number", [1, 2])
def test_a_rename_that_fails_is_undone(folder, trained, monkeypatch, number):
    before, loaded, rename, calls = snapshot(folder.parent), load(trained), Path.rename, []

    def rename_until(path, target):
        calls.append(path)
        if len(calls) == number:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_until)
    with pytest.raises(StorageError, match="Permission denied"):
        save(loaded, folder, overwrite=True)
    assert snapshot(folder) == before_of(before, folder.name)
    monkeypatch.undo()
    assert seen(load(folder)) == seen(loaded)


def before_of(files, name):
    return {path.removeprefix(f"{name}/"): data for path, data in files.items() if path.startswith(name)}


def test_an_adaptation_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
    before, loaded = snapshot(folder), load(folder)
    monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"swh\.safetensors: could not write: No space left"):
        save_adaptation(replace(loaded.adaptations["swh"], examples=1), folder)
    assert snapshot(folder) == before


@pytest.mark.parametrize("language", ["../x", "a/b", "", ".", "..", "-x", "x.y", "\0", "\ud800", "/etc/x"])
def test_a_code_that_is_no_file_name_stays_out(folder, language):
    before = snapshot(folder.parent)
    with pytest.raises(ArtifactError, match="code of letters, digits"):
        save_adaptation(Adaptation(language, ("a", "b"), {"bias": torch.zeros(2)}, 2), folder)
    assert snapshot(folder.parent) == before


def test_an_adaptation_belongs_into_an_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="expected an artifact"):
        save_adaptation(Adaptation("swh", ("a", "b"), {"bias": torch.zeros(2)}, 2), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("encoder", "licence"),
    [
        ("ngrams:256", "none: character n-grams have no weights"),
        ("e5-small+ngrams", "MIT (multilingual-e5-small)"),
        ("owner/name+ngrams", "see the card of `owner/name`"),
    ],
)
def test_the_card_names_the_licence_of_the_weights(encoder, licence):
    manifest = {
        "kind": "classification",
        "encoder": {"name": encoder, "fingerprint": "f" * 64},
        "learner": "auto",
        "seed": 0,
        "labels": ["a", "b"],
        "versions": {"metaglot": "0", "torch": "0"},
        "facts": {
            "sources": ["deu"],
            "corpus": {"name": "own", "examples": 4, "fingerprint": "f" * 64, "licence": ""},
            "metrics": {"metric": "accuracy", "cross_fitted": 0.5},
        },
    }
    card = model_card(manifest)
    assert f"| Licence of the encoder | {licence}" in card
    assert "not stated by the corpus" in card
