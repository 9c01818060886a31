"""Classification: one label for a text, by one linear head over every feature block.

    logits = Σ_b X_b W_bᵀ + bias + s · prior

X_b is a feature block `[n, d_b]`, W_b the block's weights `[C, d_b]`, `prior` the scores `[n, C]`
of a head that was learned from the other languages, and s (`prior_scale`) how far it is trusted.
Whatever a learner does, what it makes of a language is such a head: it is small, it is explained by
its weights, and any of them is saved, loaded and run alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.errors import SettingsError
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

PRIOR_SCALE = "prior_scale"
BIAS = "bias"


def weight_of(block: str) -> str:
    """Return the name of a block's weights among the head's parameters."""
    return f"weight.{block}"


class Classification:
    """One label per text; a linear head over the feature blocks, softmax, cross-entropy."""

    outputs = "label-scores"
    metrics = ("accuracy", "macro_f1")

    body: frozenset[str] = frozenset()  # the features are frozen

    def __init__(
        self,
        blocks: Mapping[str, int],
        n_labels: int,
        lexical: frozenset[str] = frozenset(),
        groups: tuple[str, ...] = (),
    ) -> None:
        self.blocks = dict(blocks)
        self.n_labels = n_labels
        self.lexical = lexical
        self.groups = groups
        self.head = frozenset([*self.head_names(blocks), BIAS, PRIOR_SCALE])
        self.fixed_start = frozenset(self.head_names(lexical))

    def init(self, n_labels: int) -> Params:
        """Return a head of zeros for `n_labels` labels, with a prior scale of one."""
        head = {weight_of(block): torch.zeros(n_labels, width) for block, width in self.blocks.items()}
        return head | {BIAS: torch.zeros(n_labels), PRIOR_SCALE: torch.ones(())}

    def linear_head(
        self, weights: Mapping[str, Tensor], bias: Tensor | None = None, prior_scale: Tensor | float = 0.0
    ) -> Params:
        """Return a head of block weights `[C, d]`, a bias `[C]` (zero by default) and a prior scale."""
        some = next(iter(weights.values()))
        head = {weight_of(block): some.new_zeros(len(some), width) for block, width in self.blocks.items()}
        head |= {weight_of(block): value for block, value in weights.items()}
        head[BIAS] = some.new_zeros(len(some)) if bias is None else bias
        head[PRIOR_SCALE] = torch.as_tensor(prior_scale, dtype=some.dtype)
        return head

    def head_names(self, blocks: Iterable[str]) -> list[str]:
        """Return the names of the parameters that weigh these blocks."""
        return [weight_of(block) for block in blocks]

    def rows(self, params: Params, classes: Tensor) -> Params:
        """Return the head's rows `classes` `[C]`; a new label's (−1) are zero."""
        known = (classes >= 0).to(params[BIAS].dtype)
        taken = {}
        for name, value in params.items():
            if name == PRIOR_SCALE:
                taken[name] = value
            else:
                rows = value[classes.clamp(min=0)]
                taken[name] = rows * known.reshape(-1, *[1] * (rows.ndim - 1))
        return taken

    def embed(self, params: Params, batch: Batch) -> Batch:
        """Return the batch: its inputs are the features."""
        return batch

    def apply_head(self, params: Params, features: Batch) -> Tensor:
        """Return logits `[n, C]`."""
        return self.forward(params, features)

    def forward(self, params: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`.

        Raises:
            SettingsError: the features do not fit the head; both shapes are named.
        """
        logits = params[BIAS].expand(len(next(iter(batch.inputs.values()))), -1)
        for block in self.blocks:
            weight, features = params[weight_of(block)], batch.inputs[block]
            if features.shape[-1] != weight.shape[-1]:
                raise SettingsError(
                    f"expected features of width {weight.shape[-1]} in block {block!r}, "
                    f"found {features.shape[-1]}.",
                    hint="The head was made for another encoder.",
                )
            logits = logits + features @ weight.T
        if batch.prior is not None:
            logits = logits + params[PRIOR_SCALE] * batch.prior
        return logits

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, a scalar in nats, of logits `[n, C]` for targets `[n]`."""
        return F.cross_entropy(outputs, targets)
