"""Tuning an encoder on the sources: a tiny random BERT on a corpus of three labels in six languages."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import metaglot as mg
from metaglot.encoders import load_encoder
from metaglot.errors import ArtifactError, DataError, LanguageError, SettingsError, TrainingError
from metaglot.progress import silent
from metaglot.space import Task, TaskSpace
from metaglot.tensor_files import load_tensors
from metaglot.tuning import tune, tune_settings
from metaglot.tuning.batches import Batches
from metaglot.tuning.body import Body
from metaglot.tuning.languages import divide
from metaglot.tuning.losses import Head, supervised_contrastive
from metaglot.tuning.parts import Way, adapting, find_layers, merged
from metaglot.types import Corpus, Example
from test_encoders_transformer import make
from village import metaglot, refused

CODES = ("amh", "eng", "hau", "swh", "yor", "zul")
LABELS = ("a", "b", "c")
BASE = {"precision": "float32", "checkpoint_minutes": 0.0, "labels": 3, "max_length": 20}


def words(code, label, number):
    """A label's word, a language's, and noise, in any order."""
    chance = np.random.default_rng([CODES.index(code), LABELS.index(label), number])
    noise = [f"w{10 + chance.integers(30)}" for _ in range(chance.integers(0, 3))]
    return " ".join(chance.permutation([f"w{LABELS.index(label)}", f"w{4 + CODES.index(code)}", *noise]))


def make_corpus(codes=CODES, train=9, *, parallel=False):
    return Corpus(
        "words",
        tuple(
            Example(
                f"{label}{i}" if parallel else f"{code}{label}{i}",
                words(code, label, i),
                label,
                code,
                "train" if i < train else "test",
            )
            for code in codes
            for label in LABELS
            for i in range(train + 3)
        ),
        parallel=parallel,
        licence="CC0",
    )


@pytest.fixture(scope="module")
def corpus():
    return make_corpus()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make(tmp_path_factory.mktemp("base"), initializer_range=0.1)


@pytest.fixture(autouse=True)
def _quiet(own_cache):
    with silent():
        yield


def run(corpus, base, out, **changes):
    settings = tune_settings(**{**BASE, "encoder": base, "steps": 12, "judgements": 3} | changes)
    return tune(corpus, settings, out=out, held_out=["swh"])


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def facts(folder):
    return json.loads((Path(folder) / "tuning.json").read_text(encoding="utf-8"))


# --- Losses.


def test_the_contrastive_loss_is_that_of_the_formula():
    vectors = torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)))
    targets, t = torch.tensor([0, 0, 1, 1, 1, 2, 0]), 0.1
    terms = []
    for i in range(7):
        positives = [p for p in range(7) if p != i and targets[p] == targets[i]]
        if positives:
            below = sum(torch.exp(vectors[i] @ vectors[a] / t) for a in range(7) if a != i)
            terms.append(
                -sum(torch.log(torch.exp(vectors[i] @ vectors[p] / t) / below) for p in positives)
                / len(positives)
            )
    torch.testing.assert_close(supervised_contrastive(vectors, targets, t), sum(terms) / len(terms))


def test_without_a_pair_the_contrastive_loss_is_zero_with_a_gradient_of_zero():
    vectors = torch.eye(3, requires_grad=True)
    loss = supervised_contrastive(vectors, torch.tensor([0, 1, 2]), 0.05)
    loss.backward()
    assert loss.item() == 0.0
    assert not vectors.grad.any()


def test_the_head_starts_with_what_the_features_say():
    chance = torch.Generator().manual_seed(0)
    targets = torch.arange(4).repeat(16)
    # As squeezed together as e5's: without scaling a ridge head of them would know little.
    vectors = 5 + 0.1 * (torch.eye(4)[targets] + 0.2 * torch.randn(64, 4, generator=chance))
    logits = Head(vectors, targets, 4)(vectors)
    assert (logits.argmax(1) == targets).float().mean() > 0.95
    assert torch.nn.functional.cross_entropy(logits, targets) < 0.5


# --- Batches.


def lopsided():
    def task(code, labels, count):
        pool = [
            Example(f"{code}{x}{i}", "w", x, code, group=f"{x}{i // 2}") for x in labels for i in range(count)
        ]
        return Task(code, labels, tuple(pool))

    return [
        task("eng", LABELS, 200),
        task("hau", LABELS, 6),
        task("yor", ("a", "b"), 6),
        task("zul", ("c",), 6),
    ]


def test_every_language_counts_alike_however_many_texts_it_has():
    batches = Batches(lopsided(), tune_settings(languages=2, labels=3, examples=2))
    drawn = [[batches.pool[row] for row in batches(step)] for step in range(300)]
    languages = Counter(code for batch in drawn for code in {e.language for e in batch})
    assert sum(languages.values()) == pytest.approx(600, abs=60)
    assert min(languages.values()) > 0.7 * max(languages.values())
    for batch in drawn:
        assert set(Counter((e.language, e.label) for e in batch).values()) == {2}
        assert len({(e.language, e.group) for e in batch}) == len(batch), "two texts of one group"


def test_a_batch_is_a_function_of_seed_and_step_and_prefers_labels_in_common():
    first, again = (Batches(lopsided(), tune_settings(languages=2, labels=2)) for _ in range(2))
    assert first(7) == again(7) != first(8)
    assert Batches(lopsided(), tune_settings(languages=2, labels=2, seed=1))(7) != first(7)
    for step in range(50):
        found = {}
        for e in (first.pool[row] for row in first(step)):
            found.setdefault(e.language, set()).add(e.label)
        if set(found) == {"eng", "yor"}:
            assert found["eng"] == found["yor"] == {"a", "b"}


def test_a_label_of_few_examples_gives_those_that_there_are():
    tasks = [replace(t, pool=t.pool[:1] + t.pool[200:202]) for t in lopsided()[:1]]
    tasks = [replace(tasks[0], labels=("a", "b"))]
    assert len(Batches(tasks, tune_settings(examples=4))(0)) == 3


# --- Languages.


def test_what_is_judged_on_is_neither_tuned_on_nor_held_out(corpus):
    space = TaskSpace.of(corpus, ["swh"])
    tuned_on, apart = divide(space, tune_settings(validation=0.4))
    codes = [{task.language for task in side} for side in (tuned_on, apart)]
    assert codes[0] | codes[1] == set(CODES) - {"swh"}
    assert len(codes[1]) == 2
    assert not codes[0] & codes[1]
    assert [t.language for t in divide(space, tune_settings(validation=["Hausa"]))[1]] == ["hau"]
    assert divide(space, tune_settings(validation=0))[1] == []


def test_in_a_parallel_corpus_no_content_is_on_two_sides():
    space = TaskSpace.of(make_corpus(train=40, parallel=True), ["swh"])
    tuned_on, apart = divide(space, tune_settings(validation=0.4))
    sides = [{e.id for task in side for e in task.pool} for side in (tuned_on, apart)]
    held_out = {e.id for task in space.held_out for e in (*task.pool, *task.test)}
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & held_out


# --- Parts.


def body(base, **changes):
    folder = load_encoder(base).folder
    return Body(folder, load_encoder(base).settings, tune_settings(**BASE | {"encoder": base} | changes))


@pytest.mark.parametrize(
    ("layers", "embeddings", "expected"),
    [
        ("all", False, {"encoder.layer.0", "encoder.layer.1"}),
        ("1", False, {"encoder.layer.1"}),
        ("all", True, {"encoder.layer.0", "encoder.layer.1", "embeddings"}),
        ("lora", False, {"encoder.layer.0", "encoder.layer.1"}),
    ],
)
def test_only_what_was_asked_for_adapts(base, layers, embeddings, expected):
    model = body(base, layers=layers, embeddings=embeddings).model
    names = adapting(model)
    found = {".".join(n.split(".")[: 1 if n.startswith("embeddings") else 3]) for n in names}
    assert found == expected
    assert all("lora_" in name for name in names) == (layers == "lora")


def test_merged_updates_compute_what_the_wrapped_model_did(base, corpus):
    wrapped = body(base, layers="lora", rank=4)
    plain = dict(body(base).model.named_parameters())
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in adapting(wrapped.model).values():
            value.copy_(0.3 * torch.randn(value.shape, generator=chance))
    tokens = wrapped.tokens([e.text for e in corpus.examples[:9]])
    before = wrapped.vectors(tokens)
    model = merged(wrapped.model)
    torch.testing.assert_close(wrapped.vectors(tokens), before, atol=1e-5, rtol=1e-5)
    assert dict(model.named_parameters()).keys() == plain.keys()
    assert not torch.allclose(before, body(base).vectors(tokens), atol=1e-2)


def test_a_point_of_the_way_is_the_mean_of_its_ends(base):
    model = body(base).model
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1.0)
    way = Way(start, model)
    for share in (0.25, 0.0, 1.0):
        way.go(share)
        for name, value in model.named_parameters():
            torch.testing.assert_close(value.detach(), start[name] + share)
    way.go(0.0)
    assert all(torch.equal(value, start[name]) for name, value in model.named_parameters())


def test_in_parts_the_gradient_is_the_same(base, corpus, monkeypatch):
    monkeypatch.setattr("metaglot.tuning.body.CHUNK_TOKENS", 24)
    found = []
    for graph in (10**6, 1):
        one = body(base)
        one.graph_tokens = graph
        tokens = one.tokens([e.text for e in corpus.examples[::11]])
        targets = torch.arange(len(tokens)) % 3
        loss = one.backward(tokens, lambda v, y=targets: supervised_contrastive(v, y, 0.1), "step", 3)
        found.append((loss, {n: p.grad for n, p in adapting(one.model).items()}))
    assert found[0][0] == pytest.approx(found[1][0])
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], atol=1e-6, rtol=1e-4)


def test_vectors_are_the_encoders_own(base, corpus):
    texts = [e.text for e in corpus.examples[:20]]
    one = body(base)
    (expected,) = load_encoder(base, dtype="float32", device="cpu").encode(texts).values()
    np.testing.assert_allclose(one.vectors(one.tokens(texts)).numpy(), expected, atol=1e-5)


# --- Whole runs.


@pytest.mark.parametrize("loss", ["contrastive", "classification", "both"])
def test_the_loss_goes_down_and_the_folder_is_an_encoder_with_other_features(base, corpus, tmp_path, loss):
    if loss == "classification":  # what the head starts with would leave nothing to learn
        (tmp_path / "harder").mkdir()
        base = make(tmp_path / "harder", initializer_range=0.5)
    out = run(corpus, base, tmp_path / "tuned", loss=loss, steps=50, rate=1e-3, keep=0.0, patience=9)
    said = facts(out)
    assert said["steps"] == 50
    assert np.mean(said["losses"][-10:]) < 0.9 * np.mean(said["losses"][:5])
    assert said["held_out"] == ["swh"]
    assert len(said["tuned_on"]) == 4
    before, after = load_encoder(base), load_encoder(f"{out}+ngrams:64")
    assert set(after.blocks) == {str(out), "ngrams:64"}
    assert load_encoder(str(out)).fingerprint != before.fingerprint
    assert load_encoder(str(out)).settings == before.settings
    texts = [e.text for e in corpus.select("swh")]
    (old,) = before.encode(texts).values()
    assert said["curve"][0] != said["curve"][-1]
    if loss != "classification":
        assert not np.allclose(old, after.encode(texts)[str(out)], atol=1e-2)
    assert {p.name for p in tmp_path.iterdir()} <= {"tuned", "cache", "harder"}, "a checkpoint was left"
    card = (out / "README.md").read_text(encoding="utf-8")
    assert all(text in card for text in ("Hausa", "CC0", "words", f"| {len(said['losses'])} |"[2:4]))


@pytest.mark.parametrize("layers", ["1", "lora"])
def test_what_does_not_adapt_is_the_same_bit_for_bit(base, corpus, tmp_path, layers):
    out = run(corpus, base, tmp_path / "tuned", layers=layers, rate=1e-3, keep=0.0, steps=4, validation=0)
    before, after = weights(base), weights(out)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    allowed = "encoder.layer.1" if layers == "1" else "attention.self"
    assert all(allowed in name for name in changed)


def test_half_precision_files_stay_so(base, corpus, tmp_path):
    from safetensors.torch import save_file

    make(tmp_path / "half")
    halves = {name: value.half() for name, value in weights(tmp_path / "half").items()}
    save_file(halves, tmp_path / "half" / "model.safetensors", {"format": "pt"})
    out = run(corpus, str(tmp_path / "half"), tmp_path / "tuned", steps=2, keep=0.0)
    assert {value.dtype for value in weights(out).values()} == {torch.float16}
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(weights(out)[name], halves[name])


def test_the_share_of_the_way_is_the_best_of_those_tried(base, corpus, tmp_path):
    said = facts(run(corpus, base, tmp_path / "tuned", rate=1e-3))
    assert [way[0] for way in said["ways"]] == [0.0, 0.3, 0.5, 0.7, 1.0]
    assert sum(said["ways"][0][1:]) == pytest.approx(sum(said["curve"][0][1:]))
    best = max(sum(way[1:]) for way in said["ways"])
    assert said["share"] == next(way[0] for way in said["ways"] if sum(way[1:]) == best)
    kept = facts(run(corpus, base, tmp_path / "kept", keep=0.75, steps=2))
    assert kept["share"] == 0.25


def test_patience_ends_a_run_that_gets_no_better_and_the_best_weights_are_taken(base, corpus, tmp_path):
    # A rate this large ruins the encoder at once: what is left is the encoder as it was.
    out = run(
        corpus, base, tmp_path / "t", rate=3.0, steps=60, judgements=30, patience=2, clip=0.0, warmup=0.0
    )
    said = facts(out)
    best = max(said["curve"], key=lambda point: sum(point[1:]))
    assert said["steps"] == best[0] + 4 < 60
    if best[0] == 0:
        assert all(torch.equal(a, weights(base)[n]) for n, a in weights(out).items())


def test_the_schedule_fits_the_time(base, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("metaglot.tuning.run.WRITING", 0.0)
    out = run(corpus, base, tmp_path / "t", steps=100_000, minutes=0.1, judgements=2, patience=9)
    said = facts(out)
    assert 6 < said["steps"] < 5_000
    assert said["seconds"] < 12
    with pytest.raises(SettingsError, match=r"found 0.0001 minutes.*\n.*minutes or more"):
        run(corpus, base, tmp_path / "u", steps=100_000, minutes=0.0001)


def test_with_few_sources_nothing_is_judged_and_that_is_said(base, tmp_path):
    notices = []
    settings = tune_settings(**BASE | {"encoder": base, "steps": 2})
    out = tune(make_corpus(("eng", "hau")), settings, out=tmp_path / "t", notices=notices.extend)
    assert facts(out)["share"] == 0.5
    assert facts(out)["curve"] == []
    assert "no source language is kept apart" in notices[-1]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from metaglot.progress import silent
from metaglot.tuning.run import Run
from test_tuning import make_corpus, run
real, count = Run.save, [0]
def save(self):
    real(self)
    count[0] += 1
    if count[0] == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
Run.save = save
with silent():
    run(make_corpus(), {base!r}, {out!r}, **{changes!r})
"""


@pytest.mark.parametrize("changes", [{"loss": "both"}, {"layers": "lora"}], ids=["both", "lora"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(base, corpus, tmp_path, changes):
    changes = changes | {"rate": 1e-3, "steps": 9}
    code = KILLED.format(
        tests=str(Path(__file__).parent), at=5, base=base, out=str(tmp_path / "killed"), changes=changes
    )
    env = os.environ | {"METAGLOT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    _, about = load_tensors(tmp_path / ".killed.checkpoint.safetensors", "a checkpoint")
    assert len(about["losses"]) == 5
    with pytest.raises(SettingsError, match=r"rate: 0.001 there, 0.01 here.*\n.*remove the file"):
        run(corpus, base, tmp_path / "killed", **changes | {"rate": 0.01})
    resumed = run(corpus, base, tmp_path / "killed", **changes)
    whole = run(corpus, base, tmp_path / "whole", **changes)
    assert facts(resumed)["losses"] == facts(whole)["losses"]
    assert facts(resumed)["curve"] == facts(whole)["curve"]
    one, other = weights(resumed), weights(whole)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not list(tmp_path.glob(".*"))


# --- What is refused.


def test_a_damaged_checkpoint_is_named(base, corpus, tmp_path):
    file = tmp_path / ".t.checkpoint.safetensors"
    file.write_bytes(b"half a fi")
    with pytest.raises(ArtifactError, match="Remove the file to start"):
        run(corpus, base, tmp_path / "t")


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_no_folder(base, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("metaglot.tuning.losses.supervised_contrastive", lambda v, *_: v.sum() * float("nan"))
    with pytest.raises(TrainingError, match=r"loss of nan.*at step 0.*\n.*Lower the rate, which is 5e-05"):
        run(corpus, base, tmp_path / "t")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": "lots"}, "layers: Input should be 'all', 'lora' or a number of layers, found 'lots'"),
        ({"layers": "7"}, "at most the encoder's 2 layers"),
        ({"keep": 1.5}, "keep: "),
        ({"encoder": "ngrams"}, "expected one transformer to tune"),
        ({"validation": ["eng", "amh", "hau", "yor", "zul"]}, "no|language"),
        ({"rat": 1}, r"rat: no such setting. Did you mean 'rate'"),
    ],
)
def test_wrong_settings_are_named(base, corpus, tmp_path, wrong, message):
    with pytest.raises(SettingsError, match=message):
        run(corpus, base, tmp_path / "t", **wrong)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "cache"])


def test_wrong_languages_and_folders_are_named(base, corpus, tmp_path):
    with pytest.raises(LanguageError, match="setting validation, found 'tha'"):
        run(corpus, base, tmp_path / "t", validation=["tha"])
    with pytest.raises(LanguageError, match="found 'klingon'"):
        tune(corpus, tune_settings(encoder=base), out=tmp_path / "t", held_out=["klingon"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match="it is left as it is"):
        run(corpus, base, tmp_path / "full")
    one = make_corpus(train=1)
    with pytest.raises(DataError, match="at least two labels"):
        run(one, base, tmp_path / "t")


def test_a_model_with_a_decoder_is_refused(corpus, tmp_path):
    make(tmp_path / "m", is_encoder_decoder=True)
    with pytest.raises(SettingsError, match="a model with a decoder"):
        run(corpus, str(tmp_path / "m"), tmp_path / "t")


def test_a_module_without_layers_is_refused():
    with pytest.raises(SettingsError, match="list of its layers, found Linear"):
        find_layers(torch.nn.Linear(2, 2))


# --- The command line.


def write(corpus, path):
    rows = [{"id": e.id, "text": e.text, "label": e.label, "language": e.language, "split": e.split}
            for e in corpus.examples]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_tune_and_then_train_on_the_command_line(base, corpus, tmp_path):
    file, out = write(corpus, tmp_path / "words.jsonl"), tmp_path / "tuned"
    options = ("--held-out", "swh", "--encoder", base, "--steps", 3, "--batch", "3,3,2", "--layers", 1)
    done = metaglot("tune", file, "--out", out, *options, "--validation", "hau,yor")
    assert "Tuned" in done.out
    assert "On hau, yor, kept apart: zero-shot" in done.out
    assert f"--encoder {out}+ngrams" in done.out
    metaglot("train", file, "--held-out", "swh", "--encoder", f"{out}+ngrams:64", "--steps", 2, "--out",
             tmp_path / "model")  # fmt: skip
    assert mg.load(tmp_path / "model").model.encoder.name == f"{out}+ngrams:64"


def test_the_command_line_says_what_is_wrong_before_it_reads(tmp_path):
    assert "--out DIR" in refused("tune", "home-assistant")
    out = ("--out", tmp_path / "t")
    assert "--batch LANGUAGES,LABELS,EXAMPLES" in refused("tune", "home-assistant", *out, "--batch", "4x8")
    assert "loss: Input should be" in refused("tune", "home-assistant", *out, "--loss", "hinge")
