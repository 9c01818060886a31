"""The model that learners adapt, whatever the kind: one linear head over every feature block.

    logits = Σ_b X_b W_bᵀ + bias + s · prior

as `metaglot.linear_head` has it. Whatever a learner does, what it makes of a language is such a head:
it is small, it is explained by its weights, and any of them is saved, loaded and run alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch.nn.functional as F

from metaglot.linear_head import LinearHead
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor


class LabelScores:
    """Scores of labels for rows of features: a linear head over the blocks, softmax, cross-entropy.

    Args:
        blocks: block name → its width d.
        n_labels: rows of the label list.
        lexical: the blocks that mean nothing across languages.
        groups: names of the groups of tasks, such as language families.
        prior_has_bias: whether the prior's scores say how frequent labels are.
    """

    outputs = "label-scores"
    body: frozenset[str] = frozenset()  # the features are frozen

    def __init__(
        self,
        blocks: Mapping[str, int],
        n_labels: int,
        lexical: frozenset[str] = frozenset(),
        groups: tuple[str, ...] = (),
        *,
        prior_has_bias: bool = False,
    ) -> None:
        self.blocks = dict(blocks)
        self.n_labels = n_labels
        self.lexical = lexical
        self.groups = groups
        self.prior_has_bias = prior_has_bias
        self._head = LinearHead(blocks)
        self.head = self._head.names
        self.fixed_start = frozenset(self._head.names_of(lexical))

    def init(self, n_labels: int) -> Params:
        """Return a head of zeros for `n_labels` labels, with a prior scale of one."""
        return self._head.init(n_labels)

    def linear_head(
        self, weights: Mapping[str, Tensor], bias: Tensor | None = None, prior_scale: Tensor | float = 0.0
    ) -> Params:
        """Return a head of block weights `[C, d]`, a bias `[C]` (zero by default) and a prior scale."""
        return self._head.make(weights, bias, prior_scale)

    def head_names(self, blocks: Iterable[str]) -> list[str]:
        """Return the names of the parameters that weigh these blocks."""
        return self._head.names_of(blocks)

    def rows(self, params: Params, classes: Tensor) -> Params:
        """Return the head's rows `classes` `[C]`; a new label's (−1) are zero."""
        return self._head.rows(params, classes)

    def embed(self, params: Params, batch: Batch) -> Batch:
        """Return the batch: its inputs are the features."""
        return batch

    def apply_head(self, params: Params, features: Batch) -> Tensor:
        """Return logits `[n, C]`."""
        return self._head.logits(params, features)

    def forward(self, params: Params, batch: Batch) -> Tensor:
        """Return logits `[n, C]`.

        Raises:
            SettingsError: the features do not fit the head; both shapes are named.
        """
        return self._head.logits(params, batch)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, a scalar in nats, of logits `[n, C]` for targets `[n]`."""
        return F.cross_entropy(outputs, targets)
