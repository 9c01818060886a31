"""The outer loop: a run that is stopped goes on as if it had not been."""

import dataclasses
import errno

import pytest
import torch
from safetensors.torch import load_file, save_file

from metaglot.checkpoint import Checkpoint, State
from metaglot.config import TrainSettings
from metaglot.errors import SettingsError, StorageError
from metaglot.learners import LEARNERS
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.ridge import Ridge
from metaglot.model import Sources
from metaglot.outer_loop import meta_train, source_episode

pytestmark = pytest.mark.filterwarnings("error")

SETTINGS = TrainSettings(steps=8, episodes=2, pool=6, shots=(1, 2), queries=2, checkpoint_every=3)


class Spy:
    """Counts a run's steps, and fails at one of them."""

    def __init__(self, monkeypatch):
        self.calls, self.fail_at, self.fault = 0, None, KeyboardInterrupt

        def gradient(*args, **kwargs):
            if self.calls == self.fail_at:
                raise self.fault
            self.calls += 1
            return meta_gradient(*args, **kwargs)

        monkeypatch.setattr("metaglot.meta_loss.meta_gradient", gradient)


def stopped(sources, learner, settings, spy, step, path, fault=KeyboardInterrupt):
    spy.calls, spy.fail_at, spy.fault = 0, step, fault
    with pytest.raises(fault):
        meta_train(sources, learner, settings, checkpoint=path)
    spy.calls, spy.fail_at = 0, None


def same(one, other):
    return one.losses == other.losses and all(torch.equal(one.meta[k], other.meta[k]) for k in one.meta)


FITTING = [name for name in LEARNERS if "label-scores" in LEARNERS[name]().needs]


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("pool", [0, 6])
def test_a_stopped_run_goes_on_bit_for_bit(name, pool, noisy_sources, tmp_path, monkeypatch):
    learner = LEARNERS[name]()
    settings = SETTINGS.model_copy(update={"pool": pool})
    whole = meta_train(noisy_sources, learner, settings)
    spy = Spy(monkeypatch)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, learner, settings, spy, 5, path)
    assert path.exists()
    resumed = meta_train(noisy_sources, learner, settings, checkpoint=path)
    assert spy.calls == 3
    assert same(resumed, whole)
    assert path.exists()  # until what was learned is safe elsewhere
    assert same(meta_train(noisy_sources, learner, settings, checkpoint=path), whole)
    assert spy.calls == 3
    Checkpoint(path).remove()
    assert list(tmp_path.iterdir()) == []


def test_a_run_may_be_stopped_at_any_step_and_more_than_once(noisy_sources, tmp_path, monkeypatch):
    whole = meta_train(noisy_sources, Ridge(), SETTINGS)
    spy = Spy(monkeypatch)
    path = tmp_path / "run.safetensors"
    for _ in range(SETTINGS.steps - 1):
        stopped(noisy_sources, Ridge(), SETTINGS, spy, 1, path)
    resumed = meta_train(noisy_sources, Ridge(), SETTINGS, checkpoint=path)
    assert spy.calls == 1
    assert same(resumed, whole)


def test_a_run_that_crashes_goes_on_from_its_last_checkpoint(noisy_sources, tmp_path, monkeypatch):
    whole = meta_train(noisy_sources, Ridge(), SETTINGS)
    spy = Spy(monkeypatch)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path, RuntimeError)
    resumed = meta_train(noisy_sources, Ridge(), SETTINGS, checkpoint=path)
    assert spy.calls == 8 - 3
    assert same(resumed, whole)


def test_an_interrupt_inside_a_step_leaves_the_last_checkpoint(noisy_sources, tmp_path, monkeypatch):
    whole = meta_train(noisy_sources, Ridge(), SETTINGS)
    path = tmp_path / "run.safetensors"
    step, made = torch.optim.Adam.step, []

    def step_then_stop(optimizer, *args, **kwargs):
        step(optimizer, *args, **kwargs)
        made.append(1)
        if len(made) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.Adam, "step", step_then_stop)
    with pytest.raises(KeyboardInterrupt):
        meta_train(noisy_sources, Ridge(), SETTINGS, checkpoint=path)
    monkeypatch.setattr(torch.optim.Adam, "step", step)
    assert len(losses_of(path)) == 3
    assert same(meta_train(noisy_sources, Ridge(), SETTINGS, checkpoint=path), whole)


@pytest.mark.parametrize(
    "change", [{"rate": 2.0}, {"seed": 1}, {"shots": (2,)}, {"steps": 9}], ids=lambda c: next(iter(c))
)
def test_a_checkpoint_of_other_settings_is_not_used(change, noisy_sources, tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(update=change)
    whole = meta_train(noisy_sources, Ridge(), settings)
    spy = Spy(monkeypatch)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path)
    assert same(meta_train(noisy_sources, Ridge(), settings, checkpoint=path), whole)
    assert spy.calls == settings.steps


def test_a_checkpoint_of_other_texts_is_not_used(noisy_sources, tmp_path, monkeypatch):
    spy = Spy(monkeypatch)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path)
    first = noisy_sources.tables[0]
    examples = (dataclasses.replace(first.examples[0], text="corrected"), *first.examples[1:])
    tables = (dataclasses.replace(first, examples=examples), *noisy_sources.tables[1:])
    meta_train(Sources(noisy_sources.model, tables), Ridge(), SETTINGS, checkpoint=path)
    assert spy.calls == 8


def losses_of(path):
    return load_file(path)["history/losses"].tolist()


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


BREAK = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "empty": lambda path: path.write_bytes(b""),
    "a bit flipped": flip,
    "no hash": lambda path: save_file(load_file(path), path, {"key": "k"}),
    "no header": lambda path: save_file(load_file(path), path),
}


@pytest.mark.parametrize("broken", list(BREAK))
@pytest.mark.parametrize("every", [False, True], ids=["the newest", "all"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(
    broken, every, noisy_sources, tmp_path, monkeypatch, capsys
):
    whole = meta_train(noisy_sources, Ridge(), SETTINGS)
    spy = Spy(monkeypatch)
    path = tmp_path / "run.safetensors"
    before = path.with_name("run.safetensors.1")
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path)
    assert (len(losses_of(path)), len(losses_of(before))) == (5, 3)
    for file in (path, before) if every else (path,):
        BREAK[broken](file)
    capsys.readouterr()
    settings = SETTINGS.model_copy(update={"checkpoint_every": 100})
    assert same(meta_train(noisy_sources, Ridge(), settings, checkpoint=path), whole)
    assert spy.calls == (8 if every else 5)
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("is damaged and not used") == (2 if every else 1)


def test_two_runs_that_differ_do_not_lose_each_others_checkpoint(
    noisy_sources, tmp_path, monkeypatch, capsys
):
    other = SETTINGS.model_copy(update={"rate": 2.0})
    spy = Spy(monkeypatch)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 2, path)
    stopped(noisy_sources, Ridge(), other, spy, 2, path)
    assert "of other settings" in " ".join(capsys.readouterr().err.split())
    meta_train(noisy_sources, Ridge(), SETTINGS, checkpoint=path)
    assert spy.calls == 8 - 2


def test_the_newest_checkpoints_are_kept_and_no_more(noisy_sources, tmp_path):
    path = tmp_path / "run.safetensors"
    settings = SETTINGS.model_copy(update={"checkpoint_every": 1, "checkpoints": 3})
    meta_train(noisy_sources, Ridge(), settings, checkpoint=path)
    files = [path, path.with_name("run.safetensors.1"), path.with_name("run.safetensors.2")]
    assert sorted(tmp_path.iterdir()) == files
    assert [len(losses_of(file)) for file in files] == [8, 7, 6]


def test_a_full_disk_leaves_the_checkpoint_before(noisy_sources, tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    write = State.pack

    def pack(state, key):
        if state.history.steps == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(state, key)

    monkeypatch.setattr(State, "pack", pack)
    with pytest.raises(StorageError, match="No space left") as error:
        meta_train(noisy_sources, Ridge(), SETTINGS, checkpoint=path)
    assert "disk is full" in error.value.hint
    assert len(losses_of(path)) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_of_any_tensors_is_read_back():
    rows = torch.arange(6.0).reshape(2, 3)
    meta = {"rows": rows, "transposed": rows.T, "a/b": rows[0], "half": rows.bfloat16(), "none": rows[:0]}
    meta |= {"whole": torch.tensor(3), "wide": torch.ones(1).expand(4), "double": rows.double()}
    found, key = State.unpack(State(meta, {"step/rows": torch.tensor(2.0)}, best={"rows": rows}).pack("key"))
    assert key == "key"
    assert found.meta.keys() == meta.keys()
    for name, value in meta.items():
        assert found.meta[name].dtype == value.dtype
        assert torch.equal(found.meta[name], value)
    assert (list(found.optimizer), list(found.best)) == (["step/rows"], ["rows"])


def test_what_a_killed_process_left_behind_is_removed(tmp_path):
    path = tmp_path / "run.safetensors"
    names = ("run.safetensors", "run.safetensors.7", ".run.safetensors.x1.tmp")
    others = ("run.safetensors.backup", "another.safetensors", ".another.safetensors.x1.tmp")
    for name in (*names, *others):
        (tmp_path / name).write_text("")
    Checkpoint(path).remove()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)
    Checkpoint(path).remove()
    Checkpoint(None).remove()


def test_a_checkpoint_is_tensors_and_plain_text(noisy_sources, tmp_path, monkeypatch):
    spy = Spy(monkeypatch)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path)
    assert int(load_file(path)["optimizer/step/log_penalty"]) == 5
    assert len(losses_of(path)) == 5


def test_a_learner_that_does_not_fit_is_refused_before_anything_is_done(noisy_sources, monkeypatch):
    monkeypatch.setattr(Ridge, "needs", frozenset({"token-scores"}))
    with pytest.raises(SettingsError, match=r"'mine' needs token-scores, and the kind 'classification'"):
        meta_train(noisy_sources, Ridge(), SETTINGS, name="mine")


def test_the_global_generator_has_no_say(noisy_sources):
    torch.manual_seed(1)
    one = meta_train(noisy_sources, Ridge(), SETTINGS)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert same(one, meta_train(noisy_sources, Ridge(), SETTINGS))
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_differ(noisy_sources):
    other = SETTINGS.model_copy(update={"seed": 3})
    assert (
        meta_train(noisy_sources, Ridge(), SETTINGS).losses
        != meta_train(noisy_sources, Ridge(), other).losses
    )


def test_episodes_are_of_every_source_language_with_all_labels_or_fewer(noisy_sources):
    episodes = [source_episode(noisy_sources, SETTINGS, i) for i in range(60)]
    assert {e.task for e in episodes} == {"amh", "eng", "hau", "yor"}
    ways = [len(e.support.classes) for e in episodes]
    assert set(ways) == {2, 3, 4}
    assert 0.5 < sum(w == 4 for w in ways) / 60 < 0.85
    assert {len(e.support) // len(e.support.classes) for e in episodes} == {1, 2}
    for episode in episodes:
        assert torch.equal(episode.support.classes, episode.query.classes)
        assert set(episode.support.targets.tolist()) == set(range(len(episode.support.classes)))
        assert episode.support.prior.shape == (len(episode.support), len(episode.support.classes))
