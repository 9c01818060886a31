"""The prior: what it says of a source language comes from the other ones."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from metaglot.evaluation.metrics import calibration_error
from metaglot.prior import Prior, SourceLanguage, linear, network, take_labels
from metaglot.prior.cross_fitting import FOLDS
from metaglot.prior.linear import PENALTIES, fit_linear
from metaglot.prior.network import SHARPNESS, fit_network

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
    return fit_linear(made, WIDTHS, N_LABELS, parallel=parallel, penalties=[PENALTY])


def fit_net(made, parallel=False, log_shares=None):
    """Fit a network, all of the examples being learned from."""
    shares = torch.zeros(N_LABELS) if log_shares is None else log_shares
    return fit_network(made, WIDTHS, N_LABELS, parallel=parallel, log_shares=shares)


FITS = pytest.mark.parametrize("fit", [fit, fit_net], ids=["linear", "network"])


@pytest.fixture
def small(monkeypatch):
    """Networks that are trained in a moment."""
    monkeypatch.setattr(network, "WIDTH", 8)
    monkeypatch.setattr(network, "_LEAST_STEPS", 4)
    monkeypatch.setattr(network, "_EPOCHS", 4)


def same_up_to_scale(one, other):
    """One positive factor, common to all languages, sets the scores' scale; it knows no label."""
    return torch.allclose(F.normalize(one.flatten(), dim=0), F.normalize(other.flatten(), dim=0), atol=1e-6)


@pytest.mark.parametrize("count", [2, 4, FOLDS + 2])
@pytest.mark.parametrize("parallel", [False, True])
@FITS
def test_a_languages_own_labels_do_not_reach_its_scores(small, fit, count, parallel):
    made = languages(count)
    _, before = fit(made, parallel)
    for place in range(count):
        every = torch.ones(24, dtype=torch.bool)
        shuffled = [changed(s, every) if i == place else s for i, s in enumerate(made)]
        _, after = fit(shuffled, parallel)
        assert same_up_to_scale(before[place], after[place])
        others = [i for i in range(count) if i % FOLDS != place % FOLDS]
        assert not any(same_up_to_scale(before[i], after[i]) for i in others)


@FITS
def test_in_a_parallel_corpus_no_content_is_judged_by_a_head_that_learned_from_it(small, fit):
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

    found = linear._logistic
    monkeypatch.setattr(linear, "_logistic", watched)
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
        return fit_linear(made, WIDTHS, N_LABELS, parallel=parallel)[0].penalty

    noisy = chosen(languages(count=6, n=60, noise=3.0))
    clear = chosen(languages(count=6, n=300, noise=0.1))
    assert clear < noisy <= PENALTIES[0]
    assert clear in PENALTIES


def test_penalties_are_tried_until_two_in_a_row_are_worse():
    worth = {100.0: 1.0, 30.0: 0.5, 10.0: 2.0, 3.0: 1.9, 1.0: 1.8, 0.3: 9.0}
    tried = []

    def fit_one(latest, penalty):
        tried.append((penalty, latest.get("last")))
        return {"last": penalty}

    chosen, heads = linear._chosen(fit_one, lambda heads: worth[heads["last"]], list(worth))
    assert (chosen, heads) == (10.0, {"last": 10.0})
    assert tried == [(100.0, None), (30.0, 100.0), (10.0, 30.0), (3.0, 10.0), (1.0, 3.0)]


def test_with_the_chosen_penalty_alone_it_is_the_same_prior():
    made = languages(count=6, n=60)
    prior, scores = fit_linear(made, WIDTHS, N_LABELS, parallel=False)
    alone, alone_scores = fit_linear(made, WIDTHS, N_LABELS, parallel=False, penalties=[prior.penalty])
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


@FITS
def test_a_label_that_the_sources_lack_scores_zero(small, fit):
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


@FITS
def test_where_all_contents_are_of_one_half_the_prior_says_nothing_of_them(small, fit):
    one_half = [
        SourceLanguage(s.features, s.targets, torch.zeros_like(s.halves), s.labels) for s in languages(2)
    ]
    prior, found = fit(one_half, parallel=True)
    assert all(torch.equal(scores, torch.zeros_like(scores)) for scores in found)
    assert all(bool(torch.isfinite(weight).all()) for weight in prior.weights.values())


@FITS
def test_it_is_the_same_every_time_and_draws_no_random_number_of_the_callers(small, fit):
    state = torch.get_rng_state()
    one, other = fit(languages()), fit(languages())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[0].weights[name], other[0].weights[name]) for name in one[0].weights)
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def crossed(count=4, n=240, seed=0):
    """Languages whose labels are the parity of two signs, which no linear head can tell."""
    chance = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        features = 0.4 * torch.randn(n, 8, generator=chance)
        targets = ((features[:, 0] > 0) ^ (features[:, 1] > 0)).long()
        made.append(SourceLanguage(features, targets, torch.arange(n) % 2, torch.arange(2)))
    return made


def test_a_network_learns_what_no_linear_head_can():
    *made, new = crossed(count=5)
    inputs = {"dense": new.features[:, :6], "more": new.features[:, 6:]}

    def right(prior):
        return (prior.scores(inputs, torch.arange(2)).argmax(1) == new.targets).double().mean()

    straight, _ = fit_linear(made, WIDTHS, 2, parallel=False)
    bent, found = fit_network(made, WIDTHS, 2, parallel=False, log_shares=torch.zeros(2))
    assert right(straight) < 0.65
    assert right(bent) > 0.9
    targets = torch.cat([s.targets for s in made])
    assert (torch.cat(found).argmax(1) == targets).double().mean() > 0.85


def test_a_networks_scores_are_calibrated_on_languages_that_it_has_not_seen():
    made = languages(count=6, n=120, noise=2.0)
    prior, found = fit_net(made)
    assert prior.sharpness == SHARPNESS
    pooled, targets = torch.cat(found), torch.cat([s.targets for s in made])

    def loss(factor):
        return F.cross_entropy(factor * SHARPNESS * pooled, targets).item()

    assert loss(1.0) < min(loss(0.5), loss(2.0))


@pytest.mark.parametrize("rows", [0, 3])
def test_the_prior_of_a_network_says_what_the_network_does(small, monkeypatch, rows):
    """The network itself, run as it was trained: its inputs' scale and the shares of labels are in it."""
    trained = []

    def watched(*arguments):
        trained.append(found(*arguments))
        return trained[-1]

    found = network._trained
    monkeypatch.setattr(network, "_trained", watched)
    shares = torch.tensor([0.0, -1.0, -2.0])
    prior, _ = fit_net(languages(), log_shares=shares)
    features = torch.randn(rows, 8, generator=torch.Generator().manual_seed(0))
    scaled = features * torch.tensor([6.0] * 6 + [2.0] * 2).sqrt()
    with torch.no_grad():
        logits = trained[-1](scaled) - shares
    inputs = {"dense": features[:, :6], "more": features[:, 6:]}
    scores = prior.scores(inputs, torch.arange(N_LABELS))
    _, last = network._layers(trained[-1])
    factor = prior.weights["hidden"].norm() / (last.weight - last.weight.mean(0)).norm()
    assert torch.allclose(scores, factor * (logits - logits.mean(1, keepdim=True)), atol=1e-5)
    assert prior.blocks == tuple(WIDTHS)


@FITS
def test_a_prior_is_the_same_from_its_tensors_and_numbers(small, fit):
    made, _ = fit(languages())
    made = replace(made, nothing=-1.5)
    others = {"scaler.mean.dense": torch.zeros(6)}
    again = Prior.of(made.tensors() | others, made.numbers())
    inputs = {"dense": torch.randn(5, 6), "more": torch.randn(5, 2)}
    every = torch.arange(N_LABELS)
    assert torch.equal(made.scores(inputs, every), again.scores(inputs, every))
    assert (again.sharpness, again.penalty, again.nothing) == (made.sharpness, made.penalty, -1.5)
    assert again.tensors().keys() == made.tensors().keys()
