"""Auto: its steps are those that its equation says, and its settings see what they say they see."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge

from metaglot.learners.auto import Auto

pytestmark = pytest.mark.usefixtures("double")

TRUST, STEP, SHARPNESS, PENALTY, DOUBT, SCALE = 3.0, 2.0, 1.5, 0.7, 5.0, 0.6


@pytest.fixture
def model(toy_model):
    return toy_model()


@pytest.fixture
def episode(toy_episode):
    return toy_episode((3, 1, 2))


def settled(blocks=("dense", "lexical"), **coefficients):
    """Meta-parameters whose settings are the constants above, whatever the support set."""
    meta = {name: torch.zeros(3 + 1 + len(blocks)) for name in ("trust", "step", "sharpness")}
    for name, value in (("trust", TRUST), ("step", STEP), ("sharpness", SHARPNESS)):
        meta[name][0] = math.log(value)
    meta |= {"log_penalty": torch.tensor(math.log(PENALTY)), "log_doubt": torch.tensor(math.log(DOUBT))}
    if len(blocks) > 1:
        meta["log_scale.dense"] = torch.tensor(math.log(SCALE))
    for name, (place, value) in coefficients.items():
        meta[name][place] = value
    return meta


def logits(learner, model, meta, episode):
    with torch.no_grad():
        adapted = learner.adapt(model, meta, episode.support)
        return learner.predict(model, meta, adapted, episode.query)


def side_by_side(batch, blocks=("dense", "lexical")):
    scale = {"dense": SCALE if len(blocks) > 1 else 1.0, "lexical": 1.0}
    return torch.cat([scale[b] * batch.inputs[b] for b in blocks], 1)


def bias(support):
    means = torch.stack([support.prior[support.targets == y].mean(0) for y in range(3)])
    return -means.mean(0) * len(support) / (len(support) + DOUBT)


def by_hand(episode, steps, blocks=("dense", "lexical")):
    """The steps on the weights, every one a ridge regression of scikit-learn on what is still wrong."""
    support, query = episode.support, episode.query
    X, labels = side_by_side(support, blocks), F.one_hot(support.targets, 3).double()
    weights = torch.zeros(3, X.shape[1])
    for _ in range(steps):
        wrong = labels - (TRUST * (support.prior + bias(support)) + X @ weights.T).softmax(1)
        fitted = Ridge(alpha=PENALTY, fit_intercept=False).fit(X.numpy(), wrong.numpy())
        weights = weights + STEP * torch.from_numpy(fitted.coef_)
    believed = TRUST * (query.prior + bias(support))
    return SHARPNESS * (believed + side_by_side(query, blocks) @ weights.T)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_step_is_ridge_regression_on_what_is_still_wrong(model, episode, steps):
    assert torch.allclose(logits(Auto(steps), model, settled(), episode), by_hand(episode, steps), atol=1e-9)


def test_of_one_block_alone_the_scale_is_one(toy_model, toy_episode):
    blocks = {"dense": 4}
    episode = toy_episode((2, 3, 2), blocks=blocks)
    found = logits(Auto(2), toy_model(blocks=blocks), settled(("dense",)), episode)
    assert torch.allclose(found, by_hand(episode, 2, ("dense",)), atol=1e-9)


def test_what_the_prior_is_sure_of_and_right_about_is_left_as_it_is(model, toy_episode):
    episode = toy_episode((4, 4, 4))
    for batch in (episode.support, episode.query):
        batch.prior.copy_(F.one_hot(batch.targets, 3).double() - 1 / 3)
    meta = settled(trust=(0, math.log(60.0)))
    adapted = Auto().adapt(model, meta, episode.support)
    assert max(adapted[f"weight.{b}"].abs().max() for b in ("dense", "lexical")) < 1e-9
    assert torch.equal(logits(Auto(), model, meta, episode).argmax(1), episode.query.targets)


def test_without_a_prior_it_starts_from_chance(model, toy_episode):
    episode = toy_episode(prior=False)
    adapted = Auto().adapt(model, settled(), episode.support)
    assert not adapted["bias"].any()
    for batch in (episode.support, episode.query):
        object.__setattr__(batch, "prior", torch.zeros(len(batch), 3))
    assert torch.allclose(logits(Auto(), model, settled(), episode), by_hand(episode, 4), atol=1e-9)


@pytest.mark.parametrize("counts", [(1, 1, 1), (4, 2, 3)])
def test_the_loss_of_what_is_prepared_is_that_of_adapting(model, toy_episode, counts):
    learner, episode = Auto(), toy_episode(counts, classes=[1, -1, 0])
    generator = torch.Generator().manual_seed(4)
    meta = {n: v + 0.3 * torch.randn(v.shape, generator=generator) for n, v in settled().items()}
    expected = F.cross_entropy(logits(learner, model, meta, episode), episode.query.targets)
    found = learner.meta_loss(model, meta, [learner.prepare(model, episode)])
    assert float(found) == pytest.approx(float(expected), abs=1e-9)


def test_the_loss_is_differentiated_right_in_all_that_is_learned(model, toy_episode):
    learner = Auto(2)
    episodes = [learner.prepare(model, toy_episode(counts)) for counts in ((3, 1, 2), (2, 2, 2))]
    names = list(settled())
    values = [settled()[name].clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda *given: learner.meta_loss(model, dict(zip(names, given, strict=True)), episodes), values
    )


@pytest.mark.parametrize(
    ("name", "seen"),
    [("trust", {0, 1, 3, 4, 5}), ("step", {0, 1}), ("sharpness", {0, 1, 2, 3, 4, 5})],
)
def test_each_setting_sees_its_parts_of_the_support_set(model, toy_episode, name, seen):
    episode = toy_episode((8, 8, 8))
    plain = logits(Auto(), model, settled(), episode)
    for place in range(6):
        moved = logits(Auto(), model, settled(**{name: (place, 0.9)}), episode)
        assert bool((moved - plain).abs().max() > 1e-6) is (place in seen), place


def test_shots_labels_and_evidence_are_those_of_the_support_set(model, toy_episode):
    phi = Auto().prepare(model, toy_episode((4, 4, 4))).support.phi
    assert phi[:3].tolist() == pytest.approx([1.0, 0.0, (math.log2(3) - 4) / 2])
    assert bool((phi[3:].abs() <= 1).all())
    assert Auto().prepare(model, toy_episode((1, 1, 1))).support.phi[1] == -2


def test_evidence_is_what_leaving_one_out_by_hand_says(model, toy_episode):
    episode = toy_episode((2, 3, 2))
    support = episode.support
    targets = F.one_hot(support.targets, 3).double() - 1 / 3
    X, total = support.inputs["lexical"].numpy(), 0.0
    for i, label in enumerate(support.targets.tolist()):
        rest = [j for j in range(len(support)) if j != i]
        left = Ridge(alpha=1.0, fit_intercept=False).fit(X[rest], targets[rest].numpy())
        total += torch.log_softmax(8.0 * torch.from_numpy(left.predict(X[[i]])), 1)[0, label].item()
    expected = 1 + total / len(support) / math.log(3)
    found = Auto().prepare(model, episode).support.phi[-1]
    assert float(found) == pytest.approx(max(expected, -1.0), abs=1e-9)
