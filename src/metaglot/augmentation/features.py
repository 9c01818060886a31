"""Augmentation after the encoder: columns of features that are dropped, and examples that are mixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from metaglot.types import Batch, Episode


def drop_columns(episode: Episode, share: float, chance: np.random.Generator) -> Episode:
    """Return an episode in which columns of every block are zero, the same in support and query.

    So a learner cannot lean on single features (Srivastava et al. 2014). The other columns are divided
    by 1 − `share`, which keeps what inner products are on average. Scores of the prior stay.

    Args:
        episode: support and query of one task.
        share: the chance of a column, from 0 to below 1.
        chance: what they are drawn by.
    """
    kept = {
        name: torch.from_numpy((chance.random(block.shape[-1]) >= share) / (1 - share)).to(block.dtype)
        for name, block in episode.support.inputs.items()
    }

    def dropped(batch: Batch) -> Batch:
        return replace(batch, inputs={name: block * kept[name] for name, block in batch.inputs.items()})

    return replace(episode, support=dropped(episode.support), query=dropped(episode.query))


def mix_labels(batch: Batch, a: float, chance: np.random.Generator) -> Batch:
    """Return a batch each of whose examples is mixed with another one of its own label.

        x̃_i = λ_i x_i + (1 − λ_i) x_j,    λ_i ~ Beta(a, a),    y_j = y_i

    for the features and for the scores of the prior, as in mixup (Zhang et al. 2018, eq. 1) and manifold
    mixup (Verma et al. 2019, sec. 2), but within a label, so that labels stay hard. A label's only
    example stays as it is.

    Args:
        batch: a support set `[n]`.
        a: of the Beta distribution, above 0: the smaller, the nearer λ is to 0 or 1.
        chance: what partners and λ are drawn by.
    """
    targets = batch.targets.numpy()
    partners = np.arange(len(targets))
    for label in np.unique(targets):
        rows = chance.permutation(np.flatnonzero(targets == label))
        partners[rows] = np.roll(rows, 1)
    shares = torch.from_numpy(chance.beta(a, a, len(targets)).astype(np.float32)).unsqueeze(1)
    others = torch.from_numpy(partners)

    def mixed(block: torch.Tensor) -> torch.Tensor:
        return torch.lerp(block[others], block, shares.to(block.dtype))

    return replace(
        batch,
        inputs={name: mixed(block) for name, block in batch.inputs.items()},
        prior=None if batch.prior is None else mixed(batch.prior),
    )
