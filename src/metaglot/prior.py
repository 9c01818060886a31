"""The prior: a head learned from the source languages, and what it would say of each without it.

    W = argmin Σ_i −log softmax(W x_i)_{y_i} + λ/2 ‖W‖²

over the examples i of all sources, each language's features centred on its own mean, so that W
learns what tells labels apart and not what tells languages apart. It is cross-fitted: a language's
scores in training come from a head that was learned without it, as they will for a new language.
(Scores of a head on its own training languages look far too good, and a learner that meets them
learns to ignore the support set.) In a parallel corpus the head that judges one half of the contents
is learned from the other half.

λ is the one whose cross-fitted scores, calibrated, give the labels of left-out languages the highest
likelihood. Where few contents stand in many languages it is much larger than the number of examples
would have it. The head that is learned from all examples keeps its share beside theirs: λ grows as their
number does, by a quarter where a fifth of the languages is left out, and twice as much where half of the
contents is too. Where the head has a bias only the latter case counts: without it trees in two held-out
languages were three points worse from fifty sentences, and with the former names in five were one worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.learners.closed_form import best_sharpness, mean_log_likelihood, one_hot
from metaglot.progress import progress

if TYPE_CHECKING:
    from torch import Tensor

_Heads = dict[tuple[int, int | None], "Tensor"]  # (fold, half of the contents or None) → weights
# What λ is chosen from, the strongest first: each solution is the start of the next.
PENALTIES: tuple[float, ...] = (100.0, 56.0, 30.0, 18.0, 10.0, 5.6, 3.0, 1.8, 1.0, 0.3)
# After so many weaker ones in a row that are worse than the best, the others are not tried.
_PATIENCE = 2
# It is chosen on so many of the folds.
_JUDGED_FOLDS = 2
# Every fold leaves out this share of the source languages (a single language, where there are few).
FOLDS = 5
_ITERATIONS = 60
# Of logits, to be calibrated.
_SHARPNESSES = tuple(2.0 ** (i / 2) for i in range(-6, 9))


@dataclass(frozen=True)
class Prior:
    """A zero-shot head.

    Attributes:
        weights: block name → `[C, d]`, a row per label of the model's list. They are scaled so that
            scores regress on centred one-hot targets, which is what ridge heads are anchored to.
        sharpness: what the scores are multiplied by to be calibrated logits.
        penalty: λ of the heads that leave languages out, as it was chosen.
        bias: `[C]`, how frequent labels are; None where support sets do not say how frequent they are.
    """

    weights: Mapping[str, Tensor]
    sharpness: float
    penalty: float = 1.0
    bias: Tensor | None = None

    def scores(self, inputs: Mapping[str, Tensor], classes: Tensor) -> Tensor:
        """Return scores `[n, C]` of the labels `classes`; a label unknown to the sources scores 0."""
        every = torch.stack([inputs[block] @ weight.T for block, weight in self.weights.items()]).sum(0)
        if self.bias is not None:
            every = every + self.bias
        return take_labels(every, classes)


def take_labels(scores: Tensor, classes: Tensor) -> Tensor:
    """Return the columns `classes` `[C]` of scores `[n, labels]`, zeros for −1."""
    return scores[:, classes.clamp(min=0)] * (classes >= 0)


@dataclass(frozen=True)
class SourceLanguage:
    """One source language's examples.

    Attributes:
        features: `[n, D]`, the blocks that mean something across languages, side by side.
        targets: `[n]`, rows of the label list.
        halves: `[n]`, 0 or 1: which half of a parallel corpus's contents an example is of.
        labels: the rows of the label list that the language has.
        learned: `[n]`, bool: which examples are learned from; all where None.
    """

    features: Tensor
    targets: Tensor
    halves: Tensor
    labels: Tensor
    learned: Tensor | None = None


def fit_prior(
    languages: Sequence[SourceLanguage],
    widths: Mapping[str, int],
    n_labels: int,
    *,
    parallel: bool,
    penalties: Sequence[float] = PENALTIES,
    log_shares: Tensor | None = None,
) -> tuple[Prior, list[Tensor]]:
    """Fit the prior on all source languages, and cross-fit it.

    Args:
        languages: the sources.
        widths: block name → d, in the order of the features' columns.
        n_labels: rows of the label list.
        parallel: one id has the same content in every language.
        penalties: what λ is chosen from, the strongest first.
        log_shares: `[labels]`, the logarithm of the share of each label's examples that is learned from.
            Where it is given, the head has a bias, as frequent as labels are before that choice (Prentice &
            Pyke 1979: sampling by label moves nothing but the intercept). None for a head without.

    Returns:
        The prior, and for each language the scores `[n, labels]` of heads that saw neither the
        language nor, in a parallel corpus, the contents. Where there is a single language they
        saw the other half of its examples.
    """
    if len(languages) == 1 and not parallel:
        # There is no other language to learn from: one half of the examples judges the other.
        alternate = torch.arange(len(languages[0].targets)) % 2
        languages = [replace(languages[0], halves=alternate)]
        parallel = True
    languages = [_with_column(s) if log_shares is not None else s for s in languages]
    centred = torch.cat([_centred(s, log_shares is not None) for s in languages])
    learned = torch.cat(
        [torch.ones_like(s.targets, dtype=torch.bool) if s.learned is None else s.learned for s in languages]
    )
    targets = torch.cat([s.targets for s in languages])
    halves = torch.cat([s.halves for s in languages])
    folds = min(FOLDS, len(languages))
    fold = torch.cat([torch.full_like(s.targets, i % folds) for i, s in enumerate(languages)])
    sides = (0, 1) if parallel else (None,)
    parts = [(number, side) for number in range(folds) for side in sides]

    def seen(number: int, side: int | None) -> Tensor:
        rows = learned if folds == 1 else learned & (fold != number)
        return rows if side is None else rows & (halves != side)

    def fitted(part: tuple[int, int | None], penalty: float, start: Tensor | None = None) -> Tensor:
        return _logistic(centred[rows := seen(*part)], targets[rows], n_labels, penalty, start)

    def corrected(weights: Tensor) -> Tensor:
        if log_shares is None:
            return weights
        bias = weights[:, -1:] - log_shares[:, None]
        return torch.cat([weights[:, :-1], bias], dim=1)

    judged = [part for part in parts if part[0] < _JUDGED_FOLDS]
    with progress("learning the prior", len(parts) + 1) as advance:
        penalty, heads = _chosen(
            lambda latest, candidate: {p: fitted(p, candidate, latest.get(p)) for p in judged},
            lambda found: _likelihood({p: corrected(w) for p, w in found.items()}, languages, folds),
            penalties,
        )
        heads = {part: corrected(weights) for part, weights in heads.items()}
        advance(len(judged))
        for part in parts[len(judged) :]:
            heads[part] = corrected(fitted(part, penalty))
            advance()
        size = sum(int(seen(*part).sum()) for part in judged) / len(judged)
        growth = int(learned.sum()) / max(size, 1.0) if parallel or log_shares is None else 1.0
        whole = corrected(_logistic(centred[learned], targets[learned], n_labels, penalty * growth))
        advance()
    found = [torch.empty(len(s.targets), n_labels) for s in languages]
    for (number, side), weights in heads.items():
        for place in range(number, len(languages), folds):
            source = languages[place]
            own = source.halves == side if side is not None else slice(None)
            found[place][own] = source.features[own] @ weights.T
    slope = _slope(found, languages, n_labels)
    found = [slope * scores for scores in found]
    pooled = torch.cat([_own_labels(scores, s) for scores, s in zip(found, languages, strict=True)])
    bias = None if log_shares is None else slope * (whole[:, -1] - whole[:, -1].mean())
    split = torch.split(slope * whole[:, : sum(widths.values())], list(widths.values()), dim=1)
    blocks = {name: part.contiguous() for name, part in zip(widths, split, strict=True)}
    return Prior(blocks, best_sharpness(pooled, targets), penalty, bias), found


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


def _with_column(source: SourceLanguage) -> SourceLanguage:
    """Return a language with a column of ones behind its features, for the bias."""
    return replace(source, features=F.pad(source.features, (0, 1), value=1.0))


def _centred(source: SourceLanguage, bias: bool) -> Tensor:
    centred = source.features - source.features.mean(0)
    if bias:
        centred[:, -1] = 1.0
    return centred


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


def _likelihood(
    heads: Mapping[tuple[int, int | None], Tensor], languages: Sequence[SourceLanguage], folds: int
) -> float:
    """Return the mean over languages of the log-likelihood of labels under heads that saw none of them.

    Args:
        heads: (fold, half of the contents or None) → weights `[labels, D]`.
        languages: all of them, in order; those of the heads' folds are judged.
        folds: how many there are.
    """
    scores, targets = [], []
    for (number, side), weights in heads.items():
        for source in languages[number::folds]:
            rows = source.halves == side if side is not None else slice(None)
            scores.append(_own_labels(source.features[rows] @ weights.T, source))
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


def _own_labels(scores: Tensor, source: SourceLanguage) -> Tensor:
    """Scores where labels that the language does not have are out of the question."""
    absent = torch.ones(scores.shape[1], dtype=torch.bool)
    absent[source.labels] = False
    return scores.masked_fill(absent, -1e3)
