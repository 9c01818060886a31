"""A batch as the learners with a linear head see it: blocks of features, of shapes that fit.

Over frozen features the batch's inputs are the features. Over a body that is learned they are what
the body makes of the inputs, so that all that is worked out of them is differentiable in the body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.errors import DataError
from metaglot.learners.base import body_of, check_support
from metaglot.types import Batch, FeatureModel, Params

if TYPE_CHECKING:
    from torch import Tensor

ABSENT = -1e4
"""The logit of a label that nothing is known of: it is never the largest, and no gradient is lost."""


def features_of(model: FeatureModel, meta: Params, batch: Batch) -> Batch:
    """Return the batch with the features `[n, d]` of every block as its inputs.

    Raises:
        DataError: a block is missing, or its shape does not fit the model or the targets.
    """
    features = model.embed(body_of(model, meta), batch)
    for block, width in model.blocks.items():
        if block not in features.inputs:
            raise DataError(
                f"expected blocks of features {', '.join(model.blocks)}, "
                f"found {', '.join(features.inputs) or 'none'}."
            )
        found = tuple(features.inputs[block].shape)
        if found != (len(batch), width):
            raise DataError(
                f"expected features [{len(batch)}, {width}] in block {block!r}, one row for each of "
                f"{len(batch)} targets, found {list(found)}."
            )
    return features


def support_features(model: FeatureModel, meta: Params, support: Batch) -> Batch:
    """Return a support set's features, as `features_of` does.

    Raises:
        DataError: it has no example, one label only, labels out of range or shapes that do not fit.
    """
    check_support(support)
    return features_of(model, meta, support)


def membership(support: Batch) -> tuple[Tensor, Tensor]:
    """Return which label each example has `[n, C]`, ones and zeros, and how many each label has `[C]`."""
    dtype = next(iter(support.inputs.values())).dtype
    member = F.one_hot(support.targets, len(support.classes)).to(dtype)
    return member, member.sum(0)


def class_means(features: Tensor, member: Tensor, count: Tensor) -> Tensor:
    """Return the mean features `[C, d]` of every label's examples; zeros for a label without."""
    means: Tensor = (member.T @ features) / count.clamp(min=1).unsqueeze(-1)
    return means


def projections(model: FeatureModel) -> Params:
    """Return identity projections `[d, d]` of every dense block, `projection.<block>`, to be learned.

    A lexical block has none: its columns mean nothing in another language. Nor has a block that a
    learned body makes, for the body is the projection.
    """
    if model.body:
        return {}
    return {
        PROJECTION + block: torch.eye(width)
        for block, width in model.blocks.items()
        if block not in model.lexical
    }


PROJECTION = "projection."


def projected(meta: Params, block: str, features: Tensor) -> Tensor:
    """Return features `[n, d]` of a block under its learned projection, where it has one."""
    projection = meta.get(PROJECTION + block)
    return features if projection is None else features @ projection.T
