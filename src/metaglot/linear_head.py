"""A linear head over blocks of features: what every adaptation of a `FeatureModel` is.

    logits = Σ_b X_b W_bᵀ + bias + s · prior

X_b is a feature block `[n, d_b]`, W_b the block's weights `[C, d_b]`, `prior` the scores `[n, C]`
of a head that was learned from the other languages, and s (`prior_scale`) how far it is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from metaglot.errors import SettingsError
from metaglot.types import Batch, Params

if TYPE_CHECKING:
    from torch import Tensor

PRIOR_SCALE = "prior_scale"
BIAS = "bias"


def weight_of(block: str) -> str:
    """Return the name of a block's weights among the head's parameters."""
    return f"weight.{block}"


class LinearHead:
    """The head's parameters and logits.

    Args:
        blocks: block name → its width d.
    """

    def __init__(self, blocks: Mapping[str, int]) -> None:
        self.blocks = dict(blocks)
        self.names = frozenset([*self.names_of(blocks), BIAS, PRIOR_SCALE])

    def names_of(self, blocks: Iterable[str]) -> list[str]:
        """Return the names of the parameters that weigh these blocks."""
        return [weight_of(block) for block in blocks]

    def init(self, n_labels: int) -> Params:
        """Return a head of zeros for `n_labels` labels, with a prior scale of one."""
        head = {weight_of(block): torch.zeros(n_labels, width) for block, width in self.blocks.items()}
        return head | {BIAS: torch.zeros(n_labels), PRIOR_SCALE: torch.ones(())}

    def make(
        self, weights: Mapping[str, Tensor], bias: Tensor | None = None, prior_scale: Tensor | float = 0.0
    ) -> Params:
        """Return a head of block weights `[C, d]`, a bias `[C]` (zero by default) and a prior scale."""
        some = next(iter(weights.values()))
        head = {weight_of(block): some.new_zeros(len(some), width) for block, width in self.blocks.items()}
        head |= {weight_of(block): value for block, value in weights.items()}
        head[BIAS] = some.new_zeros(len(some)) if bias is None else bias
        head[PRIOR_SCALE] = torch.as_tensor(prior_scale, dtype=some.dtype, device=some.device)
        return head

    def rows(self, params: Params, classes: Tensor) -> Params:
        """Return the rows `classes` `[C]` of the head among `params`; a new label's (−1) are zero."""
        taken = {}
        for name, value in params.items():
            if name not in self.names or name == PRIOR_SCALE:
                taken[name] = value
            elif len(value) == 0:
                taken[name] = value.new_zeros(len(classes), *value.shape[1:])
            else:
                known = (classes >= 0).to(value.dtype).reshape(-1, *[1] * (value.ndim - 1))
                taken[name] = value[classes.clamp(min=0)] * known
        return taken

    def logits(self, params: Params, batch: Batch) -> Tensor:
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
