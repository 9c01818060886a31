"""The prior: what it says of a source language comes from the other ones."""

import pytest
import torch
import torch.nn.functional as F

from metaglot import prior as prior_module
from metaglot.evaluation.metrics import calibration_error
from metaglot.prior import FOLDS, PENALTIES, SourceLanguage, fit_prior, take_labels

WIDTHS = {"dense": 6, "more": 2}
N_LABELS = 3


def languages(count=4, n=24, seed=0, noise=0.8, **_):
    """Languages whose labels have the same directions and whose features have their own shifts."""
    chance = torch.Generator().manual_seed(seed)
    directions = torch.randn(N_LABELS, 8, generator=chance)
    made = []
    for _ in range(count):
        targets = torch.arange(n) % N_LABELS
        features = directions[targets] + torch.randn(8, generator=chance)
        features = (features + noise * torch.randn(n, 8, generator=chance)) / 3
        made.append(
            SourceLanguage(features, targets, torch.arange(n) // N_LABELS % 2, torch.arange(N_LABELS))
        )
    return made


def changed(source, rows):
    """A language with other labels at `rows`."""
    targets = torch.where(rows, (source.targets + 1) % N_LABELS, source.targets)
    return SourceLanguage(source.features, targets, source.halves, source.labels)


PENALTY = 1.0


def fit(made, parallel=False):
    """Fit with one penalty: which one is chosen is the one thing that all labels decide."""
    return fit_prior(made, WIDTHS, N_LABELS, parallel=parallel, penalties=[PENALTY])


def same_up_to_scale(one, other):
    """One positive factor, common to all languages, sets the scores' scale; it knows no label."""
    return torch.allclose(F.normalize(one.flatten(), dim=0), F.normalize(other.flatten(), dim=0), atol=1e-6)


@pytest.mark.parametrize("count", [2, 4, FOLDS + 2])
@pytest.mark.parametrize("parallel", [False, True])
def test_a_languages_own_labels_do_not_reach_its_scores(count, parallel):
    made = languages(count)
    _, before = fit(made, parallel)
    for place in range(count):
        every = torch.ones(24, dtype=torch.bool)
        shuffled = [changed(s, every) if i == place else s for i, s in enumerate(made)]
        _, after = fit(shuffled, parallel)
        assert same_up_to_scale(before[place], after[place])
        others = [i for i in range(count) if i % FOLDS != place % FOLDS]
        assert not any(same_up_to_scale(before[i], after[i]) for i in others)


def test_in_a_parallel_corpus_no_content_is_judged_by_a_head_that_learned_from_it():
    made = languages()
    _, before = fit(made, parallel=True)
    first = made[0].halves == 0
    _, after = fit([made[0], *(changed(s, s.halves == 0) for s in made[1:])], parallel=True)
    assert same_up_to_scale(before[0][first], after[0][first])
    assert not same_up_to_scale(before[0][~first], after[0][~first])


def test_it_is_the_penalised_logistic_regression_on_centred_features():
    made = languages()
    prior, _ = fit(made)
    weights = torch.cat([prior.weights[name] for name in WIDTHS], dim=1)
    centred = torch.cat([s.features - s.features.mean(0) for s in made])
    targets = torch.cat([s.targets for s in made])
    direction = F.normalize(weights.flatten(), dim=0).reshape_as(weights)
    size = torch.linspace(0.1, 20, 2000)

    penalty = PENALTY * 4 / 3  # the penalty is of heads that leave one of the four languages out

    def objective(W):
        return F.cross_entropy(centred @ W.T, targets, reduction="sum") + penalty / 2 * W.square().sum()

    # Its scale is the scores', so the minimum is looked for along its direction; there the gradient is 0.
    best = min(size, key=lambda s: objective(s * direction).item())
    at = (best * direction).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(at), at)
    assert gradient.abs().max() < 0.2
    (start,) = torch.autograd.grad(objective(zero := torch.zeros_like(at, requires_grad=True)), zero)
    assert start.abs().max() > 5


@pytest.mark.parametrize(
    ("count", "parallel", "grown"), [(4, False, 4 / 3), (4, True, 8 / 3), (1, False, 2.0)]
)
def test_the_penalty_grows_with_the_examples_from_the_left_out_heads_to_the_one_of_all(
    monkeypatch, count, parallel, grown
):
    fits = []

    def watched(features, targets, n_labels, penalty, start=None):
        fits.append((len(targets), penalty))
        return found(features, targets, n_labels, penalty, start)

    found = prior_module._logistic
    monkeypatch.setattr(prior_module, "_logistic", watched)
    prior, _ = fit(languages(count), parallel)
    *parts, (rows, penalty) = fits
    assert prior.penalty == PENALTY
    assert {penalty for _, penalty in parts} == {PENALTY}
    assert penalty == pytest.approx(PENALTY * grown)
    assert rows == pytest.approx(parts[0][0] * grown)


@pytest.mark.parametrize("parallel", [False, True])
def test_the_penalty_is_the_one_that_left_out_languages_are_judged_best_by(parallel):
    """Noisy examples want a strong penalty, many clear ones do not."""

    def chosen(made):
        return fit_prior(made, WIDTHS, N_LABELS, parallel=parallel)[0].penalty

    noisy = chosen(languages(count=6, n=60, noise=3.0))
    clear = chosen(languages(count=6, n=300, noise=0.1))
    assert clear < noisy <= PENALTIES[0]
    assert clear in PENALTIES


@pytest.mark.parametrize(("parallel", "grown"), [(False, {1.0}), (True, {1.0, 8 / 3})])
def test_with_a_bias_the_penalty_grows_in_parallel_corpora_alone(monkeypatch, parallel, grown):
    fits = []

    def watched(features, targets, n_labels, penalty, start=None):
        fits.append(penalty)
        return found(features, targets, n_labels, penalty, start)

    found = prior_module._logistic
    monkeypatch.setattr(prior_module, "_logistic", watched)
    made = languages(4)
    fit_prior(
        made, WIDTHS, N_LABELS, parallel=parallel, penalties=[PENALTY], log_shares=torch.zeros(N_LABELS)
    )
    assert sorted(set(fits)) == pytest.approx(sorted(PENALTY * factor for factor in grown))


def test_penalties_are_tried_until_two_in_a_row_are_worse():
    worth = {100.0: 1.0, 30.0: 0.5, 10.0: 2.0, 3.0: 1.9, 1.0: 1.8, 0.3: 9.0}
    tried = []

    def fit_one(latest, penalty):
        tried.append((penalty, latest.get("last")))
        return {"last": penalty}

    chosen, heads = prior_module._chosen(fit_one, lambda heads: worth[heads["last"]], list(worth))
    assert (chosen, heads) == (10.0, {"last": 10.0})
    assert tried == [(100.0, None), (30.0, 100.0), (10.0, 30.0), (3.0, 10.0), (1.0, 3.0)]


def test_with_the_chosen_penalty_alone_it_is_the_same_prior():
    made = languages(count=6, n=60)
    prior, scores = fit_prior(made, WIDTHS, N_LABELS, parallel=False)
    alone, alone_scores = fit_prior(made, WIDTHS, N_LABELS, parallel=False, penalties=[prior.penalty])
    assert all(torch.allclose(prior.weights[n], alone.weights[n], atol=2e-3) for n in WIDTHS)
    assert all(torch.allclose(a, b, atol=5e-3) for a, b in zip(scores, alone_scores, strict=True))


def test_it_is_better_than_chance_on_a_new_language_and_calibrated():
    *made, new = languages(count=6, n=240)
    prior, found = fit(made)
    inputs = {"dense": new.features[:, :6], "more": new.features[:, 6:]}
    scores = prior.scores(inputs, torch.arange(N_LABELS))
    assert (scores.argmax(1) == new.targets).double().mean() > 0.5
    pooled, targets = torch.cat(found), torch.cat([s.targets for s in made])

    def loss(sharpness):
        return F.cross_entropy(sharpness * pooled, targets).item()

    assert loss(prior.sharpness) < min(loss(prior.sharpness / 2), loss(prior.sharpness * 2), loss(1.0))
    error = calibration_error((prior.sharpness * pooled).softmax(1), targets)
    assert error < calibration_error(pooled.softmax(1), targets)
    assert error < 0.1


def test_scores_regress_on_centred_one_hot_targets():
    made = languages()
    _, found = fit(made)
    scores = torch.cat(found).flatten()
    wanted = torch.cat([F.one_hot(s.targets, N_LABELS) - 1 / N_LABELS for s in made]).flatten()
    assert (scores @ wanted / scores.square().sum()).item() == pytest.approx(1.0, abs=1e-4)


def test_a_label_that_the_sources_lack_scores_zero():
    prior, _ = fit(languages())
    inputs = {"dense": torch.randn(5, 6), "more": torch.randn(5, 2)}
    every = prior.scores(inputs, torch.arange(N_LABELS))
    found = prior.scores(inputs, torch.tensor([2, -1, 0]))
    assert torch.equal(found, torch.stack([every[:, 2], torch.zeros(5), every[:, 0]], 1))
    assert torch.equal(take_labels(every, torch.tensor([-1, -1])), torch.zeros(5, 2))


def test_labels_that_a_language_lacks_do_not_count_against_its_sharpness():
    made = languages()
    few = [SourceLanguage(s.features, s.targets % 2, s.halves, torch.tensor([0, 1])) for s in made]
    prior, found = fit(few)
    assert all(bool(torch.isfinite(scores).all()) for scores in found)
    assert 1.0 <= prior.sharpness <= 128.0


def test_where_all_contents_are_of_one_half_the_prior_says_nothing_of_them():
    one_half = [
        SourceLanguage(s.features, s.targets, torch.zeros_like(s.halves), s.labels) for s in languages(2)
    ]
    prior, found = fit(one_half, parallel=True)
    assert all(torch.equal(scores, torch.zeros_like(scores)) for scores in found)
    assert all(bool(torch.isfinite(weight).all()) for weight in prior.weights.values())


def test_it_is_the_same_every_time():
    one, other = fit(languages()), fit(languages())
    assert all(torch.equal(one[0].weights[name], other[0].weights[name]) for name in WIDTHS)
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
