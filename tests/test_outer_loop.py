"""The outer loop on tasks without text: every setting does what it says."""

import json
import math
import sys

import pytest
import torch

import tides
from metaglot.config import TrainSettings
from metaglot.descent import global_norm, rate_share
from metaglot.drawing import MetaBatches, hold_apart, source_draw, with_codes
from metaglot.errors import LanguageError, MissingExtraError, SettingsError, TrainingError
from metaglot.history import History, plot_curves, thinned
from metaglot.learners.auto import Auto
from metaglot.learners.ridge import Ridge
from metaglot.outer_loop import meta_train, optimize
from metaglot.progress import silent
from metaglot.run_log import RunLog
from tides import HELD_OUT, PLACES, SETTINGS, Tidal, draw, learn, tide

PLAIN = tides.replace_settings(
    SETTINGS, {"clip": 0.0, "warmup": 0, "schedule": "constant", "curves_every": 0, "rate": 1.0}
)


@pytest.fixture(autouse=True)
def quiet():
    with silent():
        yield


def gradient_at(learner, meta, episodes):
    """The meta-gradient by autograd alone."""
    leaves = {n: v.clone().requires_grad_() for n, v in meta.items()}
    loss = learner.meta_loss(None, leaves, episodes)
    names = [n for n in leaves if learner.outer_rate(n) > 0]
    return dict(zip(names, torch.autograd.grad(loss, [leaves[n] for n in names]), strict=True))


def start(learner, seed=0):
    return learner.init(None, torch.Generator().manual_seed(seed))


# --- the optimizer


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_loop_is_the_optimizer_by_hand(name, decay):
    learner = Tidal(dropout=0.0)
    settings = tides.replace_settings(
        PLAIN, {"optimizer": name, "weight_decay": decay, "steps": 4, "rate": 0.5}
    )
    found = optimize(None, learner, draw, settings)
    meta = start(learner)
    learned = {n: meta[n].clone().requires_grad_() for n in ("start", "log_rate")}
    groups = [{"params": [v], "lr": 0.5 * learner.outer_rate(n)} for n, v in learned.items()]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    optimizer = kind(groups, weight_decay=decay)
    for step in range(4):
        episodes = [draw(step, place) for place in range(3)]
        for n, gradient in gradient_at(learner, meta | learned, episodes).items():
            learned[n].grad = gradient
        optimizer.step()
        meta["mean"] = learner.write(None, meta, episodes)["mean"]
    for n, value in learned.items():
        assert torch.allclose(found.meta[n], value, atol=1e-7)
    assert torch.equal(found.meta["mean"], meta["mean"])


@pytest.mark.parametrize("most", [1e-3, 1e3])
def test_clipping_bounds_the_norm_of_the_whole_gradient(most):
    class Even(Tidal):
        def outer_rate(self, name):
            return 0.0 if name == "mean" else 1.0

    learner = Even(dropout=0.0)
    settings = tides.replace_settings(PLAIN, {"optimizer": "sgd", "clip": most, "steps": 1})
    found = optimize(None, learner, draw, settings)
    before = start(learner)
    gradient = gradient_at(learner, before, [draw(0, place) for place in range(3)])
    norm = global_norm(gradient.values())
    moved = global_norm(found.meta[n] - before[n] for n in gradient)
    assert moved == pytest.approx(min(norm, most), rel=1e-3)
    assert found.history.norms == [pytest.approx(norm, rel=1e-5)]  # of the gradient as it was
    assert norm == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in gradient.values())), rel=1e-5)


def test_schedules():
    def shares(steps=8, **changes):
        settings = TrainSettings(steps=steps, **changes)
        return [rate_share(settings, step) for step in range(steps)]

    assert shares() == [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert shares(schedule="constant") == [1.0] * 8
    assert shares(schedule="linear", steps=4) == [1.0, 0.75, 0.5, 0.25]
    assert shares(schedule="constant", warmup=4, steps=6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert shares(schedule="linear", warmup=2, steps=6) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "weight_decay": 0.5},
        {"weight_decay": 0.5},
        {"clip": 0.01},
        {"schedule": "linear"},
        {"warmup": 5},
        {"precision": "bfloat16"},
        {"episodes": 4},
        {"tasks": "all"},
        {"weights": {"brest": 5.0}},
        {"pool": 4},
        {"rate": 0.5},
        {"seed": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_setting_makes_a_difference_that_resuming_keeps(changes, tmp_path, monkeypatch):
    usual = learn()
    changed = learn(changes=changes)
    assert any(not torch.equal(usual.meta[n], changed.meta[n]) for n in usual.meta)
    path = tmp_path / "run.safetensors"
    stop_at(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt):
        learn(changes=changes, checkpoint=path)
    monkeypatch.undo()
    with silent():
        assert tides.same(learn(changes=changes, checkpoint=path), changed)


def stop_at(monkeypatch, step, fault=KeyboardInterrupt):
    real = MetaBatches.__call__

    def stopping(batches, number, place):
        if number == step:
            raise fault
        return real(batches, number, place)

    monkeypatch.setattr(MetaBatches, "__call__", stopping)


@pytest.mark.parametrize("part", [1, 2, 3, 7])
def test_a_gradient_in_parts_is_the_gradient(part):
    learner = Tidal(dropout=0.0)
    settings = {"episodes": 7, "tasks": "all", "weights": {"dover": 4.0, "hilo": 0.25}}
    whole = learn(learner=learner, changes={**settings, "accumulate": 10})
    parts = learn(learner=learner, changes={**settings, "accumulate": part})
    assert all(torch.allclose(whole.meta[n], parts.meta[n], atol=1e-6) for n in whole.meta)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-6)


def test_parts_of_a_gradient_are_as_small_as_asked_for():
    sizes = []

    class Counting(Tidal):
        def meta_loss(self, model, meta, episodes):
            if torch.is_grad_enabled():
                sizes.append(len(episodes))
            return super().meta_loss(model, meta, episodes)

    learn(learner=Counting(), changes={"episodes": 5, "accumulate": 2, "steps": 3, "warmup": 0})
    assert sizes == [2, 2, 1] * 3


def test_bfloat16_is_used_and_comes_near(monkeypatch):
    seen = set()

    class Watched(Tidal):
        def predict(self, model, meta, adapted, batch):
            found = super().predict(model, meta, adapted, batch)
            seen.add((batch.inputs["hours"] @ adapted["weight"]).dtype)
            return found

    learner = Watched(dropout=0.0)
    near = learn(learner=learner, changes={"precision": "bfloat16"})
    assert seen == {torch.bfloat16}
    exact = learn(learner=learner)
    assert seen == {torch.bfloat16, torch.float32}
    assert near.losses == pytest.approx(exact.losses, abs=0.03)
    assert near.meta["start"].dtype == torch.float32


def test_a_learner_that_cannot_work_in_bfloat16_is_named(noisy_sources):
    class Closed(Tidal):
        def predict(self, model, meta, adapted, batch):
            table = torch.zeros(6, 6)
            table[torch.arange(6)] = batch.inputs["hours"].T @ batch.inputs["hours"]
            return super().predict(model, meta, adapted, batch) + table.sum()

    with pytest.raises(SettingsError, match="the learner 'closed' cannot work in bfloat16") as error:
        learn(learner=Closed(), name="closed", changes={"precision": "bfloat16"})
    assert "precision=float32" in error.value.hint
    assert len(learn(learner=Closed()).losses) == 12
    for learner in (Auto(), Ridge()):
        settings = TrainSettings(steps=2, shots=(1, 2), queries=2, precision="bfloat16")
        assert len(meta_train(noisy_sources, learner, settings).losses) == 2


# --- what is drawn


def test_tasks_are_sampled_or_all_of_them():
    def places(changes, count=4):
        settings = tides.replace_settings(SETTINGS, changes)
        source = tides.draw_all if settings.tasks == "all" else draw
        batches = MetaBatches(None, Tidal(), source, settings, len(PLACES))
        return [[batches(step, p).task for p in range(batches.width)] for step in range(count)]

    assert {len(step) for step in places({})} == {3}
    assert places({"tasks": "all"}) == [list(PLACES)] * 4
    assert places({"tasks": "all", "episodes": 6}) == [list(PLACES) * 2] * 4
    assert places({"tasks": "all", "episodes": 7, "pool": 12}) == [list(PLACES) * 2] * 4


def test_all_tasks_need_to_be_counted():
    with pytest.raises(SettingsError, match="expected the number of tasks") as error:
        optimize(None, Tidal(), draw, tides.replace_settings(SETTINGS, {"tasks": "all"}))
    assert "tasks=N" in error.value.hint


@pytest.mark.parametrize("tasks", ["sampled", "all"])
def test_a_pool_is_gone_through_in_new_orders(tasks):
    settings = tides.replace_settings(SETTINGS, {"pool": 10, "episodes": 5, "tasks": tasks})
    asked = []
    batches = MetaBatches(
        None, Tidal(), lambda s, p: asked.append((s, p)) or tides.draw_all(s, p), settings, 5
    )
    turns = [[id(batches(step, p)) for step in (2 * n, 2 * n + 1) for p in range(5)] for n in range(6)]
    assert len(asked) == 10  # each is drawn and prepared once
    assert all(len(set(turn)) == 10 and set(turn) == set(turns[0]) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 3


def test_weights_multiply_those_of_the_episodes():
    settings = tides.replace_settings(PLAIN, {"weights": {"brest": 4.0}, "steps": 1, "optimizer": "sgd"})
    learner = Tidal(dropout=0.0)

    def drawn(step, place):
        return tides.weighted(tide(PLACES[place], step), 1.0 + place)

    found = optimize(None, learner, drawn, settings)
    losses = [learner.meta_loss(None, start(learner), [drawn(0, place)]).item() for place in range(3)]
    assert found.losses == (pytest.approx((4 * losses[0] + 2 * losses[1] + 3 * losses[2]) / 9),)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_is_above_zero(weight):
    with pytest.raises(SettingsError, match=r"a weight above 0, found (0|-1|nan) of '\w+'"):
        optimize(None, Tidal(), lambda *key: tides.weighted(draw(*key), weight), SETTINGS)


def test_a_learner_that_does_not_fit_the_model_is_refused(toy_model):
    with pytest.raises(SettingsError, match="the learner 'tidal' needs any"):
        optimize(toy_model(), Tidal(), draw, SETTINGS, name="tidal")


def test_the_sum_over_the_whole_set_of_languages(noisy_sources):
    settings = TrainSettings(steps=2, episodes=1, tasks="all", pool=0, shots=(1, 2), queries=2)
    source = source_draw(noisy_sources, settings)
    codes = [table.task.language for table in noisy_sources.tables]
    assert [source(step, place).task for step in (0, 1) for place in range(4)] == codes * 2
    first, second = source(0, 1), source(1, 1)
    assert len(first.support) != len(second.support) or not torch.equal(
        first.support.inputs["dense"], second.support.inputs["dense"]
    )
    found = meta_train(noisy_sources, Auto(), settings)
    assert set(found.history.curves) == set(codes)


# --- state, chance


def test_state_is_written_after_the_step_with_what_was_stepped_on():
    calls = []

    class Watched(Tidal):
        def write(self, model, meta, episodes):
            assert not torch.is_grad_enabled()
            calls.append((meta["start"].clone(), [e.task for e in episodes]))
            return super().write(model, meta, episodes)

    learner = Watched()
    result = learn(learner=learner, validate=())
    assert len(calls) == 12
    assert [tasks for _, tasks in calls] == [[draw(s, p).task for p in range(3)] for s in range(12)]
    assert torch.equal(calls[-1][0], result.meta["start"])
    assert not result.meta["mean"].requires_grad


def test_a_learner_may_be_all_state():
    class Static(Tidal):
        def outer_rate(self, name):
            return 0.0

    result = learn(learner=Static(), validate=())
    assert torch.equal(result.meta["start"], start(Tidal())["start"])
    assert result.meta["mean"] != 0
    assert len(result.losses) == 12
    assert result.history.norms == [0.0] * 12


@pytest.mark.parametrize("name", ["start", "new"])
def test_only_state_may_be_written(name):
    class Wrong(Tidal):
        def write(self, model, meta, episodes):
            return {name: torch.zeros(6)}

    with pytest.raises(TrainingError, match=f"outer rate is 0, found it to write '{name}'"):
        learn(learner=Wrong())


def test_dropout_is_a_function_of_seed_and_step_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    one = learn()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert tides.same(one, learn())
    assert torch.equal(before, torch.get_rng_state())
    assert learn(learner=Tidal(dropout=0.0)).losses != one.losses


# --- early stopping


def test_the_best_parameters_on_held_out_tasks_are_returned(tmp_path):
    learner = Tidal(dropout=0.0)
    worse = {"rate": 40.0, "clip": 0.0, "warmup": 0, "patience": 3, "steps": 60, "validate_every": 1}
    result = learn(learner=learner, changes=worse, checkpoint=tmp_path / "run.safetensors")
    history = result.history
    assert history.steps < 60
    assert history.best == history.judged[-1][0] - 3
    assert [step for step, _ in history.judged] == list(range(history.steps + 1))
    losses = [learner.meta_loss(None, result.meta, [e]).item() for e in HELD_OUT]
    assert min(loss for _, loss in history.judged) == pytest.approx(sum(losses) / 4, abs=1e-6)
    assert {task: points[history.best][1] for task, points in history.validation.items()} == {
        "brest": pytest.approx(sum(losses[:2]) / 2, abs=1e-6),
        "dover": pytest.approx(sum(losses[2:]) / 2, abs=1e-6),
    }
    # Started again it does not go on.
    again = learn(learner=learner, changes=worse, checkpoint=tmp_path / "run.safetensors")
    assert tides.same(again, result)


def test_weights_count_in_the_judgement():
    heavy = learn(changes={"weights": {"brest": 3.0}}).history
    for (_, mean), (_, one), (_, other) in zip(
        heavy.judged, heavy.validation["brest"], heavy.validation["dover"], strict=True
    ):
        assert mean == pytest.approx((3 * one + other) / 4)


def test_without_held_out_tasks_nothing_is_judged():
    history = learn(validate=(), changes={"patience": 1}).history
    assert (history.steps, history.judged, history.best, history.waited) == (12, [], None, 0)


SOURCES = ("amh", "eng", "hau", "yor")
BASE = {
    "steps": 4,
    "episodes": 2,
    "shots": (1, 2),
    "queries": 2,
    "validate_every": 2,
    "validation_episodes": 3,
}


@pytest.mark.parametrize(
    ("given", "codes"), [(("hau",), {"hau"}), (("Hausa", "am"), {"hau", "amh"}), (0.5, None), (0.01, None)]
)
def test_languages_are_kept_apart(given, codes, noisy_sources):
    settings = with_codes(SOURCES, TrainSettings(validation=given, **BASE))
    training, held_out = hold_apart(noisy_sources, settings)
    trained = {table.task.language for table in training.tables}
    judged = {episode.task for episode in held_out}
    assert judged == (codes or judged)
    assert len(judged) == (len(codes) if codes else {0.5: 2, 0.01: 1}[given])
    assert trained | judged == {"amh", "eng", "hau", "yor"}
    assert not trained & judged
    assert len(held_out) == 3 * len(judged)
    assert {source_draw(training, settings)(s, p).task for s in range(20) for p in (0, 1)} == trained
    result = meta_train(noisy_sources, Ridge(), settings)
    assert set(result.history.validation) == judged
    assert set(result.history.curves) <= trained


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"validation": ("hausa!",)}, LanguageError, r"\(amh, eng, hau, yor\) in the setting validation"),
        ({"validation": ("swh",)}, LanguageError, "found 'swh'"),
        ({"weights": {"swh": 2.0}}, LanguageError, "in the setting weights, found 'swh'"),
        ({"validation": 0.99}, SettingsError, "found all 4 kept for validation"),
        ({"validation": ("amh", "eng", "hau", "yor")}, SettingsError, "source languages to train on"),
    ],
)
def test_languages_that_cannot_be_kept_apart(changes, error, problem, noisy_sources):
    with pytest.raises(error, match=problem):
        meta_train(noisy_sources, Ridge(), TrainSettings(**BASE, **changes))


def test_weights_of_languages_by_any_name(noisy_sources):
    named = meta_train(noisy_sources, Ridge(), TrainSettings(weights={"Hausa": 5.0}, **BASE))
    coded = meta_train(noisy_sources, Ridge(), TrainSettings(weights={"hau": 5.0}, **BASE))
    plain = meta_train(noisy_sources, Ridge(), TrainSettings(**BASE))
    assert named.losses == coded.losses != plain.losses


# --- divergence


class Breaking(Tidal):
    """Breaks at step 5 where it is told to: the loss of one place, or the gradient."""

    def __init__(self, fault, at=5):
        super().__init__(dropout=0.0)
        self.fault = fault
        self.at = at

    def meta_loss(self, model, meta, episodes):
        loss = super().meta_loss(model, meta, episodes)
        late = float(meta["mean"]) != 0 and self.steps >= self.at
        if self.fault == "gradient":
            return loss + 0 * (meta["start"][:2].sum() * 0 + late * 0).abs().sqrt() if late else loss
        return loss * self.fault if late and any(e.task == "hilo" for e in episodes) else loss

    steps = 0

    def write(self, model, meta, episodes):
        type(self).steps += 1
        return super().write(model, meta, episodes)


@pytest.fixture(autouse=True)
def _afresh():
    Breaking.steps = 0


def everywhere(learner, **changes):
    changes = {"tasks": "all", "steps": 30, **changes}
    return learn(learner=learner, validate=(), changes=changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training_and_names_step_and_task(value):
    with pytest.raises(TrainingError) as error:
        everywhere(Breaking(value))
    message = str(error.value)
    assert (
        f"the loss of the learner 'learner' is {value:g} since step 5, in hilo ({value:g}) of 5 task(s)."
        in message
    )
    assert "The largest norm of a gradient before was" in message
    assert ", at step " in message
    assert "Lower the outer rate (--rate, which is 1)" in message
    assert "clip gradients harder" in message


def test_a_gradient_that_is_not_finite_names_the_parameter():
    with pytest.raises(TrainingError, match=r"gradient .* is not finite since step 5") as error:
        everywhere(Breaking("gradient"), clip=0.0)
    assert "in 'start' (2 of 6 values)" in str(error.value)
    assert "clip gradients (--set clip=1.0)" in error.value.hint


def test_a_loss_that_explodes_stops_training():
    with pytest.raises(
        TrainingError, match=r"has exploded: .* at step 7, for 3 steps more than 1000 times"
    ) as error:
        everywhere(Breaking(1e6))
    assert "raise the setting explode" in error.value.hint
    Breaking.steps = 0
    assert len(everywhere(Breaking(1e6), explode=1e9).losses) == 30


def test_one_outlier_is_no_explosion():
    class Once(Breaking):
        def meta_loss(self, model, meta, episodes):
            self.at = 5 if self.steps < 7 else 100
            return super().meta_loss(model, meta, episodes)

    Once.steps = 0
    assert len(everywhere(Once(1e6)).losses) == 30


def test_what_diverged_is_not_saved(tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(TrainingError):
        learn(learner=Breaking(float("nan")), checkpoint=path, changes={"tasks": "all"})
    from metaglot.checkpoint import State

    assert State.unpack(path.read_bytes())[0].history.steps == 4


# --- curves and logs


def test_a_curve_is_the_mean_loss_of_the_tasks_episodes():
    learner = Tidal(dropout=0.0)
    result = learn(learner=learner, changes={"episodes": 6, "steps": 1, "warmup": 0}, validate=())
    tasks = {}
    for episode in (draw(0, place) for place in range(6)):
        loss = learner.meta_loss(None, start(learner), [episode]).item()
        tasks.setdefault(episode.task, []).append(loss)
    assert result.history.curves == {t: [(1, pytest.approx(sum(x) / len(x)))] for t, x in tasks.items()}


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, list(range(1, 13))), (5, [1, 5, 10])])
def test_curves_have_a_point_now_and_then(every, steps):
    curves = learn(changes={"curves_every": every, "tasks": "all"}).history.curves
    assert {task: [step for step, _ in points] for task, points in curves.items()} == (
        dict.fromkeys(PLACES, steps) if steps else {}
    )


def test_a_thinned_curve_has_the_mean_of_neighbours():
    points = [(step, float(step % 2)) for step in range(1, 121)]
    assert thinned({"a": points, "b": points[:3], "c": []}, most=60) == {
        "a": [(step, 0.5) for step in range(2, 121, 2)],
        "b": points[:3],
        "c": [],
    }


def test_a_history_is_read_back_and_nothing_else():
    history = learn().history
    assert History.of(history.losses, history.norms, history.curves_json()) == history
    for text in ("1", "{}", '{"curves": 1, "validation": {}, "judged": []}', "{"):
        with pytest.raises(ValueError):
            History.of([], [], text)
    with pytest.raises(ValueError, match="history"):
        History.of([1.0], [], history.curves_json())


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def test_a_log_has_a_line_for_every_step(tmp_path):
    result = learn(log=RunLog(tmp_path / "log"), changes={"curves_every": 4})
    steps = [line for line in lines(tmp_path / "log") if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert [line["loss"] for line in steps] == list(result.losses)
    assert [line["gradient_norm"] for line in steps] == result.history.norms
    assert [line["rate"] for line in steps[:4]] == [0.5, 1.0, 1.0, pytest.approx(0.9755, abs=1e-4)]
    assert all(line["seconds"] > 0 for line in steps)
    assert [line["step"] for line in steps if "tasks" in line] == [1, 4, 8, 12]
    judged = [line for line in lines(tmp_path / "log") if "validation" in line]
    assert [(line["step"], line["validation_loss"]) for line in judged] == result.history.judged
    assert all(set(line["validation"]) == {"brest", "dover"} for line in judged)


def test_the_log_of_a_resumed_run_is_that_of_a_whole_one(tmp_path, monkeypatch):
    def told(folder):
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines(folder)]

    learn(log=RunLog(tmp_path / "whole"))
    stop_at(monkeypatch, 7, RuntimeError)  # a crash: the last checkpoint is of step 6
    with pytest.raises(RuntimeError):
        learn(log=RunLog(tmp_path / "parts"), checkpoint=tmp_path / "run")
    monkeypatch.undo()
    with (tmp_path / "parts" / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "los')  # cut short
    learn(log=RunLog(tmp_path / "parts"), checkpoint=tmp_path / "run")
    assert told(tmp_path / "parts") == told(tmp_path / "whole")
    learn(log=RunLog(tmp_path / "parts"))  # another run, from its beginning
    assert told(tmp_path / "parts") == told(tmp_path / "whole")


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = learn(name="tidal", log=RunLog(tmp_path, "tensorboard"))
    events = EventAccumulator(str(tmp_path / "metaglot-tidal"))
    events.Reload()
    assert [e.value for e in events.Scalars("loss")] == pytest.approx(list(result.losses))
    assert [(e.step, e.value) for e in events.Scalars("tasks/hilo")] == [
        (step, pytest.approx(loss)) for step, loss in result.history.curves["hilo"]
    ]
    assert [e.step for e in events.Scalars("validation_loss")] == [0, 3, 6, 9, 12]
    assert len(lines(tmp_path)) == 12 + 5


def test_a_tracker_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(
        SettingsError, match=r"expected a tracker \(tensorboard, wandb\), found 'tensorbord'"
    ) as error:
        RunLog(tmp_path, "tensorbord")
    assert "Did you mean 'tensorboard'?" in error.value.hint
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("metaglot.run_log.find_spec", lambda name: None if name == "wandb" else object())
    with pytest.raises(MissingExtraError, match="Tracking with wandb needs the package 'wandb'") as error:
        RunLog(tmp_path, "wandb")
    assert "pip install 'metaglot[wandb]'" in error.value.hint


def test_curves_are_drawn(tmp_path):
    facts = learn().history.facts()
    plot_curves(json.loads(json.dumps(facts)), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    plot_curves(History().facts(), tmp_path / "nothing.svg")
    assert "<svg" in (tmp_path / "nothing.svg").read_text()
