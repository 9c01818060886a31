"""One meta-gradient by parallel-metalearn (its module is `metalearn`): vmap over `torch.func.grad`.

Its MAML takes a backbone and a head that both accept its options, stacked tasks, and an optimizer that
steps in the same call; a rate of zero leaves the parameters, and their gradients, where they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from meta_step_cases import Case


class _Plain(nn.Module):
    """A module that takes the library's options and needs none of them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, **options: object) -> Tensor:
        return self.module(x)


def parallel_metalearn(
    case: Case, first_order: bool, *, chunk: int | None = None
) -> Callable[[], dict[str, Tensor]]:
    """Return a function that makes one meta-gradient, with `chunk` tasks at once, or all."""
    from metalearn.algorithms import MAML
    from metalearn.inner_optimizers import InnerSGD
    from metalearn.loss import CategoricalAccuracy, CrossEntropy
    from metalearn.model_wrappers import MAML_Model

    module, episodes = case.make()
    model = MAML_Model(backbone=_Plain(module), head=_Plain(nn.Identity()))
    inner = InnerSGD(
        model.get_fast_weights(),
        first_order=first_order,
        inner_lr=case.rate,
        max_inner_steps=case.steps,
        learn_lr=False,
    )
    algorithm = MAML(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        inner_optimizer=inner,
        support_loss_fn=CrossEntropy(metric_fn=CategoricalAccuracy()),
        inner_steps=case.steps,
        chunk_size=chunk or len(episodes),
        device=torch.device("cpu"),
    )
    tasks = (
        torch.stack([e.support.inputs["x"] for e in episodes]),
        {"labels": torch.stack([e.support.targets for e in episodes])},
        torch.stack([e.query.inputs["x"] for e in episodes]),
        {"labels": torch.stack([e.query.targets for e in episodes])},
    )

    def step() -> dict[str, Tensor]:
        algorithm.step(iter([tasks]), training=True)
        return {name: value.grad.clone() for name, value in module.named_parameters()}

    return step
