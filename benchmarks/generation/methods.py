"""Methods side by side: the same model, data, batches and budget, and another way to learn the start.

Every method but *scratch* begins with joint training. Then *joint + fine-tuned* goes on with it and the
others with episodes, on as many sequences; for *FOMAML, fresh languages* those are of the half of the
languages that joint training has not seen. Adapting is the same inner loop for all. Its rate is a multiple of
the method's own, chosen for each number of updates on validation languages, which none has learned from.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from metaglot.checkpoint import Checkpoint
from metaglot.config import TrainSettings
from metaglot.generation.drawing import EpisodeDraw, JointDraw, Sizes, shared_out
from metaglot.generation.learning import Updates, adapt, make_learner, nats, whole
from metaglot.generation.material import Material
from metaglot.learners.base import Learner, start_of, started
from metaglot.learners.modules import ModuleModel
from metaglot.outer_loop import optimize
from metaglot.storage import atomic_file
from metaglot.tensor_files import load_tensors, save_tensors
from metaglot.types import Params

SCRATCH, JOINT, FRESH = "scratch", "joint + fine-tuned", "FOMAML, fresh languages"
LEARNERS = {
    JOINT: "multitask",
    "FOMAML": "fomaml",
    "hierarchical": "hierarchical",
    SCRATCH: "multitask",
    "Reptile": "reptile",
    "CAVIA": "cavia",
    FRESH: "fomaml",
}
UNGROUPED = ("joint + fine-tuned", "FOMAML", "scratch", "Reptile", "CAVIA")
"""The methods of translation, whose sources have no groups."""
MULTIPLES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Plan:
    """How much is learned, and how.

    Attributes:
        joint: steps of joint training.
        meta: outer steps of meta-training.
        episodes: of each.
        sizes: sequences of batches and episodes.
        rate: of joint training.
        fresh: share of the languages that joint training leaves to episodes, see `shared_out`.
        options: of learners, by their names, over what `make_learner` has.
        seed: of everything random.
    """

    joint: int = 2000
    meta: int = 400
    episodes: int = 2
    sizes: Sizes = field(default_factory=Sizes)
    rate: float = 2e-3
    fresh: float = 0.5
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0

    @property
    def more(self) -> int:
        """Joint steps on as many sequences as the meta-training of the others is on."""
        episode = self.sizes.support + self.sizes.query
        return round(self.meta * self.episodes * episode / self.sizes.joint)


class Methods:
    """The methods on one model and its sources; what is learned is kept in a folder, and gone on from.

    Args:
        model: the model, at its random start.
        sources: code → material.
        plan: how much is learned.
        folder: where what is learned is kept.
    """

    def __init__(self, model: ModuleModel, sources: Mapping[str, Material], plan: Plan, folder: Path) -> None:
        self.model, self.sources, self.plan, self.folder = model, sources, plan, folder
        self.scratch = model.init(0)
        folder.mkdir(parents=True, exist_ok=True)

    def learned(self, name: str) -> tuple[Learner, Params]:
        """Return a method's learner and meta-parameters, learned now or before."""
        learner = self.learner(name)
        if name == SCRATCH:
            return learner, started(self.scratch)
        if name == JOINT:
            return learner, started(self.finished())
        fresh = self.plan.fresh if name == FRESH else 0.0
        return learner, self._kept(name.lower(), lambda: self._meta(name, learner, fresh))

    def after_joint(self, name: str, learner: Learner, steps: int) -> Params:
        """Return what a learner learns by so many outer steps after all of joint training."""
        return self._kept(name, lambda: self._episodes(name, learner, self.finished(), self.sources, steps))

    def finished(self) -> Params:
        """Return what all of joint training learns."""
        return self._kept("joint-more", self._joint_to_the_end)

    def learner(self, name: str) -> Learner:
        """Return a method's learner."""
        given = LEARNERS[name]
        return make_learner(given, self.plan.options.get(given, {}))

    def _joint_to_the_end(self) -> Params:
        """Joint training on all languages, and then at a lower rate on as many sequences as episodes have."""
        first = self._kept("joint", lambda: self._joint(self.scratch, list(self.sources)))
        if not self.plan.more:
            return first
        return self._joint(first, list(self.sources), self.plan.more, self.plan.rate / 4)

    def _joint(self, start: Params, codes: list[str], steps: int = 0, rate: float = 0.0) -> Params:
        steps, rate = steps or self.plan.joint, rate or self.plan.rate
        learner = make_learner("multitask", {"outer_rate": rate})
        known = {code: self.sources[code] for code in codes}
        draw = JointDraw(known, self.plan.sizes, self.plan.seed + steps)
        settings = self._settings(steps, 1)
        found = optimize(
            _started(self.model, start), learner, draw, settings, name="joint", activity="joint training",
            checkpoint=self._checkpoint, key=f"joint {steps}",
        )  # fmt: skip
        return start_of(found.meta)

    def _meta(self, name: str, learner: Learner, fresh: float) -> Params:
        joint, own = shared_out(self.sources, fresh)
        first = self._kept("joint-part" if fresh else "joint", lambda: self._joint(self.scratch, joint))
        known = {code: self.sources[code] for code in own}
        return self._episodes(name, learner, first, known, self.plan.meta)

    def _episodes(
        self, name: str, learner: Learner, first: Params, known: Mapping[str, Material], steps: int
    ) -> Params:
        draw = EpisodeDraw(known, self.plan.sizes, self.plan.seed)
        settings = self._settings(steps, self.plan.episodes)
        model = _started(self.model, first)
        checkpoint = self._checkpoint
        return optimize(model, learner, draw, settings, name=name, checkpoint=checkpoint, key=name).meta

    def _settings(self, steps: int, episodes: int) -> TrainSettings:
        return TrainSettings(
            steps=steps, episodes=episodes, pool=0, warmup=min(50, steps // 10), clip=1.0, curves_every=0,
            accumulate=1, checkpoint_every=100, seed=self.plan.seed,
        )  # fmt: skip

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def _kept(self, name: str, learn: Callable[[], Params]) -> Params:
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            begun = time.perf_counter()
            found = {n: v.detach() for n, v in learn().items()}
            save_tensors(path, found, {"seconds": round(time.perf_counter() - begun)})
            Checkpoint(self._checkpoint).remove()
        found, _ = load_tensors(path, f"what {name} has learned")
        return found


def _started(model: ModuleModel, start: Params) -> Any:
    """The model with another start."""

    class Started:
        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def init(self, n_labels: int) -> Params:
            return {n: v.clone() for n, v in start.items()}

    return Started()


def judged(
    methods: Methods,
    learner: Learner,
    meta: Params,
    support: Material,
    test: Material,
    updates: Updates,
    *key: int | str,
) -> tuple[float, Params]:
    """Return nats of the test sequences after adapting, and the parameters."""
    own = adapt(methods.model, learner, meta, support, updates, *key)
    params = whole(methods.model, learner, meta, own, support.batch([0]))
    return nats(methods.model, params, test), params


class Records:
    """Result rows as JSON lines, one for each key: what is there is not made again."""

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path, self._names = path, tuple(keys)
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._known = {self._key(row) for row in self.rows if "about" not in row}

    def __contains__(self, row: Mapping[str, Any]) -> bool:
        return self._key(row) in self._known

    def add(self, row: dict[str, Any]) -> None:
        """Write a row."""
        self.rows.append(row)
        if "about" not in row:
            self._known.add(self._key(row))
        with atomic_file(self.path) as beside:
            beside.write_text("".join(json.dumps(r) + "\n" for r in self.rows), "utf-8")

    def find(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the rows with these values."""
        return [r for r in self.rows if "about" not in r and all(r.get(n) == v for n, v in wanted.items())]

    def _key(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row.get(name) for name in self._names)


def about(command: str, facts: Mapping[str, Any], packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a result file begins with."""
    return {
        "about": {
            "command": command,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("metaglot", "torch", *packages)},
            "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
            **facts,
        }
    }
