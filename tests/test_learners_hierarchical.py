"""Hierarchical MAML against partial pooling in closed form, against MAML, and on tasks that have groups."""

import copy

import pytest
import torch
from torch import nn

from metaglot.errors import SettingsError
from metaglot.label_scores import LabelScores
from metaglot.learners.base import mean_query_loss
from metaglot.learners.hierarchical import OFFSET, Hierarchical
from metaglot.learners.maml import MAML
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.modules import ModuleModel
from metaglot.types import Batch, Episode

GROUPS = ("north", "south", "west")


class Distance:
    """L(θ) = ½ ‖θ − μ‖², where μ `[2]` is a batch's input: one inner step of rate α gives (1−α)²L."""

    outputs = "any"
    n_labels = 0
    groups = GROUPS
    head = fixed_start = frozenset()

    def init(self, n_labels):
        return {"theta": torch.zeros(2)}

    def rows(self, params, classes):
        return params

    def forward(self, params, batch):
        return 0.5 * (params["theta"] - batch.inputs["mu"][0]).square().sum()

    def loss(self, outputs, targets):
        return outputs


def point(mu, group):
    batch = Batch({"mu": mu.unsqueeze(0)}, torch.zeros(1), torch.empty(0, dtype=torch.int64), group=group)
    return Episode(batch, batch)


def started(learner, model, seed=0, noise=0.0):
    meta = learner.init(model, torch.Generator().manual_seed(seed))
    chance = torch.Generator().manual_seed(seed)
    return {n: v + noise * torch.randn(v.shape, generator=chance) for n, v in meta.items()}


def grouped(episode, group):
    episode = copy.copy(episode)
    for side in ("support", "query"):
        batch = copy.copy(getattr(episode, side))
        object.__setattr__(batch, "group", group)
        object.__setattr__(episode, side, batch)
    return episode


@pytest.fixture
def labelled(toy_episode):
    """A classification model with groups, and a meta-batch of all of them, of two shapes."""
    model = LabelScores({"dense": 4, "lexical": 5}, 4, frozenset({"lexical"}), GROUPS)
    counts = [(2, 2, 2), (2, 2, 2), (1, 3, 2), (2, 2, 2), (1, 3, 2)]
    episodes = [grouped(toy_episode(c, seed=i), i % 4 - 1) for i, c in enumerate(counts)]
    return model, episodes


@pytest.mark.parametrize("penalty", [0.02, 0.3, 5.0])
def test_offsets_are_partial_pooling(penalty, double):
    """At the minimum δ_g = w_g (mean of the group − start), w_g = n_g / (n_g + λ n / G c²)."""
    numbers, rate = (9, 4, 1), 0.3
    chance = torch.Generator().manual_seed(0)
    mus = [3.0 * g + torch.randn(n, 2, generator=chance) for g, n in enumerate(numbers)]
    learner = Hierarchical(1, rate, penalty=penalty, learn_rates="none")
    episodes = [point(mu, g) for g, group in enumerate(mus) for mu in group]
    shapes = {n: v.shape for n, v in started(learner, Distance()).items()}

    def loss(flat):
        parts = flat.split([shape.numel() for shape in shapes.values()])
        meta = {n: p.reshape(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        return learner.meta_loss(Distance(), meta, episodes)

    zero = torch.zeros(sum(s.numel() for s in shapes.values()), requires_grad=True)
    (slope,) = torch.autograd.grad(loss(zero), zero)
    best = torch.linalg.solve(torch.autograd.functional.hessian(loss, zero.detach()), -slope)
    start, offsets = best[:2], best[2:].reshape(3, 2)

    shrunk = (1 - rate) ** 2
    pooled = [n / (n + penalty * sum(numbers) / (len(numbers) * shrunk)) for n in numbers]
    expected = torch.stack([w * (m.mean(0) - start) for w, m in zip(pooled, mus, strict=True)])
    assert torch.allclose(offsets, expected, rtol=0, atol=1e-9)
    assert torch.allclose(offsets.sum(0), torch.zeros(2), atol=1e-9)
    assert pooled[0] > pooled[1] > pooled[2]


@pytest.mark.parametrize("groups", [(), ("all",)], ids=["none", "one"])
def test_with_one_group_it_is_maml(groups, double, labelled):
    _, episodes = labelled
    episodes = [grouped(e, len(groups) - 1) for e in episodes]
    model = LabelScores({"dense": 4, "lexical": 5}, 4, frozenset({"lexical"}), groups)
    meta = started(MAML(3), model, noise=0.1)
    assert Hierarchical(3).init(model, torch.Generator()).keys() == meta.keys()
    one, two = (meta_gradient(x, model, meta, episodes) for x in (Hierarchical(3), MAML(3)))
    assert torch.equal(one[0], two[0])
    assert all(torch.equal(one[1][n], two[1][n]) for n in meta)


def test_with_offsets_of_zero_it_is_maml(double, labelled):
    model, episodes = labelled
    meta = started(Hierarchical(3), model)
    plain = {n: v for n, v in meta.items() if not n.startswith(OFFSET)}
    assert len(plain) < len(meta)
    one, two = (
        meta_gradient(Hierarchical(3), model, meta, episodes),
        meta_gradient(MAML(3), model, plain, episodes),
    )
    assert torch.allclose(one[0], two[0], atol=1e-12)
    assert all(torch.allclose(one[1][n], two[1][n], atol=1e-12) for n in plain)


def test_no_group_starts_from_the_shared_start_and_a_group_from_its_own(double, labelled):
    model, episodes = labelled
    meta = started(Hierarchical(3), model, noise=0.2)
    plain = {n: v for n, v in meta.items() if not n.startswith(OFFSET)}
    support = episodes[0].support
    found = Hierarchical(3).adapt(model, meta, grouped(episodes[0], -1).support)
    for name, value in MAML(3).adapt(model, plain, support).items():
        assert torch.equal(found[name], value)
    own = Hierarchical(3).adapt(model, meta, grouped(episodes[0], 2).support)
    moved = {n: v + meta[o][2] if (o := n.replace("start.", OFFSET)) != n else v for n, v in plain.items()}
    for name, value in MAML(3).adapt(model, moved, support).items():
        assert torch.equal(own[name], value)
        assert name in model.fixed_start or not torch.equal(value, found[name])


def test_a_meta_batch_of_several_groups_is_the_mean_over_its_tasks(double, labelled):
    model, episodes = labelled
    learner = Hierarchical(2, penalty=0.7)
    meta = started(learner, model, noise=0.2)
    expected = mean_query_loss(learner, model, meta, episodes) + learner.prior_loss(meta)
    assert torch.allclose(learner.meta_loss(model, meta, episodes), expected, atol=1e-12)
    assert torch.allclose(learner.meta_loss(model, meta, episodes[::-1]), expected, atol=1e-12)
    # In parts, the penalty counts once.
    whole, parts = (meta_gradient(learner, model, meta, episodes, chunk=c) for c in (9, 1))
    assert torch.allclose(parts[0], expected, atol=1e-12)
    assert all(torch.allclose(parts[1][n], whole[1][n], atol=1e-12) for n in meta)


def test_rows_of_an_embedding_have_their_groups_offsets(double):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(12, 2))
    model = ModuleModel(net, groups=GROUPS)
    learner = Hierarchical(2, 0.1)
    meta = started(learner, model, noise=0.3)
    episodes = []
    for place in range(6):
        chance = torch.Generator().manual_seed(place)
        ids = [torch.randint(50, (n, 3), generator=chance) for n in (4, 6)]
        batches = [
            Batch({"x": x}, torch.arange(len(x)) % 2, torch.arange(2), group=place % 4 - 1) for x in ids
        ]
        episodes.append(Episode(*batches))
    expected = []
    for episode in episodes:
        params = {n: meta["start." + n] for n in model.init(0)}
        if (group := episode.support.group) >= 0:
            params = {n: v + meta[OFFSET + n][group] for n, v in params.items()}
        for _ in range(2):
            params = {n: v.clone().requires_grad_() for n, v in params.items()}
            loss = model.loss(model.forward(params, episode.support), episode.support.targets)
            slopes = torch.autograd.grad(loss, list(params.values()))
            params = {
                n: (v - meta["log_rate." + n].exp() * g).detach()
                for (n, v), g in zip(params.items(), slopes, strict=True)
            }
        expected.append(model.loss(model.forward(params, episode.query), episode.query.targets))
    found = learner.meta_loss(model, meta, episodes) - learner.prior_loss(meta)
    assert torch.allclose(found, torch.stack(expected).mean(), atol=1e-12)


def test_a_label_that_is_new_has_no_offset(double, labelled, toy_episode):
    model, _ = labelled
    learner = Hierarchical(1, 1e-9, learn_rates="none")
    meta = started(learner, model, noise=0.2)
    episode = grouped(toy_episode((2, 2, 2), classes=[3, -1, 0]), 1)
    adapted = learner.adapt(model, meta, episode.support)
    expected = meta["start.weight.dense"][3] + meta["offset.weight.dense"][1, 3]
    assert torch.allclose(adapted["weight.dense"][0], expected, atol=1e-6)
    assert torch.allclose(adapted["weight.dense"][1], torch.zeros(4), atol=1e-6)


@pytest.mark.parametrize("adapt", ["all", "head"])
@pytest.mark.parametrize("learn_rates", ["none", "parameter"])
def test_the_meta_gradient_is_the_gradient(adapt, learn_rates, double):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    model = ModuleModel(net, nn.functional.mse_loss, groups=GROUPS)
    learner = Hierarchical(2, 0.1, adapt, penalty=0.5, learn_rates=learn_rates)
    meta = started(learner, model, noise=0.1)
    assert {n for n in meta if n.startswith(OFFSET)} == {
        OFFSET + n for n in model.init(0) if adapt == "all" or n in model.head
    }
    episodes = [line(i % 4 - 1, i, 2) for i in range(4)]
    values = [v.requires_grad_() for v in meta.values()]
    assert torch.autograd.gradcheck(
        lambda *v: learner.meta_loss(model, dict(zip(meta, v, strict=True)), episodes), values, atol=1e-6
    )


def line(group, seed, width, shots=3, noise=0.15):
    """A linear regression whose slopes are those of its group, nearly; fewer examples than slopes."""
    slopes = 2.0 * torch.randn(4, width, generator=torch.Generator().manual_seed(99))[group]
    chance = torch.Generator().manual_seed(seed)
    slopes = slopes + noise * torch.randn(width, generator=chance)
    sides = []
    for n in (shots, 10):
        x = torch.randn(n, width, generator=chance)
        nothing = torch.empty(0, dtype=torch.int64)
        sides.append(Batch({"x": x}, (x @ slopes).unsqueeze(1), nothing, group=group))
    return Episode(*sides)


def learned(learner, model, episodes, steps, rate=0.05):
    meta = started(learner, model)
    leaves = {n: v.clone().requires_grad_() for n, v in meta.items()}
    optimizer = torch.optim.Adam(leaves.values(), rate)
    for step in range(steps):
        optimizer.zero_grad()
        learner.meta_loss(model, leaves, episodes(step)).backward()
        optimizer.step()
    return {n: v.detach() for n, v in leaves.items()}


def test_offsets_are_worth_much_where_tasks_have_groups():
    width = 8
    torch.manual_seed(0)
    model = ModuleModel(nn.Linear(width, 1), nn.functional.mse_loss, groups=GROUPS)
    error = {}
    for learner in (Hierarchical(2, 0.1), MAML(2, 0.1)):
        meta = learned(learner, model, lambda step: [line(i % 3, 9 * step + i, width) for i in range(9)], 150)
        for group in (0, 1, 2, -1):
            episodes = [line(group, 10_000 + i, width) for i in range(40)]
            loss = mean_query_loss(learner, model, meta, episodes)
            error[type(learner), group] = float(loss)
    for group in range(3):  # a new task of a known group: about ten times better
        assert error[Hierarchical, group] < 0.25 * error[MAML, group]
    # One of a group that was never met is no worse off than with MAML, within what three groups can tell.
    assert error[Hierarchical, -1] < 1.2 * error[MAML, -1]


def test_offsets_are_worth_much_where_labels_differ_by_group():
    """Every group has directions of its own for the same labels; one example of each is very noisy."""
    model = LabelScores({"dense": 16}, 3, frozenset(), GROUPS)
    centres = torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(5)) / 4

    def episode(group, seed, shots=1):
        chance = torch.Generator().manual_seed(seed)
        sides = []
        for n in (shots, 5):
            targets = torch.arange(3).repeat_interleave(n)
            features = centres[group][targets] + 0.4 * torch.randn(3 * n, 16, generator=chance)
            sides.append(Batch({"dense": features}, targets, torch.arange(3), group=group))
        return Episode(*sides)

    right = {}
    for learner in (Hierarchical(3, 2.0), MAML(3, 2.0)):
        meta = learned(learner, model, lambda step: [episode(i % 3, 6 * step + i) for i in range(6)], 100)
        hits = []
        for i in range(120):
            new = episode(i % 3, 50_000 + i)
            adapted = learner.adapt(model, meta, new.support)
            scores = learner.predict(model, meta, adapted, new.query)
            hits.append((scores.argmax(1) == new.query.targets).float().mean())
        right[type(learner)] = float(torch.stack(hits).mean())
    assert right[Hierarchical] > right[MAML] + 0.1, right


@pytest.mark.parametrize("wrong", [{"penalty": -1.0}, {"penalty": float("nan")}, {"steps": 0}, {"adapt": ""}])
def test_what_makes_no_sense_is_refused(wrong, labelled):
    with pytest.raises(SettingsError):
        Hierarchical(**wrong).init(labelled[0], torch.Generator())


def test_a_group_that_the_model_has_not_is_refused(labelled):
    model, episodes = labelled
    learner = Hierarchical(1)
    with pytest.raises(SettingsError, match="from 0 to 2, or −1 for none of them, found 3"):
        learner.adapt(model, started(learner, model), grouped(episodes[0], 3).support)
