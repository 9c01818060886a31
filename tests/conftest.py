"""A small world to test in: an encoder made of hashes, five languages, four labels."""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, settings

from metaglot.label_scores import LabelScores
from metaglot.model import fit_sources
from metaglot.space import TaskSpace
from metaglot.types import Batch, Corpus, Episode, Example

# Of tensors this small, threads that wait for one another take a hundred times as long.
torch.set_num_threads(1)

# How long an example takes says more about the machine than about the code.
settings.register_profile("metaglot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("metaglot")

LANGUAGES = ("amh", "eng", "hau", "swh", "yor")
LABELS = ("greet", "music", "timer", "weather")


class TinyEncoder:
    """Features of texts of the form `<language> <label> <anything>`.

    The dense block is the label's direction, the language's shift and the text's own noise; the
    lexical block marks the label's word in this language, which no other language shares, and a
    word of the text's own, which counts for more the more noise there is.
    """

    name = "tiny"

    def __init__(self, blocks=None, noise=0.5):
        self.blocks = dict(blocks or {"dense": 16, "lexical": 32})
        self.lexical = frozenset(self.blocks) & {"lexical"}
        self.noise = noise
        self.fingerprint = f"tiny {self.blocks} {noise}"

    def encode(self, texts, *, description="encoding"):
        return {
            block: np.stack([getattr(self, f"_{block}")(text, width) for text in texts])
            if len(texts)
            else np.zeros((0, width), np.float32)
            for block, width in self.blocks.items()
        }

    def _dense(self, text, width):
        language, label = text.split()[:2]
        return _vector(label, width) + _vector(language, width) + self.noise * _vector(text, width)

    def _lexical(self, text, width):
        language, label = text.split()[:2]
        row = np.zeros(width, np.float32)
        row[_number(language + label) % width] = 1.0
        row[_number(text) % width] += self.noise
        return row / np.linalg.norm(row)


def _number(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _vector(text, width):
    return np.random.default_rng(_number(text)).normal(size=width).astype(np.float32)


@pytest.fixture(scope="session")
def tiny_encoder():
    """The class of the tiny encoder, which takes its blocks."""
    return TinyEncoder


@pytest.fixture(scope="session")
def make_corpus():
    """A function that makes a corpus; a parallel one has the same ids in every language."""

    def make(languages=LANGUAGES, labels=LABELS, *, train=8, dev=2, test=4, parallel=False):
        examples = [
            Example(
                id=(f"{label}-{i}" if parallel else f"{code}-{label}-{i}"),
                text=f"{code} {label} {i}",
                label=label,
                language=code,
                split="train" if i < train else "dev" if i < train + dev else "test",
            )
            for code in languages
            for label in labels
            for i in range(train + dev + test)
        ]
        return Corpus("tiny", tuple(examples), parallel=parallel)

    return make


@pytest.fixture(scope="session")
def space(make_corpus):
    """Four source languages, one held out."""
    return TaskSpace.of(make_corpus(), ["swh"])


@pytest.fixture(scope="session")
def sources(space):
    """The tiny encoder fitted to the source languages; not to be changed by any test."""
    return fit_sources(space, TinyEncoder())


@pytest.fixture(scope="session")
def noisy_sources(space):
    """The same languages, so noisy that there is something to learn; not to be changed by any test."""
    return fit_sources(space, TinyEncoder(noise=2.5))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    monkeypatch.setenv("METAGLOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def double():
    """Double precision inside the test."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def toy_model():
    """A function that returns a classification model of two small blocks."""

    def make(n_labels=4, blocks=None):
        blocks = blocks or {"dense": 4, "lexical": 5}
        return LabelScores(blocks, n_labels, frozenset(blocks) & {"lexical"})

    return make


@pytest.fixture(scope="session")
def toy_episode():
    """A function that returns an episode of Gaussian classes, in the default precision."""

    def make(counts=(2, 2, 2), *, classes=None, blocks=None, prior=True, queries=3, noise=0.3, seed=0):
        chance = torch.Generator().manual_seed(seed)
        widths = blocks or {"dense": 4, "lexical": 5}
        n_labels = len(counts)
        rows = torch.arange(n_labels) if classes is None else torch.tensor(classes)
        centres = {
            name: F.normalize(torch.randn(n_labels, width, generator=chance), dim=1)
            for name, width in widths.items()
        }

        def batch(numbers):
            targets = torch.arange(n_labels).repeat_interleave(torch.tensor(numbers))
            inputs = {
                name: centre[targets] + noise * torch.randn(len(targets), widths[name], generator=chance)
                for name, centre in centres.items()
            }
            scores = 0.3 * F.one_hot(targets, n_labels) + 0.2 * torch.randn(
                len(targets), n_labels, generator=chance
            )
            return Batch(inputs, targets, rows, scores * (rows >= 0) if prior else None)

        return Episode(batch(list(counts)), batch([queries] * n_labels), "toy")

    return make
