"""The prior of tokens, stretches and whole texts beside them: a small network, cross-fitted.

    scores = W GELU(V x + c) + b

learned from the examples of all sources by AdamW on the cross-entropy, with dropout of features and of
the hidden layer. What a token's states say of its label is less linear than what a text's vector says.

Most units have the same label, nothing, and are thinned; that moves nothing but the intercepts, which are
put right (Prentice & Pyke 1979, "Logistic disease incidence models and case-control studies").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from metaglot.prior import HIDDEN, HiddenLayer, Prior, SourceLanguage
from metaglot.prior.cross_fitting import CrossFitting, Part, Scorer, by_block
from metaglot.progress import progress

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 512
"""H, of the hidden layer."""

SHARPNESS = 10.0
"""What the scores have to be multiplied by to be logits; learners begin with such a trust in a prior."""

_EPOCHS = 8
# Where there are few examples they are seen more often: so many steps at least.
_LEAST_STEPS = 300
_BATCH = 256
_RATE, _DECAY, _WARMUP = 1e-3, 0.05, 0.1
_DROPOUT = (0.2, 0.4)  # of features, of the hidden layer
_ROWS = 8192  # scored at once
_TEMPERATURES = tuple(2.0 ** (i / 4) for i in range(-16, 9))


def fit_network(
    languages: Sequence[SourceLanguage],
    widths: Mapping[str, int],
    n_labels: int,
    *,
    parallel: bool,
    log_shares: Tensor,
) -> tuple[Prior, list[Tensor]]:
    """Fit the prior on all source languages, and cross-fit it.

    Args:
        languages: the sources.
        widths: block name → d, in the order of the features' columns.
        n_labels: rows of the label list.
        parallel: one id has the same content in every language.
        log_shares: `[labels]`, the logarithm of the share of each label's examples that is learned from.

    Returns:
        The prior, and for each language the scores `[n, labels]` of networks that saw neither the
        language nor, in a parallel corpus, the contents. Where there is a single language they saw the
        other half of its examples.
    """
    fitting = CrossFitting(languages, parallel=parallel)
    sizes = [len(s.targets) for s in fitting.languages]
    # Blocks come with rows of norm one: columns of variance one are what a network starts well from.
    scale = torch.cat([torch.full((width,), math.sqrt(width)) for width in widths.values()])

    def fitted(rows: Tensor) -> nn.Sequential:
        parts = zip(fitting.languages, torch.split(rows, sizes), strict=True)
        features = torch.cat([language.features[own] for language, own in parts])
        return _trained(features * scale, fitting.targets[rows], n_labels)

    heads: dict[Part, Scorer] = {}
    with progress("learning the prior", len(fitting.parts) + 1) as advance:
        for part in fitting.parts:
            heads[part] = _scorer(fitted(fitting.seen(part)), scale, log_shares)
            advance()
        whole = fitted(fitting.learned)
        advance()
    found = fitting.scores(heads, n_labels)
    # Where all contents are of one half, the networks of the other have nothing to say, and no scale.
    factor = fitting.sharpness(found, _TEMPERATURES) / SHARPNESS
    first, last = _layers(whole)
    bias = last.bias.detach() - log_shares
    hidden = HiddenLayer(by_block(first.weight.detach() * scale, widths), first.bias.detach())
    weights = last.weight.detach()
    prior = Prior(
        {HIDDEN: factor * (weights - weights.mean(0))},
        SHARPNESS,
        penalty=0.0,
        bias=factor * (bias - bias.mean()),
        hidden=hidden,
    )
    return prior, [factor * scores for scores in found]


def _layers(network: nn.Sequential) -> tuple[nn.Linear, nn.Linear]:
    first, last = (layer for layer in network if isinstance(layer, nn.Linear))
    return first, last


def _trained(features: Tensor, targets: Tensor, n_labels: int) -> nn.Sequential:
    """Return the network `[Dropout, Linear, GELU, Dropout, Linear]`, trained; zeros from no example.

    The same examples give the same network, and no random number is drawn that the caller would have.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Dropout(_DROPOUT[0]),
            nn.Linear(features.shape[1], WIDTH),
            nn.GELU(),
            nn.Dropout(_DROPOUT[1]),
            nn.Linear(WIDTH, n_labels),
        )
        if not len(targets):
            for parameter in network[-1].parameters():
                nn.init.zeros_(parameter)
            return network.eval()
        batches = math.ceil(len(targets) / _BATCH)
        epochs = max(_EPOCHS, math.ceil(_LEAST_STEPS / batches))
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _RATE, total_steps=epochs * batches + 1, pct_start=_WARMUP
        )
        with torch.enable_grad():
            for _ in range(epochs):
                for rows in torch.split(torch.randperm(len(targets)), _BATCH):
                    loss = F.cross_entropy(network(features[rows]), targets[rows])
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
    return network.eval()


def _scorer(network: nn.Sequential, scale: Tensor, log_shares: Tensor) -> Scorer:
    """Return features `[n, D]` → centred logits `[n, labels]`."""

    def scores(features: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [network(part * scale) for part in torch.split(features, _ROWS)]
        logits = torch.cat(parts) - log_shares if parts else torch.empty(0, len(log_shares))
        centred: Tensor = logits - logits.mean(1, keepdim=True)
        return centred

    return scores
