"""One meta-gradient by metaglot, by a hand-written loop, and by other libraries.

Every runner gets a case and returns a function that makes one meta-gradient, name → tensor, of the mean
query loss over the tasks. Other libraries are optional: what is not installed is left out with a note, and
benchmarks/README.md says how to install it. torchopt runs by its functional interface.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from meta_step_cases import Case
from meta_step_parallel import parallel_metalearn
from metaglot.learners.maml import MAML
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.modules import ModuleModel

Step = Callable[[], dict[str, Tensor]]


def metaglot(
    case: Case,
    first_order: bool,
    *,
    precision: str | None = None,
    compile: bool = False,
    **options: object,
) -> Step:
    module, episodes = case.make()
    model = ModuleModel(module, F.cross_entropy, precision=precision, compile=compile)
    learner = MAML(case.steps, case.rate, first_order=first_order, learn_rates="none")
    meta = learner.init(model, torch.Generator())

    def step() -> dict[str, Tensor]:
        _, found = meta_gradient(learner, model, meta, episodes, **options)
        return {name.removeprefix("start."): value for name, value in found.items()}

    return step


def hand(case: Case, first_order: bool) -> Step:
    module, episodes = case.make()
    start = dict(module.named_parameters())

    def step() -> dict[str, Tensor]:
        total = {name: torch.zeros_like(value) for name, value in start.items()}
        with sdpa_kernel(SDPBackend.MATH):
            for episode in episodes:
                params = start
                for _ in range(case.steps):
                    logits = functional_call(module, params, (episode.support.inputs["x"],))
                    loss = F.cross_entropy(logits, episode.support.targets)
                    found = torch.autograd.grad(loss, list(params.values()), create_graph=not first_order)
                    params = {n: v - case.rate * g for (n, v), g in zip(params.items(), found, strict=True)}
                logits = functional_call(module, params, (episode.query.inputs["x"],))
                loss = F.cross_entropy(logits, episode.query.targets) / len(episodes)
                found = torch.autograd.grad(loss, list(start.values()))
                for whole, gradient in zip(total.values(), found, strict=True):
                    whole.add_(gradient)
        return total

    return step


def _by_backward(case: Case, adapted: Callable[..., object]) -> Step:
    """A runner of a library whose inner loop leaves gradients in the module's `.grad`."""
    module, episodes = case.make()

    def step() -> dict[str, Tensor]:
        module.zero_grad()
        for episode in episodes:
            adapted(module, episode, len(episodes))
        return {name: value.grad.clone() for name, value in module.named_parameters()}

    return step


def higher(case: Case, first_order: bool) -> Step:
    import higher as library

    def adapted(module, episode, count):
        optimizer = torch.optim.SGD(module.parameters(), lr=case.rate)
        with library.innerloop_ctx(
            module, optimizer, copy_initial_weights=False, track_higher_grads=not first_order
        ) as (functional, inner):
            for _ in range(case.steps):
                inner.step(F.cross_entropy(functional(episode.support.inputs["x"]), episode.support.targets))
            loss = F.cross_entropy(functional(episode.query.inputs["x"]), episode.query.targets) / count
            if not first_order:
                loss.backward()
                return
            # First order: the gradient at the end is the gradient at the start.
            found = torch.autograd.grad(loss, list(functional.fast_params))
            for value, gradient in zip(module.parameters(), found, strict=True):
                value.grad = gradient if value.grad is None else value.grad + gradient

    return _by_backward(case, adapted)


def torchopt(case: Case, first_order: bool) -> Step:
    import torchopt as library

    def adapted(module, episode, count):
        start = dict(module.named_parameters())
        optimizer = library.sgd(case.rate)
        params, state = start, optimizer.init(start)
        for _ in range(case.steps):
            logits = functional_call(module, params, (episode.support.inputs["x"],))
            loss = F.cross_entropy(logits, episode.support.targets)
            found = torch.autograd.grad(loss, list(params.values()), create_graph=not first_order)
            gradients = dict(zip(params, found, strict=True))
            updates, state = optimizer.update(gradients, state, inplace=False)
            params = library.apply_updates(params, updates, inplace=False)
        loss = F.cross_entropy(
            functional_call(module, params, (episode.query.inputs["x"],)), episode.query.targets
        )
        (loss / count).backward()

    return _by_backward(case, adapted)


def iteryne(case: Case, first_order: bool) -> Step:
    import iteryne as library

    def adapted(module, episode, count):
        maml = library.MAML(module, inner_lr=case.rate, inner_steps=case.steps, first_order=first_order)
        learner = maml.clone()
        learner.adapt_on(F.cross_entropy, episode.support.inputs["x"], episode.support.targets)
        (F.cross_entropy(learner(episode.query.inputs["x"]), episode.query.targets) / count).backward()

    return _by_backward(case, adapted)


def learn2learn(case: Case, first_order: bool) -> Step:
    library = _learn2learn()

    def adapted(module, episode, count):
        maml = library.MAML(module, lr=case.rate, first_order=first_order)
        learner = maml.clone()
        for _ in range(case.steps):
            learner.adapt(F.cross_entropy(learner(episode.support.inputs["x"]), episode.support.targets))
        (F.cross_entropy(learner(episode.query.inputs["x"]), episode.query.targets) / count).backward()

    return _by_backward(case, adapted)


def _learn2learn() -> types.ModuleType:
    """Its MAML, by file: the package's own import wants gym and torchvision."""
    root = Path(os.environ["LEARN2LEARN"]) if "LEARN2LEARN" in os.environ else None
    if root is None:
        raise ImportError("LEARN2LEARN is not set to a checkout")
    for name, folder in (("learn2learn", root / "learn2learn"), ("learn2learn.algorithms", None)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder or root / "learn2learn" / "algorithms")]
        sys.modules.setdefault(name, package)
    for name in ("utils", "algorithms.base_learner", "algorithms.maml"):
        path = root / "learn2learn" / (name.replace(".", "/") + ".py")
        path = path if path.exists() else root / "learn2learn" / name / "__init__.py"
        full = f"learn2learn.{name}"
        if full not in sys.modules:
            spec = importlib.util.spec_from_file_location(full, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[full] = module
            setattr(sys.modules[full.rpartition(".")[0]], full.rpartition(".")[2], module)
            spec.loader.exec_module(module)
    return sys.modules["learn2learn.algorithms.maml"]


def vmap_of_grad(case: Case, first_order: bool) -> Step:
    """All tasks by vmap over torch.func.grad, as parallel-metalearn has it."""
    module, episodes = case.make()
    start = dict(module.named_parameters())
    stacked = [
        torch.stack(
            [
                getattr(getattr(e, part), kind)["x"] if kind == "inputs" else getattr(getattr(e, part), kind)
                for e in episodes
            ]
        )
        for part in ("support", "query")
        for kind in ("inputs", "targets")
    ]

    def loss(params, x, y):
        return F.cross_entropy(functional_call(module, params, (x,)), y)

    def of_task(params, x, y, query_x, query_y):
        for _ in range(case.steps):
            found = grad(loss)(params, x, y)
            if first_order:
                found = {n: g.detach() for n, g in found.items()}
            params = {n: v - case.rate * found[n] for n, v in params.items()}
        return loss(params, query_x, query_y)

    def step() -> dict[str, Tensor]:
        with sdpa_kernel(SDPBackend.MATH):
            losses = vmap(of_task, in_dims=(None, 0, 0, 0, 0))(start, *stacked)
            found = torch.autograd.grad(losses.mean(), list(start.values()))
        return dict(zip(start, found, strict=True))

    return step


def metaglot_modes(threads: int) -> dict[str, Callable[[Case, bool], Step]]:
    """Return metaglot's ways of making the same gradient."""
    return {
        "metaglot": metaglot,
        f"metaglot, threads={threads}": lambda c, f: metaglot(c, f, threads=threads),
        "metaglot, chunk=1": lambda c, f: metaglot(c, f, chunk=1),
        "metaglot, chunk=1, recompute": lambda c, f: metaglot(c, f, chunk=1, recompute=True),
        "metaglot, compiled": lambda c, f: metaglot(c, f, compile=True, chunk=1),
        "metaglot, bfloat16": lambda c, f: metaglot(c, f, precision="bfloat16"),
        f"metaglot, bfloat16, threads={threads}": lambda c, f: metaglot(
            c, f, precision="bfloat16", threads=threads
        ),
    }


PEERS: dict[str, Callable[[Case, bool], Step]] = {
    "hand-written loop": hand,
    "torchopt": torchopt,
    "higher": higher,
    "learn2learn": learn2learn,
    "iteryne": iteryne,
    "parallel-metalearn": parallel_metalearn,
    "vmap of torch.func.grad": vmap_of_grad,
}
INEXACT = ("vmap of torch.func.grad", "parallel-metalearn", "bfloat16")
"""What does not count as an exact peer: wrong through LayerNorm, or of less precision on purpose."""
