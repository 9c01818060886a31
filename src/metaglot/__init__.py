"""Teach a model a new language from a handful of examples.

    >>> import metaglot as mg
    >>> corpus = mg.load_corpus("home-assistant")
    >>> artifact = mg.train(corpus, mg.Recipe(corpus="home-assistant", held_out=("tha",)))
    >>> adapted = mg.adapt(artifact, "tha", examples)

Everything below is imported when it is first used, so that `import metaglot` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaglot.adapting import Adapted, adapt
    from metaglot.artifact import Adaptation, Artifact, load, save, save_adaptation
    from metaglot.calibration import Calibration
    from metaglot.config import Recipe, TrainSettings, read_recipe
    from metaglot.cross_validation import Estimate
    from metaglot.data import load_corpus, load_examples, read_examples_to_predict, read_texts
    from metaglot.encoders import load_encoder
    from metaglot.errors import MetaglotError
    from metaglot.evaluation.grid import run_grid
    from metaglot.evaluation.report import Report
    from metaglot.learners import LEARNERS
    from metaglot.learners.meta_gradient import meta_gradient
    from metaglot.learners.modules import EmbeddingModel, ModuleModel
    from metaglot.outer_loop import meta_train, optimize
    from metaglot.predicting import Prediction, predict
    from metaglot.run_log import RunLog
    from metaglot.searching import search
    from metaglot.training import fit, train, train_learners
    from metaglot.tuning import TuneSettings, tune
    from metaglot.types import Batch, Corpus, Episode, Example

__version__ = "0.1.0"

_HOMES = {
    "Adaptation": "artifact",
    "Adapted": "adapting",
    "Artifact": "artifact",
    "Batch": "types",
    "Calibration": "calibration",
    "Corpus": "types",
    "EmbeddingModel": "learners.modules",
    "Episode": "types",
    "Estimate": "cross_validation",
    "Example": "types",
    "LEARNERS": "learners",
    "MetaglotError": "errors",
    "ModuleModel": "learners.modules",
    "Prediction": "predicting",
    "Recipe": "config",
    "Report": "evaluation.report",
    "RunLog": "run_log",
    "TrainSettings": "config",
    "TuneSettings": "tuning",
    "adapt": "adapting",
    "fit": "training",
    "load": "artifact",
    "load_corpus": "data",
    "load_encoder": "encoders",
    "load_examples": "data",
    "meta_gradient": "learners.meta_gradient",
    "meta_train": "outer_loop",
    "optimize": "outer_loop",
    "predict": "predicting",
    "read_examples_to_predict": "data",
    "read_recipe": "config",
    "read_texts": "data",
    "run_grid": "evaluation.grid",
    "save": "artifact",
    "save_adaptation": "artifact",
    "search": "searching",
    "train": "training",
    "train_learners": "training",
    "tune": "tuning",
}

__all__ = [
    "LEARNERS",
    "Adaptation",
    "Adapted",
    "Artifact",
    "Batch",
    "Calibration",
    "Corpus",
    "EmbeddingModel",
    "Episode",
    "Estimate",
    "Example",
    "MetaglotError",
    "ModuleModel",
    "Prediction",
    "Recipe",
    "Report",
    "RunLog",
    "TrainSettings",
    "TuneSettings",
    "adapt",
    "fit",
    "load",
    "load_corpus",
    "load_encoder",
    "load_examples",
    "meta_gradient",
    "meta_train",
    "optimize",
    "predict",
    "read_examples_to_predict",
    "read_recipe",
    "read_texts",
    "run_grid",
    "save",
    "save_adaptation",
    "search",
    "train",
    "train_learners",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"metaglot.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'metaglot' has no attribute {name!r}")
