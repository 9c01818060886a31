"""Training: a corpus and a recipe in, an artifact out; and the outer loop. There is no other."""

from __future__ import annotations

import inspect
import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from metaglot.artifact import Artifact, versions, write_tensors
from metaglot.config import Recipe, TrainSettings
from metaglot.encoders import load_encoder
from metaglot.errors import SettingsError, StorageError, TrainingError, suggestion
from metaglot.learners import LEARNERS
from metaglot.learners.base import Learner, check_pair
from metaglot.model import Sources, fit_sources
from metaglot.progress import console, progress
from metaglot.space import TaskSpace, draw_episode, generator
from metaglot.storage import atomic_file, cache_root, file_hash, text_hash, write_json
from metaglot.types import Corpus, Episode, Params

if TYPE_CHECKING:
    from torch import Tensor

# Results of training that the cache keeps; each is at most a few megabytes.
_KEPT = 64


@dataclass(frozen=True)
class TrainResult:
    """Meta-parameters, and the mean query loss of every outer step in nats."""

    meta: Params
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Fitted:
    """What all learners and baselines of a run share: the task space and the fitted sources."""

    space: TaskSpace
    sources: Sources


def fit(corpus: Corpus, recipe: Recipe) -> Fitted:
    """Divide a corpus into sources and held-out languages and fit the sources, as a recipe says.

    Raises:
        MetaglotError: the corpus, the encoder or the languages do not fit; the message says how.
    """
    space = TaskSpace.of(corpus, recipe.held_out, sources=recipe.sources)
    return Fitted(space, fit_sources(space, load_encoder(recipe.encoder)))


def make_learner(recipe: Recipe) -> Learner:
    """Return a recipe's learner with its options.

    Raises:
        SettingsError: the learner has no such option.
    """
    factory = LEARNERS[recipe.learner]
    known = list(inspect.signature(factory).parameters)
    options = ", ".join(known) or "it has none"
    for name in recipe.learner_options:
        if name not in known:
            raise SettingsError(
                f"expected an option of the learner {recipe.learner!r} ({options}), found {name!r}.",
                hint=suggestion(name, known),
            )
    try:
        learner: Learner = factory(**recipe.learner_options)
    except TypeError as error:
        raise SettingsError(f"the options of the learner {recipe.learner!r} are wrong: {error}.") from error
    return learner


def train(
    corpus: Corpus,
    recipe: Recipe,
    *,
    fitted: Fitted | None = None,
    checkpoint: Path | None = None,
) -> Artifact:
    """Learn from a corpus's source languages how to learn another one.

    Args:
        corpus: the examples.
        recipe: learner, encoder, held-out languages, outer loop.
        fitted: `fit(corpus, recipe)`, where the caller has it already.
        checkpoint: a file to save progress to, and to go on from.

    Returns:
        The artifact, in memory: see `metaglot.artifact.save`.
    """
    learner = make_learner(recipe)
    fitted = fitted or fit(corpus, recipe)
    result = meta_train(fitted.sources, learner, recipe.train, name=recipe.learner, checkpoint=checkpoint)
    return assemble(fitted, recipe, learner, result)


def assemble(fitted: Fitted, recipe: Recipe, learner: Learner, result: TrainResult) -> Artifact:
    """Return the artifact of a learner that was trained on fitted sources."""
    space, sources, corpus = fitted.space, fitted.sources, fitted.space.corpus
    facts = {
        "sources": [task.language for task in space.sources],
        "held_out": [task.language for task in space.held_out],
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "examples": len(corpus.examples),
            "licence": corpus.licence,
            "parallel": corpus.parallel,
        },
        "metrics": {
            "cross_fitted_accuracy": _cross_fitted_accuracy(sources),
            "first_loss": result.losses[0],
            "last_loss": result.losses[-1],
        },
    }
    return Artifact(sources.model, learner, result.meta, recipe, facts)


def train_learners(
    fitted: Fitted, recipe: Recipe, names: Sequence[str]
) -> dict[str, tuple[Learner, TrainResult]]:
    """Meta-train several learners on the same fitted sources; name → (learner, its result).

    The recipe's learner has the recipe's options, the others their defaults. What was learned is kept
    in the cache under a hash of all that it depends on (data, features, options, seed, metaglot's
    own code), so that another grid over the same learners need not train them again.
    """
    trained: dict[str, tuple[Learner, TrainResult]] = {}
    for name in names:
        options = recipe.learner_options if name == recipe.learner else {}
        learner = make_learner(recipe.model_copy(update={"learner": name, "learner_options": options}))
        key = text_hash(_run_key(fitted.sources, learner, recipe.train, name), code_hash())
        result = _recall(key)
        if result is None:
            result = meta_train(fitted.sources, learner, recipe.train, name=name)
            _remember(key, result)
        trained[name] = (learner, result)
    return trained


def _recall(key: str) -> TrainResult | None:
    """Return what the cache has under a key, or None."""
    file = cache_root() / "learned" / f"{key}.safetensors"
    try:
        with safe_open(file, framework="pt") as found:
            losses = json.loads(found.metadata()["losses"])
            return TrainResult({n: found.get_tensor(n) for n in found.keys()}, tuple(losses))  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _remember(key: str, result: TrainResult) -> None:
    """Keep a result in the cache, and of older ones the newest; a full disk only costs the time."""
    folder = cache_root() / "learned"
    try:
        with atomic_file(folder / f"{key}.safetensors") as beside:
            write_tensors(beside, result.meta, {"losses": json.dumps(result.losses)})
        for old in sorted(folder.glob("*.safetensors"), key=lambda f: f.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    except (StorageError, OSError) as error:
        console.print(f"[yellow]note:[/yellow] what was learned could not be kept: {error}")


def code_hash() -> str:
    """Return a hash of metaglot's own source files."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return text_hash(*(file_hash(file) for file in files))


def evaluation_facts(fitted: Fitted, recipe: Recipe) -> dict[str, Any]:
    """Return what a result file must say of its run: recipe, data, versions, machine."""
    corpus = fitted.space.corpus
    return {
        "recipe": recipe.model_dump(mode="json"),
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint, "parallel": corpus.parallel},
        "sources": [task.language for task in fitted.space.sources],
        "held_out": [task.language for task in fitted.space.held_out],
        "encoder": fitted.sources.model.encoder.fingerprint,
        "versions": versions(),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def _cross_fitted_accuracy(sources: Sources) -> float:
    """Zero-shot accuracy on a source language of a head learned from the others, the mean over them."""
    found = []
    for table in sources.tables:
        batch = table.batch(sources.model, torch.arange(len(table.examples)), table.task.labels)
        prior = batch.prior if batch.prior is not None else torch.zeros(len(batch), len(batch.classes))
        found.append(float((prior.argmax(-1) == batch.targets).float().mean()))
    return sum(found) / len(found)


def source_episode(sources: Sources, settings: TrainSettings, *key: int | str) -> Episode:
    """Draw one episode from the sources: a language, a number of shots and of labels by chance.

    Languages are drawn uniformly, so that a language with more data counts no more. Half of the
    episodes have all labels of the language and half fewer, as new users' label sets will.
    """
    chance = generator(settings.seed, "episode", *key)
    table = sources.tables[int(chance.integers(len(sources.tables)))]
    shots = int(chance.choice(settings.shots))
    most = len(table.task.labels)
    ways = most if chance.random() < 0.5 else int(chance.integers(2, most + 1))
    drawn = draw_episode(
        table.examples, table.task.labels, shots, settings.queries, settings.seed, *key, ways=ways
    )
    return Episode(
        support=table.batch(sources.model, drawn.support, drawn.labels),
        query=table.batch(sources.model, drawn.query, drawn.labels),
        task=table.task.language,
    )


def meta_train(
    sources: Sources,
    learner: Learner,
    settings: TrainSettings,
    *,
    name: str = "learner",
    checkpoint: Path | None = None,
) -> TrainResult:
    """Learn a learner's meta-parameters on episodes of the source languages (Adam, cosine decay).

    A run that is stopped (Ctrl-C, a crash) goes on from its last checkpoint with the same result,
    bit for bit on one machine, as if it had not been: every episode is a function of the seed and
    its step.

    Args:
        sources: the fitted source languages.
        learner: what to train.
        settings: steps, episodes, shots, seed.
        name: the learner's name, for messages and the progress bar.
        checkpoint: a file to save progress to, and to go on from.

    Raises:
        SettingsError: the learner cannot work on the model's kind.
        TrainingError: the loss is no longer a number; the message says since which step.
    """
    model = sources.model.task_model
    check_pair(name, learner, sources.model.kind_name, model.outputs)
    start = learner.init(model, torch.Generator().manual_seed(settings.seed % 2**64))
    meta = {key: value.clone().requires_grad_() for key, value in start.items()}
    groups = [
        {"params": [value], "lr": settings.rate * learner.outer_rate(key), "name": key}
        for key, value in meta.items()
    ]
    optimizer = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    saved = _Checkpoint(checkpoint, _run_key(sources, learner, settings, name))
    losses = saved.restore(meta, optimizer)
    draw = _drawer(sources, learner, settings)
    with progress(f"meta-training {name}", settings.steps) as advance:
        advance(len(losses))
        try:
            for step in range(len(losses), settings.steps):
                episodes = [draw(step, place) for place in range(settings.episodes)]
                decay = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * decay
                optimizer.zero_grad()
                loss = learner.meta_loss(model, meta, episodes)
                if not bool(torch.isfinite(loss)):
                    raise TrainingError(
                        f"the loss of the learner {name!r} is {loss.item()} since step {step}.",
                        hint="Lower the outer rate (--rate), or the learner's inner rate.",
                    )
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(loss.detach()))
                advance(1, f"loss {losses[-1]:.3f}")
                if (step + 1) % settings.checkpoint_every == 0:
                    saved.save(meta, optimizer, losses)
        except KeyboardInterrupt:
            saved.save(meta, optimizer, losses)
            raise
    saved.remove()
    return TrainResult({key: value.detach() for key, value in meta.items()}, tuple(losses))


def _drawer(sources: Sources, learner: Learner, settings: TrainSettings) -> Callable[[int, int], Any]:
    """A function of (step, place) that returns a prepared episode, from a pool if there is one."""
    model = sources.model.task_model
    pool: dict[int, Any] = {}

    def draw(step: int, place: int) -> Any:
        number = step * settings.episodes + place
        if settings.pool:
            turn, number = divmod(number, settings.pool)
            number = int(generator(settings.seed, "order", turn).permutation(settings.pool)[number])
            if number not in pool:
                pool[number] = learner.prepare(model, source_episode(sources, settings, number))
            return pool[number]
        return learner.prepare(model, source_episode(sources, settings, number))

    return draw


def _run_key(sources: Sources, learner: Learner, settings: TrainSettings, name: str) -> str:
    """A hash of all that a checkpoint's run depends on."""
    rows = [
        part
        for table in sources.tables
        for e in table.examples
        for part in (e.language, e.id, e.label, e.group, e.text)
    ]
    options = json.dumps(dict(sorted(vars(learner).items())), default=str)
    return text_hash(name, options, settings.model_dump_json(), sources.model.encoder.fingerprint, *rows)


def _steps_of(states: Iterable[Mapping[str, Any]]) -> int:
    """How many steps Adam has made, of the parameters that it has stepped."""
    return max((int(state["step"]) for state in states if state), default=0)


class _Checkpoint:
    """Meta-parameters and Adam's state in one safetensors file, with the losses so far."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.key = key

    def save(self, meta: Params, optimizer: torch.optim.Adam, losses: Sequence[float]) -> None:
        # An interrupt between an optimizer's step and its loss leaves the last checkpoint as it is.
        if self.path is None or not losses or _steps_of(optimizer.state.values()) != len(losses):
            return
        tensors: dict[str, Tensor] = {f"meta/{k}": v.detach().contiguous() for k, v in meta.items()}
        for name, value in meta.items():
            for slot, state in optimizer.state[value].items():
                tensors[f"adam/{slot}/{name}"] = state.contiguous()
        with atomic_file(self.path) as beside:
            write_tensors(beside, tensors, {"key": self.key})
        # The losses count the steps, so they are written last: a checkpoint without them is not used.
        write_json(self.path.with_suffix(".json"), {"key": self.key, "losses": list(losses)})

    def restore(self, meta: Params, optimizer: torch.optim.Adam) -> list[float]:
        if self.path is None or not self.path.exists():
            return []
        try:
            state = json.loads(self.path.with_suffix(".json").read_text("utf-8"))
            tensors = load_file(self.path)
            losses = [float(x) for x in state["losses"]]
            key = state["key"]
            steps = max((int(v) for k, v in tensors.items() if k.startswith("adam/step/")), default=0)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return []
        if key != self.key or steps != len(losses):
            return []
        with torch.no_grad():
            for name, value in meta.items():
                value.copy_(tensors[f"meta/{name}"])
                slots = ("step", "exp_avg", "exp_avg_sq")
                state = {s: tensors[f"adam/{s}/{name}"] for s in slots if f"adam/{s}/{name}" in tensors}
                if state:  # a parameter that no loss has reached has none yet
                    optimizer.state[value] = state
        return losses

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(".json").unlink(missing_ok=True)
