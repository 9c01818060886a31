"""Augmentation after the encoder: columns dropped, examples mixed, priors spoilt."""

from __future__ import annotations

from collections.abc import Sequence
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


def spoil_prior(
    episode: Episode, noise: float, blocks: Sequence[str], chance: np.random.Generator
) -> Episode:
    """Return an episode whose prior is a worse one: a random head is added to the one it is of.

        prior(x) + σ s_prior / s_R · Σ_b x_b R_b,    R_b ~ N(0, 1) of [d_b, C]

    with s the deviations of the scores over support and query. The same R makes both, so the prior is
    wrong in the same way in both, as one is whose encoder knows little of a language. Sources seldom have
    such a prior, for they are languages that the encoder knows; a learner that is to find out from the
    support set how far to trust one has to meet both (domain randomisation: Tobin et al. 2017).

    Args:
        episode: support and query of one task. Without a prior, or with one that says nothing, it is
            returned as it is, and so is one without features that differ.
        noise: σ, above 0.
        blocks: the blocks that the prior is a head of.
        chance: what R is drawn by.
    """
    sides = (episode.support, episode.query)
    if any(side.prior is None for side in sides):
        return episode
    # A label that is new to the sources has no scores to be spoilt.
    known = (episode.support.classes >= 0).float()
    found = torch.zeros(sum(len(side) for side in sides), len(known))
    for name in blocks:
        block = torch.cat([side.inputs[name] for side in sides])
        head = chance.standard_normal((block.shape[1], len(known)), dtype=np.float32)
        found += block.float() @ torch.from_numpy(head)
    found = (found - (found @ known / known.sum().clamp(min=1)).unsqueeze(1)) * known
    prior = torch.cat([side.prior for side in sides if side.prior is not None])
    deviation = found.std()
    if not deviation > 0:
        return episode
    spoilt = prior + noise * prior.std() / deviation * found
    support, query = torch.split(spoilt, [len(side) for side in sides])
    return replace(
        episode,
        support=replace(episode.support, prior=support),
        query=replace(episode.query, prior=query),
    )
