"""Mixture: its experts are those it says, and its head is their weighted sum."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge

from metaglot.learners.mixture import Mixture

pytestmark = pytest.mark.usefixtures("double")


def only(learner, model, expert, weight=1.0):
    """A gate that gives all but one expert no weight."""
    names = learner.experts(model)
    gate = torch.zeros(len(names), 4)
    gate[:, 0] = -torch.inf
    gate[names.index(expert), 0] = torch.tensor(weight).log()
    return {"gate": gate}


def scores(learner, model, meta, episode):
    with torch.no_grad():
        return model.forward(learner.adapt(model, meta, episode.support), episode.query)


def debiased(prior, support):
    """The prior's scores less the mean over labels of the support's scores, which are few and so doubted."""
    means = torch.stack([support.prior[support.targets == y].mean(0) for y in range(3)])
    return prior - means.mean(0) * len(support) / (len(support) + 10.0)


def fitted(blocks, targets, episode, penalty=1.0):
    def features(batch):
        return torch.cat([scale * batch.inputs[b] for b, scale in blocks.items()], 1).numpy()

    model = Ridge(alpha=penalty, fit_intercept=False).fit(features(episode.support), targets.numpy())
    return torch.from_numpy(model.predict(features(episode.query)))


def one_hot(support):
    return F.one_hot(support.targets, 3).double() - 1 / 3


@pytest.fixture
def model(toy_model):
    return toy_model()


@pytest.fixture
def episode(toy_episode):
    return toy_episode((3, 1, 2))


def test_the_experts_are_the_prior_every_block_all_and_anchored(toy_model):
    assert Mixture().experts(toy_model()) == ("prior", "dense", "lexical", "all", "anchored")
    assert Mixture().experts(toy_model(blocks={"dense": 4})) == ("prior", "all", "anchored")


def test_with_the_priors_weight_alone_it_predicts_the_prior(model, episode):
    found = scores(Mixture(), model, only(Mixture(), model, "prior", 3.0), episode)
    assert torch.allclose(found, 3.0 * debiased(episode.query.prior, episode.support), atol=1e-10)


@pytest.mark.parametrize("block", ["dense", "lexical"])
def test_the_expert_of_a_block_is_ridge_on_it(model, episode, block):
    found = scores(Mixture(penalty=0.7), model, only(Mixture(), model, block), episode)
    assert torch.allclose(found, fitted({block: 1.0}, one_hot(episode.support), episode, 0.7), atol=1e-10)


def test_the_expert_of_all_blocks_is_ridge_on_them_side_by_side(model, episode):
    learner = Mixture(dense_scale=0.6)
    found = scores(learner, model, only(learner, model, "all"), episode)
    expected = fitted({"dense": 0.6, "lexical": 1.0}, one_hot(episode.support), episode)
    assert torch.allclose(found, expected, atol=1e-10)


def test_the_anchored_expert_fits_what_the_prior_gets_wrong(model, episode):
    found = scores(Mixture(), model, only(Mixture(), model, "anchored"), episode)
    wrong = one_hot(episode.support) - debiased(episode.support.prior, episode.support)
    correction = fitted({"dense": 0.7, "lexical": 1.0}, wrong, episode)
    assert torch.allclose(found, debiased(episode.query.prior, episode.support) + correction, atol=1e-10)


@pytest.mark.parametrize("blocks", [{"dense": 4, "lexical": 5}, {"dense": 4}])
def test_its_head_is_the_weighted_sum_of_its_experts(toy_model, toy_episode, blocks):
    model, episode, learner = toy_model(blocks=blocks), toy_episode((3, 1, 2), blocks=blocks), Mixture()
    names = learner.experts(model)
    gate = torch.zeros(len(names), 4)
    gate[:, 0] = torch.randn(len(names), generator=torch.Generator().manual_seed(3))
    found = scores(learner, model, {"gate": gate}, episode)
    parts = [
        scores(learner, model, only(learner, model, name, gate[i, 0].exp().item()), episode)
        for i, name in enumerate(names)
    ]
    assert torch.allclose(found, torch.stack(parts).sum(0), atol=1e-10)


@pytest.mark.parametrize("counts", [(1, 1, 1), (4, 2, 3)])
def test_what_is_prepared_gives_the_same_logits_as_adapting(model, toy_episode, counts):
    learner, episode = Mixture(), toy_episode(counts, classes=[1, -1, 0])
    gate = torch.randn(5, 4, generator=torch.Generator().manual_seed(4))
    prepared = learner.prepare(model, episode)
    weights = (gate * prepared.gates).sum(1).exp()
    mixed = (weights[:, None, None] * prepared.scores).sum(0)
    assert torch.allclose(mixed, scores(learner, model, {"gate": gate}, episode), atol=1e-5)


def test_the_gate_sees_the_shots_and_evidence_between_minus_one_and_one(model, toy_episode):
    learner = Mixture()
    gates = learner.prepare(model, toy_episode((4, 4, 4))).gates
    assert torch.equal(gates[:, 0], torch.ones(5))
    assert torch.allclose(gates[:, 1], torch.full((5,), 2.0))
    assert bool((gates[:, 2:] <= 1).all())
    assert bool((gates[:, 2:] >= -1).all())
    assert torch.equal(gates[:, 3], gates[0, 2].expand(5))
    one_shot = learner.prepare(model, toy_episode((1, 1, 1))).gates
    assert torch.equal(one_shot[:, 1], torch.zeros(5))


def test_evidence_is_what_leaving_one_out_by_hand_says(model, toy_episode):
    episode = toy_episode((2, 3, 2))
    support, targets = episode.support, one_hot(episode.support)
    gates = Mixture().prepare(model, episode).gates
    place = Mixture().experts(model).index("lexical")
    X = support.inputs["lexical"].numpy()
    total = 0.0
    for i, label in enumerate(support.targets.tolist()):
        rest = [j for j in range(len(support)) if j != i]
        left = Ridge(alpha=1.0, fit_intercept=False).fit(X[rest], targets[rest].numpy())
        total += torch.log_softmax(8.0 * torch.from_numpy(left.predict(X[[i]])), 1)[0, label].item()
    expected = 1 + total / len(support) / torch.log(torch.tensor(3.0)).item()
    assert gates[place, 2].item() == pytest.approx(max(expected, -1.0), abs=1e-9)


def test_evidence_tells_features_that_say_the_label_from_noise(model, toy_episode):
    episode = toy_episode((6, 6, 6), noise=0.05)
    noise = torch.randn(18, 4, generator=torch.Generator().manual_seed(5))
    episode.support.inputs["dense"].copy_(noise)
    gates = Mixture().prepare(model, episode).gates
    names = Mixture().experts(model)
    assert gates[names.index("lexical"), 2] > gates[names.index("dense"), 2] + 0.3


def test_without_a_prior_the_anchored_expert_is_that_of_all_blocks(model, toy_episode):
    learner, episode = Mixture(), toy_episode(prior=False)
    one, other = (scores(learner, model, only(learner, model, n), episode) for n in ("anchored", "all"))
    assert torch.allclose(one, other, atol=1e-12)
    assert not scores(learner, model, only(learner, model, "prior"), episode).any()
