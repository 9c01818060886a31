"""SetFit beside the harness: draws, resuming, tuning and sums without it, its own training with it."""

import json
import math
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from benchmarks import setfit_time
from benchmarks.fewshot import setfit_baseline, setfit_fit, setfit_judge
from benchmarks.fewshot.folds import Benchmark, Fold
from benchmarks.fewshot.results import read_rows, records_of
from benchmarks.fewshot.setfit_fit import (
    DEFAULTS,
    GRID,
    Fit,
    SetFitBaseline,
    Setting,
    sample_sources,
    up_weighted,
)
from benchmarks.fewshot.setfit_judge import Options
from benchmarks.setfit_time import OURS, Timing

from metaglot.encoders import load_encoder
from metaglot.errors import DataError, MissingExtraError, SettingsError, UnknownNameError
from metaglot.space import TaskSpace, draw_support
from test_encoders_transformer import make

needs_setfit = pytest.mark.skipif(find_spec("setfit") is None, reason="setfit is not installed")


class Remembering:
    """Stands for SetFit: knows the texts that it was trained on, and how often it was asked to."""

    encoder = SimpleNamespace(fingerprint="remembering")

    def __init__(self):
        self.asked = []

    def steps_within(self, minutes, examples):
        return 7

    def fit(self, examples, setting=DEFAULTS, *, max_steps=None, seed=0):
        self.asked.append((tuple(examples), setting, seed))
        labels = tuple(sorted({e.label for e in examples}))
        planned = setting.steps([labels.index(e.label) for e in examples])
        return Fit(setting, labels, min(planned, max_steps), planned, 1.5, 0.1, 2.0)

    def logits(self, fit, texts, labels):
        """The last setting of the grid is right, every other always says the first label."""
        right = [labels.index(text.split()[1]) if fit.model == GRID[-1] else 0 for text in texts]
        return 5 * torch.eye(len(labels))[right]


@pytest.fixture(scope="module")
def corpus(make_corpus):
    return make_corpus()


@pytest.fixture
def benchmark(corpus):
    return Benchmark(corpus, (Fold("1", ("amh", "eng", "hau"), ("swh", "yor")),))


@pytest.fixture
def setfit(monkeypatch, tmp_path):
    """The stand-in, as if SetFit were installed."""
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path / "cache"))
    for module in (setfit_baseline, setfit_judge):
        monkeypatch.setattr(module, "version", lambda name: "0")
    return Remembering()


def run(benchmark, setfit, path, **options):
    setfit_baseline.run(benchmark, replace(Options(draws=2), **options), path, setfit)
    return {(row["method"], row["language"]): row for row in read_rows([path])}


@pytest.mark.parametrize(
    ("targets", "setting", "steps"),
    [
        ([0, 0, 1, 1], DEFAULTS, 1),  # 6 pairs of one label, itself among them, 4 of two: 2 × 6 = 12
        ([0] * 8 + [1] * 8 + [2] * 8, DEFAULTS, 24),  # 108 and 192: 384 pairs
        ([0, 0, 1, 1], Setting(num_iterations=5), 3),  # 2 × 5 × 4 = 40 pairs
    ],
)
def test_steps_are_those_of_all_pairs(targets, setting, steps):
    assert setting.steps(targets) == steps


def test_support_sets_are_the_harness_s_own(benchmark, setfit, tmp_path):
    run(benchmark, setfit, tmp_path / "out.jsonl", methods=("setfit",), shots=(1, 2), languages=("swh",))
    (task,) = [t for t in TaskSpace.of(benchmark.corpus, ("swh", "yor")).held_out if t.language == "swh"]
    drawn = [
        tuple(task.pool[row] for row in draw_support(task.pool, task.labels, k, 0, "swh", draw))
        for k in (1, 2)
        for draw in range(2)
    ]
    assert [examples for examples, _, _ in setfit.asked] == drawn


def test_lines_are_the_harness_s_and_say_what_was_cut(benchmark, setfit, tmp_path):
    rows = run(benchmark, setfit, tmp_path / "out.jsonl", methods=("setfit",), shots=(0, 1, 8))
    row = rows["setfit", "yor"]
    assert row["encoder"] == "e5-small+ngrams"
    assert row["accuracy"].keys() == {"1", "8"}  # without examples it predicts nothing
    assert len(row["accuracy"]["8"]) == 2
    assert [r.shots for r in records_of([row])] == [1, 1, 8, 8]
    n = row["examples"]["8"]
    assert row["planned"]["8"][0] == DEFAULTS.steps([i % 4 for i in range(n)]) > 7
    assert row["steps"] == {"1": [1, 1], "8": [7, 7]}
    assert row["seconds"]["1"] == [1.5, 1.5]


def test_a_killed_run_goes_on_with_the_next_fit(benchmark, setfit, tmp_path, monkeypatch):
    path, whole = tmp_path / "out.jsonl", Remembering()
    fit = setfit.fit

    def killed(*args, **kwargs):
        if len(setfit.asked) == 5:
            raise KeyboardInterrupt
        return fit(*args, **kwargs)

    monkeypatch.setattr(setfit, "fit", killed)
    options = {"methods": ("setfit",), "shots": (1, 2)}
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, setfit, path, **options)
    assert len(read_rows([path])) == 1
    rows = run(benchmark, whole, path, **options)
    assert len(whole.asked) == 3  # 8 less the 5 that were done, of which one was in no line yet
    assert run(benchmark, whole, path, **options) == rows
    assert len(whole.asked) == 3


def test_the_tuned_setting_is_chosen_on_source_languages(benchmark, setfit, tmp_path):
    rows = run(benchmark, setfit, tmp_path / "out.jsonl", methods=("setfit-tuned",), shots=(1,))
    assert Setting(**rows["setfit-tuned", "swh"]["setting"]) == GRID[-1]
    assert rows["setfit-tuned", "swh"]["accuracy"]["1"] == [1.0, 1.0]
    tuning, judging = setfit.asked[: 2 * len(GRID)], setfit.asked[2 * len(GRID) :]
    assert {e.language for examples, _, _ in tuning for e in examples} < {"amh", "eng", "hau"}
    assert {setting for _, setting, _ in judging} == {GRID[-1]}
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    (trials,) = [
        line["run"]["setfit-tuned"]["trials"] for line in lines if "setfit-tuned" in line.get("run", {})
    ]
    assert [trial["accuracy"] == 1.0 for trial in trials] == [False, False, False, True]


def test_joint_sees_sources_and_support_alike(benchmark, setfit, tmp_path):
    options = {"methods": ("setfit-joint",), "shots": (0, 1), "languages": ("swh",), "joint_examples": 24}
    rows = run(benchmark, setfit, tmp_path / "out.jsonl", **options)
    assert len(rows["setfit-joint", "swh"]["accuracy"]["0"]) == 1
    (none, _, _), (one, _, _), _ = setfit.asked
    assert {e.language for e in none} == {"amh", "eng", "hau"}
    assert sum(e.language == "swh" for e in one) == sum(e.language != "swh" for e in one) == 24


def test_a_sample_of_sources_is_balanced(corpus):
    sources = TaskSpace.of(corpus, ("swh",)).sources
    sample = sample_sources(sources, 33, 0)
    counts = [sum(e.language == task.language for e in sample) for task in sources]
    assert counts == [8, 8, 8, 8]
    few = sample_sources(sources, 8, 0)  # two of every language's four labels
    assert sorted(e.label for e in few) == sorted([*sources[0].labels] * 2)
    assert {e.label for e in sample if e.language == "eng"} == set(sources[0].labels)
    assert sample == sample_sources(sources, 33, 0) != sample_sources(sources, 33, 1)
    with pytest.raises(SettingsError, match="room for"):
        sample_sources(sources, 3, 0)
    assert len(up_weighted(sample[:3], sample)) == 32 + 3 * 11


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"methods": ("setfit-joined",)}, UnknownNameError, "setfit-joint"),
        ({"languages": ("deu",)}, UnknownNameError, "held-out language"),
        ({"folds": ("9",)}, UnknownNameError, "fold"),
        ({"shots": (0,), "methods": ("setfit",)}, SettingsError, "above 0"),
        ({"max_minutes": 0.0}, SettingsError, "max-minutes"),
        ({"draws": 0}, SettingsError, "draws"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    benchmark, setfit, tmp_path, options, error, told
):
    with pytest.raises(error, match=told):
        run(benchmark, setfit, tmp_path / "out.jsonl", **options)
    assert not (tmp_path / "out.jsonl").exists()


def test_it_is_an_extra(monkeypatch):
    monkeypatch.setattr(setfit_fit, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"metaglot\[setfit\]"):
        SetFitBaseline(load_encoder("ngrams:64"))


def test_it_needs_a_transformer(monkeypatch):
    monkeypatch.setattr(setfit_fit, "find_spec", lambda name: True)
    with pytest.raises(SettingsError, match="found 0"):
        SetFitBaseline(load_encoder("ngrams:64"))


def test_times_are_compared_on_the_same_support_sets():
    def timing(method, number, seconds, accuracy, steps=0, planned=0):
        whole = seconds + (planned - steps) * 2.0
        place = {"language": "swh", "round": number, "examples": 8, "labels": 4}
        return Timing(method, seconds, 2 * seconds, whole, accuracy, steps, planned, **place)

    timings = [
        *(timing(OURS, n, s, 0.8) for n, s in enumerate((1.0, 2.0, 4.0))),
        *(timing("setfit", n, s, 0.6, 5, 15) for n, s in enumerate((100.0, 100.0, 100.0))),
    ]
    found = setfit_time.summary(timings)["methods"]
    assert found["setfit"]["times_as_long"] == 50.0  # the median of 100, 50 and 25
    assert found["setfit"]["times_as_long_whole"] == 60.0
    assert found["setfit"]["cpu_seconds"] == 200.0
    assert found["setfit"]["times_as_much_cpu"] == 50.0
    assert found["setfit"]["accuracy_ratio"] == pytest.approx(0.75)
    assert not found["setfit"]["complete"]
    assert found[OURS]["complete"]
    assert found[OURS]["times_as_long"] == 1.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_encoder(
        make(tmp_path_factory.mktemp("tiny")), prefix="query: ", dtype="float32", device="cpu", cache=False
    )


@pytest.fixture
def examples(corpus):
    """Two labels that a word tells apart, in texts that the tiny tokenizer knows."""
    some = corpus.select("swh", "train")[:16]
    return [
        replace(e, label=("one", "two")[i % 2], text=f"w{1 + i % 2} w{10 + i}") for i, e in enumerate(some)
    ]


@needs_setfit
def test_setfit_starts_from_the_encoder_and_leaves_it(tiny, examples):
    baseline = SetFitBaseline(tiny)
    texts = [e.text for e in examples]
    (vectors,) = tiny.encode(texts).values()
    before = torch.from_numpy(vectors)
    body = torch.from_numpy(baseline.body.encode(baseline.texts(texts)))
    assert torch.allclose(body, before, atol=1e-5)
    fit = baseline.fit(examples, Setting(4, 1e-3))
    assert (fit.steps, fit.planned) == (8, 8)
    assert torch.equal(torch.from_numpy(baseline.body.encode(baseline.texts(texts))), body)
    tuned = torch.from_numpy(fit.model.model_body.encode(baseline.texts(texts)))
    assert not torch.allclose(tuned, body, atol=1e-3)


@needs_setfit
def test_setfit_learns_and_keeps_to_its_steps_and_seed(tiny, examples):
    baseline = SetFitBaseline(tiny)
    texts, labels = [e.text for e in examples], ("nothing", "two", "one")
    first, again = (baseline.fit(examples, max_steps=3, seed=1) for _ in range(2))
    assert first.steps == 3 < first.planned == DEFAULTS.steps([i % 2 for i in range(16)])
    logits = baseline.logits(first, texts, labels)
    assert torch.equal(logits, baseline.logits(again, texts, labels))
    found = [labels[place] for place in logits.argmax(-1).tolist()]
    assert sum(f == e.label for f, e in zip(found, examples, strict=True)) >= 12
    assert torch.allclose(logits[:, 1:].exp().sum(-1), torch.ones(16), atol=1e-4)
    assert logits[:, 0].max() < math.log(1e-9)
    assert baseline.steps_within(0.05, examples) >= 1
    with pytest.raises(DataError, match="two labels"):
        baseline.fit(examples[::2])


@needs_setfit
@pytest.mark.parametrize("setting", [DEFAULTS, Setting(num_iterations=3)])
@pytest.mark.parametrize(("labels", "shots"), [(2, 1), (2, 8), (5, 2)])
def test_steps_are_those_that_setfit_makes(setting, labels, shots):
    from setfit.sampler import ContrastiveDataset

    targets = [label for label in range(labels) for _ in range(shots)]
    pairs = ContrastiveDataset([str(i) for i in range(len(targets))], targets, False, setting.num_iterations)
    assert setting.steps(targets) == math.ceil(len(pairs) / setfit_fit.BATCH)
