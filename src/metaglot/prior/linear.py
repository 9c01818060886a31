"""The prior of texts: penalised logistic regression on the sources, cross-fitted.

    W = argmin Σ_i −log softmax(W x_i)_{y_i} + λ/2 ‖W‖²

over the examples i of all sources, each language's features centred on its own mean, so that W learns
what tells labels apart and not what tells languages apart.

λ is the one whose cross-fitted scores, calibrated, give the labels of left-out languages the highest
likelihood. Where few contents stand in many languages it is much larger than the number of examples
would have it. The head that is learned from all examples keeps its share beside theirs: λ grows as their
number does, by a quarter where a fifth of the languages is left out, and twice as much where half of the
contents is too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.learners.closed_form import best_sharpness, mean_log_likelihood, one_hot
from metaglot.prior import Prior, SourceLanguage
from metaglot.prior.cross_fitting import CrossFitting, Part, by_block, own_labels
from metaglot.progress import progress

if TYPE_CHECKING:
    from torch import Tensor

_Heads = dict[Part, "Tensor"]
# What λ is chosen from, the strongest first: each solution is the start of the next.
PENALTIES: tuple[float, ...] = (100.0, 56.0, 30.0, 18.0, 10.0, 5.6, 3.0, 1.8, 1.0, 0.3)
# After so many weaker ones in a row that are worse than the best, the others are not tried.
_PATIENCE = 2
# It is chosen on so many of the folds.
_JUDGED_FOLDS = 2
_ITERATIONS = 60
# Of logits, to be calibrated.
_SHARPNESSES = tuple(2.0 ** (i / 2) for i in range(-6, 9))


def fit_linear(
    languages: Sequence[SourceLanguage],
    widths: Mapping[str, int],
    n_labels: int,
    *,
    parallel: bool,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[Prior, list[Tensor]]:
    """Fit the prior on all source languages, and cross-fit it.

    Args:
        languages: the sources.
        widths: block name → d, in the order of the features' columns.
        n_labels: rows of the label list.
        parallel: one id has the same content in every language.
        penalties: what λ is chosen from, the strongest first.

    Returns:
        The prior, and for each language the scores `[n, labels]` of heads that saw neither the
        language nor, in a parallel corpus, the contents. Where there is a single language they
        saw the other half of its examples.
    """
    fitting = CrossFitting(languages, parallel=parallel)
    centred = torch.cat([s.features - s.features.mean(0) for s in fitting.languages])
    learned, targets = fitting.learned, fitting.targets

    def fitted(part: Part, penalty: float, start: Tensor | None = None) -> Tensor:
        return _logistic(centred[rows := fitting.seen(part)], targets[rows], n_labels, penalty, start)

    judged = [part for part in fitting.parts if part[0] < _JUDGED_FOLDS]
    with progress("learning the prior", len(fitting.parts) + 1) as advance:
        penalty, heads = _chosen(
            lambda latest, candidate: {p: fitted(p, candidate, latest.get(p)) for p in judged},
            lambda found: _likelihood(found, fitting),
            penalties,
        )
        advance(len(judged))
        for part in fitting.parts[len(judged) :]:
            heads[part] = fitted(part, penalty)
            advance()
        size = sum(int(fitting.seen(part).sum()) for part in judged) / len(judged)
        growth = int(learned.sum()) / max(size, 1.0)
        whole = _logistic(centred[learned], targets[learned], n_labels, penalty * growth)
        advance()
    found = fitting.scores({part: _head(weights) for part, weights in heads.items()}, n_labels)
    slope = _slope(found, fitting.languages, n_labels)
    found = [slope * scores for scores in found]
    return Prior(by_block(slope * whole, widths), fitting.sharpness(found), penalty), found


def _head(weights: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda features: features @ weights.T


def _chosen(
    fit: Callable[[_Heads, float], _Heads], likelihood: Callable[[_Heads], float], penalties: Sequence[float]
) -> tuple[float, _Heads]:
    """Return the penalty whose heads are likeliest, and those heads.

    Args:
        fit: (the heads of the penalty before, to start from; a penalty) → its heads.
        likelihood: of heads.
        penalties: the strongest first. The weaker, the longer a fit takes.
    """
    found, latest, worse = None, _Heads(), 0
    for penalty in penalties:
        latest = fit(latest, penalty)
        value = likelihood(latest)
        if found is None or value > found[0]:
            found, worse = (value, penalty, latest), 0
        else:
            worse += 1
        if worse == _PATIENCE:
            break
    assert found is not None, "there is a penalty"
    return found[1], found[2]


def _logistic(
    features: Tensor, targets: Tensor, n_labels: int, penalty: float, start: Tensor | None = None
) -> Tensor:
    """Return the weights `[labels, D]` of penalised multinomial logistic regression (L-BFGS).

    They are zero where there is nothing to learn from: of few contents, all may be in one half.
    """
    weights = torch.zeros(n_labels, features.shape[1]) if start is None else start.clone()
    if not len(targets):
        return weights
    weights.requires_grad_()
    solver = torch.optim.LBFGS(
        [weights], max_iter=_ITERATIONS, tolerance_change=1e-8, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(features @ weights.T, targets)
        loss = loss + penalty / 2 / len(targets) * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach() - weights.detach().mean(0)


def _likelihood(heads: _Heads, fitting: CrossFitting) -> float:
    """Return the mean over languages of the log-likelihood of labels under heads that saw none of them."""
    scores, targets = [], []
    for part, weights in heads.items():
        for place, rows in fitting.judged(part):
            source = fitting.languages[place]
            scores.append(own_labels(source.features[rows] @ weights.T, source))
            targets.append(source.targets[rows])
    sharpness = best_sharpness(torch.cat(scores), torch.cat(targets), _SHARPNESSES)
    some = [(s, t) for s, t in zip(scores, targets, strict=True) if len(t)]
    return sum(float(mean_log_likelihood(s, t, sharpness)) for s, t in some) / len(some)


def _slope(found: Sequence[Tensor], languages: Sequence[SourceLanguage], n_labels: int) -> float:
    """The factor that makes scores the best least-squares guess of centred one-hot targets."""
    agree, size = 0.0, 0.0
    for scores, source in zip(found, languages, strict=True):
        agree += float((scores * one_hot(source.targets, n_labels)).sum())
        size += float(scores.square().sum())
    return max(agree / size, 1e-3) if size > 0 else 1.0
