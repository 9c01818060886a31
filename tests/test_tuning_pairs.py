"""Tuning an encoder on pairs: whether two texts have a word in common, in six languages."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import metaglot as mg
from metaglot.config import Recipe
from metaglot.encoders import load_encoder
from metaglot.errors import DataError, SettingsError
from metaglot.progress import silent
from metaglot.tensor_files import load_tensors
from metaglot.tuning import tune, tune_settings
from metaglot.tuning.losses import Head
from metaglot.tuning.reading import Reading
from metaglot.types import Corpus, Example
from test_encoders_transformer import make
from test_tuning import CODES, facts, weights
from village import metaglot, refused

BASE = {"precision": "float32", "checkpoint_minutes": 0.0, "max_length": 20}
LABELS = ("other", "same")


def pair(code, label, number):
    """Two texts of a language's word and a topic: the same topic, or two."""
    chance = np.random.default_rng([CODES.index(code), LABELS.index(label), number])
    first, second = chance.choice(8, 2, replace=False)
    topics = (first, first if label == "same" else second)
    return [f"w{20 + CODES.index(code)} w{topic} w{30 + chance.integers(8)}" for topic in topics]


def make_corpus(codes=CODES, train=24):
    made = []
    for code in codes:
        for label in LABELS:
            for i in range(train + 3):
                text, second = pair(code, label, i)
                split = "train" if i < train else "test"
                made.append(Example(f"{code}{label}{i}", text, label, code, split, pair=second))
    return Corpus("topics", tuple(made), kind="pairs", licence="CC0")


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
    settings = tune_settings(**{**BASE, "encoder": base, "steps": 8, "judgements": 2} | changes)
    return tune(corpus, settings, out=out, held_out=["swh"])


# --- Features.


def test_the_features_of_pairs_are_those_of_the_formula():
    vectors = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    found = Reading("pairs").features(vectors)
    assert found.shape == (3, 16)
    for row in range(3):
        u, v = 2 * vectors[2 * row], 2 * vectors[2 * row + 1]
        torch.testing.assert_close(found[row], torch.cat([u, v, (u - v).abs(), u * v]))
    assert Reading().features(vectors) is vectors


def test_both_texts_are_read_and_a_row_is_two_places(corpus):
    reading, examples = Reading("pairs"), corpus.examples[:3]
    assert reading.texts(examples) == [text for e in examples for text in (e.text, e.pair)]
    assert reading.places([2, 0]) == [4, 5, 0, 1]
    assert Reading().texts(examples) == [e.text for e in examples]
    assert Reading().places([2, 0]) == [2, 0]


def test_the_head_of_pairs_knows_what_vectors_apart_cannot_say():
    """Whether two texts are alike is in u · v and |u − v|; no linear head over u and v has it."""
    chance = torch.Generator().manual_seed(0)
    u = torch.nn.functional.normalize(torch.randn(240, 6, generator=chance))
    same = torch.arange(240) % 2
    v = torch.where(same[:, None] == 1, u, u.roll(2, 0))
    features = Reading("pairs").features(torch.stack([u, v], 1).flatten(0, 1))
    for part, least, most in ((features, 0.9, 1.0), (features[:, :12], 0.3, 0.7)):
        head = Head(part[:160], same[:160], 2)
        right = (head(part[160:]).argmax(1) == same[160:]).float().mean()
        assert least <= right <= most


# --- Whole runs.


def test_the_loss_goes_down_for_both_texts_and_the_folder_serves_pairs(corpus, base, tmp_path):
    out = run(corpus, base, tmp_path / "tuned", steps=40, rate=2e-3, keep=0.0, patience=9, examples=4)
    said = facts(out)
    assert said["settings"]["loss"] == "classification"
    assert said["corpus"]["kind"] == "pairs"
    assert np.mean(said["losses"][-8:]) < 0.8 * np.mean(said["losses"][:4])
    assert said["drawn"] == 40 * 4 * 2 * 4
    (old,), (new,) = (load_encoder(name).encode(["w1 w2"]).values() for name in (base, str(out)))
    assert not np.allclose(old, new, atol=1e-2)
    recipe = Recipe(corpus="topics", encoder=str(out), held_out=("swh",), train={"steps": 2})
    trained = mg.train(corpus, recipe)
    adapted = mg.adapt(trained, "swh", corpus.select("swh", "train"), estimate=False)
    asked = corpus.select("swh", "test")
    answers = mg.predict(trained, asked, "swh", adaptation=adapted.adaptation)
    right = [answer.labels[0][0] == e.label for answer, e in zip(answers, asked, strict=True)]
    assert np.mean(right) > 0.6


def test_a_pair_learns_from_both_of_its_texts(corpus, base, tmp_path):
    """Were the second text not read, its change would leave losses and weights as they are."""
    other = replace(corpus, examples=tuple(replace(e, pair="w39 w38") for e in corpus.examples))
    one, two = (run(c, base, tmp_path / n, validation=0) for c, n in ((corpus, "one"), (other, "two")))
    assert facts(one)["losses"] != facts(two)["losses"]
    assert any(not torch.equal(value, weights(two)[name]) for name, value in weights(one).items())


def test_pairs_are_judged_and_weighed_as_texts_are(corpus, base, tmp_path):
    said = facts(run(corpus, base, tmp_path / "tuned", rate=1e-3, validation=["hau", "yor"]))
    assert said["validation"] == ["hau", "yor"]
    assert [step for step, *_ in said["curve"]] == [0, 4, 8]
    assert [way[0] for way in said["ways"]] == [0.0, 0.3, 0.5, 0.7, 1.0]
    assert said["ways"][0][1:] == pytest.approx(said["curve"][0][1:])
    best = max(sum(way[1:]) for way in said["ways"])
    assert said["share"] == next(way[0] for way in said["ways"] if sum(way[1:]) == best)


def test_the_schedule_fits_the_time(corpus, base, tmp_path, monkeypatch):
    monkeypatch.setattr("metaglot.tuning.run.WRITING", 0.0)
    out = run(corpus, base, tmp_path / "t", steps=100_000, minutes=0.08, patience=9)
    assert 6 < facts(out)["steps"] < 5_000
    assert facts(out)["seconds"] < 12


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from metaglot.progress import silent
from metaglot.tuning.run import Run
from test_tuning_pairs import make_corpus, run
real, count = Run.save, [0]
def save(self):
    real(self)
    count[0] += 1
    if count[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
Run.save = save
with silent():
    run(make_corpus(), {base!r}, {out!r}, rate=1e-3)
"""


def test_a_run_that_was_killed_goes_on_to_the_same_bits(corpus, base, tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), base=base, out=str(tmp_path / "killed"))
    env = os.environ | {"METAGLOT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    _, about = load_tensors(tmp_path / ".killed.checkpoint.safetensors", "a checkpoint")
    assert len(about["losses"]) == 4
    resumed = run(corpus, base, tmp_path / "killed", rate=1e-3)
    whole = run(corpus, base, tmp_path / "whole", rate=1e-3)
    for name in ("losses", "curve", "ways"):
        assert facts(resumed)[name] == facts(whole)[name]
    one, other = weights(resumed), weights(whole)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


# --- What is refused.


@pytest.mark.parametrize("loss", ["contrastive", "both"])
def test_another_loss_than_classification_is_refused(corpus, base, tmp_path, loss):
    with pytest.raises(SettingsError, match=rf"'classification' for the kind 'pairs', found '{loss}'"):
        run(corpus, base, tmp_path / "t", loss=loss)
    assert not (tmp_path / "t").exists()


def test_other_kinds_are_refused_and_both_that_fit_are_named(corpus, tmp_path):
    with pytest.raises(SettingsError, match=r"kind 'classification' or 'pairs' .*found 'tagging'"):
        tune(replace(corpus, kind="tagging"), out=tmp_path / "t")


def test_a_pair_without_its_second_text_is_named(corpus, base, tmp_path):
    first = replace(corpus.examples[0], pair="  ")
    with pytest.raises(DataError, match=rf"no second one in the example '{first.id}' \(amh\)"):
        run(replace(corpus, examples=(first, *corpus.examples[1:])), base, tmp_path / "t")
    assert not (tmp_path / "t").exists()


# --- The command line.


def test_tune_pairs_and_then_train_on_the_command_line(corpus, base, tmp_path):
    file, out = tmp_path / "topics.jsonl", tmp_path / "tuned"
    rows = [
        {"id": e.id, "premise": e.text, "hypothesis": e.pair, "label": e.label, "language": e.language,
         "split": e.split}
        for e in corpus.examples
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ("--kind", "pairs", "--held-out", "swh")
    tuning = ("--encoder", base, "--steps", 2, "--layers", 1, "--validation", "hau,yor")
    done = metaglot("tune", file, "--out", out, *options, *tuning)
    assert "2 steps, 24 pairs" in " ".join(done.out.split())
    assert f"--kind pairs --encoder {out} --out MODEL" in " ".join(done.out.split())
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| Pairs | " in card
    assert "--encoder DIR --out" in card
    model = tmp_path / "model"
    metaglot("train", file, *options, "--encoder", out, "--steps", 2, "--out", model)
    assert mg.load(model).model.encoder.name == str(out)
    wrong = refused("tune", file, "--out", tmp_path / "t", *options, *tuning, "--loss", "both")
    assert "expected the loss 'classification' for the kind 'pairs', found 'both'" in " ".join(wrong.split())


# --- The benchmark's sources.


def test_contents_that_afrixnli_has_are_not_taken_from_xnli(tmp_path):
    from benchmarks.tune_pairs import COPIES, MORE, with_xnli

    for code in ("eng", *MORE):
        (tmp_path / code).mkdir()
        rows = [
            {
                "id": i,
                "label": ("neutral", "entailment")[i % 2],
                "premise": f"{code} {i // 2}",
                "hypothesis": "h",
            }
            for i in range(40)
        ]
        (tmp_path / code / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Premise 3 is in its dev split, with other spaces and letters; premise 5 in its test split.
    kept = [
        Example(f"{split}/0", text, "neutral", "eng", split, pair="other")
        for split, text in (("train", " ENG  3"), ("test", "eng 5"))
    ]
    wide, said = with_xnli(Corpus("afrixnli", tuple(kept), kind="pairs", parallel=True), tmp_path)
    added = [e for e in wide.examples if e not in kept]
    contents = {e.text.split()[1] for e in added}
    assert contents == {str(i) for i in range(20)} - {"3", "5"}
    assert len(added) == said["pairs"] == 18 * 2 * COPIES
    assert said["contents of AfriXNLI left out"] == 4
    assert said["of them of its test set"] == 2
    for content in contents:
        found = [e for e in added if e.text.split()[1] == content]
        assert len({e.language for e in found}) == COPIES, "pairs of one premise stand together"
        assert len({e.id for e in found}) == 2
    assert not {e.id for e in added} & {e.id for e in kept}


def test_the_page_says_what_the_result_file_says():
    from benchmarks.markers import ROOT
    from benchmarks.tune_pairs import RESULT, filled

    page = ROOT / "docs/tuning.md"
    assert filled(page) == page.read_text(encoding="utf-8")
    kept = json.loads(RESULT.read_text(encoding="utf-8"))
    rows, xnli = kept["rows"], kept["xnli"]
    assert (xnli["contents"], xnli["of them of its test set"]) == (2040, 0)

    def gain(one, other, k):
        return 100 * (rows[one]["accuracy"][str(k)] - rows[other]["accuracy"][str(k)])

    # "3 to 5 points"; "about one point"; "change nothing".
    assert all(2.5 < gain("frozen + XNLI", "frozen", k) < 5.5 for k in (0, 8, 32))
    assert all(0 < gain("tuned + XNLI", "frozen + XNLI", k) < 1.5 for k in (0, 8, 32))
    assert abs(100 * (rows["frozen"]["accuracy"]["32"] - rows["frozen"]["accuracy"]["0"])) < 1
