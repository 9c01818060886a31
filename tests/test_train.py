"""The outer loop: a run that is stopped goes on as if it had not been."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from metaglot.config import TrainSettings
from metaglot.errors import SettingsError, TrainingError
from metaglot.learners import LEARNERS
from metaglot.learners.ridge import Ridge
from metaglot.model import Sources
from metaglot.outer_loop import meta_train, source_episode

pytestmark = pytest.mark.filterwarnings("error")

SETTINGS = TrainSettings(steps=8, episodes=2, pool=6, shots=(1, 2), queries=2, checkpoint_every=3)


class Spy:
    """Counts a learner's meta-losses, and fails at one of them."""

    def __init__(self, monkeypatch, kind):
        self.calls, self.fail_at, self.fault = 0, None, KeyboardInterrupt
        real = kind.meta_loss

        def meta_loss(learner, model, meta, episodes):
            if self.calls == self.fail_at:
                raise self.fault
            self.calls += 1
            return real(learner, model, meta, episodes)

        monkeypatch.setattr(kind, "meta_loss", meta_loss)


def stopped(sources, learner, settings, spy, step, path, fault=KeyboardInterrupt):
    spy.calls, spy.fail_at, spy.fault = 0, step, fault
    with pytest.raises(fault):
        meta_train(sources, learner, settings, checkpoint=path)
    spy.calls, spy.fail_at = 0, None


def same(one, other):
    return one.losses == other.losses and all(torch.equal(one.meta[k], other.meta[k]) for k in one.meta)


@pytest.mark.parametrize("name", list(LEARNERS))
@pytest.mark.parametrize("pool", [0, 6])
def test_a_stopped_run_goes_on_bit_for_bit(name, pool, noisy_sources, tmp_path, monkeypatch):
    learner = LEARNERS[name]()
    settings = SETTINGS.model_copy(update={"pool": pool})
    whole = meta_train(noisy_sources, learner, settings)
    spy = Spy(monkeypatch, type(learner))
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, learner, settings, spy, 5, path)
    assert path.exists()
    resumed = meta_train(noisy_sources, learner, settings, checkpoint=path)
    assert spy.calls == 3
    assert same(resumed, whole)
    assert list(tmp_path.iterdir()) == []


def test_a_run_may_be_stopped_at_any_step_and_more_than_once(noisy_sources, tmp_path, monkeypatch):
    whole = meta_train(noisy_sources, Ridge(), SETTINGS)
    spy = Spy(monkeypatch, Ridge)
    path = tmp_path / "run.safetensors"
    for _ in range(SETTINGS.steps - 1):
        stopped(noisy_sources, Ridge(), SETTINGS, spy, 1, path)
    resumed = meta_train(noisy_sources, Ridge(), SETTINGS, checkpoint=path)
    assert spy.calls == 1
    assert same(resumed, whole)


def test_a_run_that_crashes_goes_on_from_its_last_checkpoint(noisy_sources, tmp_path, monkeypatch):
    whole = meta_train(noisy_sources, Ridge(), SETTINGS)
    spy = Spy(monkeypatch, Ridge)
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
    spy = Spy(monkeypatch, Ridge)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path)
    assert same(meta_train(noisy_sources, Ridge(), settings, checkpoint=path), whole)
    assert spy.calls == settings.steps


def test_a_checkpoint_of_other_texts_is_not_used(noisy_sources, tmp_path, monkeypatch):
    spy = Spy(monkeypatch, Ridge)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path)
    first = noisy_sources.tables[0]
    examples = (dataclasses.replace(first.examples[0], text="corrected"), *first.examples[1:])
    tables = (dataclasses.replace(first, examples=examples), *noisy_sources.tables[1:])
    meta_train(Sources(noisy_sources.model, tables), Ridge(), SETTINGS, checkpoint=path)
    assert spy.calls == 8


def losses_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["losses"])


@pytest.mark.parametrize("broken", ["cut short", "losses", "no losses", "no list"])
def test_a_broken_checkpoint_is_not_used(broken, noisy_sources, tmp_path, monkeypatch):
    whole = meta_train(noisy_sources, Ridge(), SETTINGS)
    spy = Spy(monkeypatch, Ridge)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    if broken == "cut short":
        path.write_bytes(path.read_bytes()[:40])
    elif broken == "losses":
        save_file(tensors, path, header | {"losses": '{"key": "'})
    elif broken == "no losses":
        save_file(tensors, path, {"key": header["key"]})
    else:
        save_file(tensors, path, header | {"losses": "1"})
    assert same(meta_train(noisy_sources, Ridge(), SETTINGS, checkpoint=path), whole)
    assert spy.calls == 8


def test_a_checkpoint_is_tensors_and_plain_text(noisy_sources, tmp_path, monkeypatch):
    spy = Spy(monkeypatch, Ridge)
    path = tmp_path / "run.safetensors"
    stopped(noisy_sources, Ridge(), SETTINGS, spy, 5, path)
    assert int(load_file(path)["adam/step/log_penalty"]) == 5
    assert len(losses_of(path)) == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training_and_says_since_when(value, noisy_sources, monkeypatch):
    real, calls = Ridge.meta_loss, []

    def meta_loss(learner, model, meta, episodes):
        calls.append(1)
        return real(learner, model, meta, episodes) * (value if len(calls) == 4 else 1.0)

    monkeypatch.setattr(Ridge, "meta_loss", meta_loss)
    with pytest.raises(TrainingError, match=r"learner 'slow' is (nan|inf) since step 3") as error:
        meta_train(noisy_sources, Ridge(), SETTINGS, name="slow")
    assert "rate" in error.value.hint


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
