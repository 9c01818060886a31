"""The learners that adapt by gradient descent: closed forms on quadratics, and identities between them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metaglot.learners import LEARNERS
from metaglot.learners.anil import anil
from metaglot.learners.boil import BOIL
from metaglot.learners.cavia import CAVIA
from metaglot.learners.fomaml import fomaml
from metaglot.learners.inner_loop import InnerLoop
from metaglot.learners.maml import MAML
from metaglot.learners.maml_plus_plus import MAMLPlusPlus
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.meta_sgd import meta_sgd
from metaglot.learners.modules import EmbeddingModel, ModuleModel
from metaglot.learners.multitask import Multitask
from metaglot.learners.protomaml import ProtoMAML
from metaglot.learners.reptile import Reptile
from metaglot.types import Batch, Episode
from small_tasks import (
    D,
    Quadratic,
    SharedQuadratic,
    embedder,
    five_ways,
    quadratic_batch,
    quadratic_episode,
    regressor,
    sinusoid,
)

pytestmark = pytest.mark.usefixtures("double")

RATE = 0.05
MODULE_LEARNERS = {
    "maml": {"rate": RATE},
    "fomaml": {"rate": RATE},
    "anil": {"rate": RATE},
    "boil": {"rate": RATE},
    "meta-sgd": {"rate": RATE},
    "maml++": {"rate": RATE, "anneal": 10},
    "imaml": {"penalty": 2.0, "cg_tolerance": 1e-12, "cg_steps": 100, "steps": 20},
    "cavia": {"rate": RATE},
    "reptile": {"rate": RATE},
    "multitask": {"rate": RATE},
}
every_module_learner = pytest.mark.parametrize("name", list(MODULE_LEARNERS))


def made(name, **options):
    return LEARNERS[name](**(MODULE_LEARNERS[name] | options))


def starting(learner, model):
    """Meta-parameters a little away from the start."""
    chance = torch.Generator().manual_seed(1)
    return {
        n: v.double() + 0.1 * torch.randn(v.shape, generator=chance) if learner.outer_rate(n) else v
        for n, v in learner.init(model, torch.Generator().manual_seed(0)).items()
    }


def gradients(learner, model, meta, episodes, **options):
    return meta_gradient(learner, model, meta, episodes, **options)[1]


def slope(batch, theta):
    return batch.inputs["A"] @ theta - batch.inputs["b"]


def descend(theta, batches, rate=RATE):
    for batch in batches:
        theta = theta - rate * slope(batch, theta)
    return theta


@pytest.fixture
def theta():
    return torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)


def test_a_rate_per_element_learns_what_one_rate_does_if_all_are_equal(theta):
    episodes = [quadratic_episode(1), quadratic_episode(2)]
    one = {"start.theta": theta, "log_rate.theta": torch.tensor(math.log(RATE))}
    each = one | {"log_rate.theta": torch.full((D,), math.log(RATE))}
    single = gradients(MAML(3), Quadratic(), one, episodes)
    several = gradients(meta_sgd(3), Quadratic(), each, episodes)
    assert torch.allclose(several["start.theta"], single["start.theta"], atol=1e-12)
    assert torch.allclose(several["log_rate.theta"].sum(), single["log_rate.theta"], atol=1e-12)


def test_meta_sgds_step_is_elementwise(theta):
    rates, batch = torch.tensor([0.1, 0.02, 0.3]), quadratic_batch(1)
    meta = {"start.theta": theta, "log_rate.theta": rates.log()}
    adapted = meta_sgd(1).adapt(Quadratic(), meta, batch)
    assert torch.allclose(adapted["theta"], theta - rates * slope(batch, theta), atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("alternate", [True, False])
def test_reptiles_gradient_is_start_less_end(steps, alternate, theta):
    episodes = [quadratic_episode(1, 1.0), quadratic_episode(2, 3.0)]
    learner = Reptile(steps, RATE, alternate=alternate)
    loss, found = meta_gradient(learner, Quadratic(), {"start.theta": theta}, episodes)
    moves, values = [], []
    for episode in episodes:
        turns = [episode.query if alternate and i % 2 else episode.support for i in range(steps)]
        moves.append(theta - descend(theta, turns))
        end = descend(theta, [episode.support] * steps)
        values.append(Quadratic().forward({"theta": end}, episode.query))
    assert torch.allclose(found["start.theta"], 0.25 * moves[0] + 0.75 * moves[1], atol=1e-12)
    assert loss.item() == pytest.approx((0.25 * values[0] + 0.75 * values[1]).item(), abs=1e-12)


def test_reptile_teaches_what_does_not_adapt_by_the_query_loss(theta):
    learner, model, episode = Reptile(3, RATE, "theta"), SharedQuadratic(), quadratic_episode(1)
    shared = torch.tensor([0.2, 0.1, -0.4])
    found = gradients(learner, model, {"start.theta": theta, "start.shared": shared}, [episode])
    end = theta
    for _ in range(3):
        end = end - RATE * slope(episode.support, end + shared)
    expected = episode.query.inputs["A"] @ (end + shared)
    assert torch.allclose(found["start.shared"], expected, atol=1e-12)


def test_multitasks_loss_is_that_of_the_start_on_all_examples(theta):
    episodes = [quadratic_episode(1), quadratic_episode(2)]
    loss, found = meta_gradient(Multitask(3, RATE), Quadratic(), {"start.theta": theta}, episodes)
    batches = [batch for e in episodes for batch in (e.support, e.query)]
    values = [Quadratic().forward({"theta": theta}, batch) for batch in batches]
    assert loss.item() == pytest.approx(torch.stack(values).mean().item(), abs=1e-12)
    slopes = torch.stack([slope(batch, theta) for batch in batches])
    assert torch.allclose(found["start.theta"], slopes.mean(0), atol=1e-12)


def test_multitask_counts_examples_alike_in_support_and_query():
    model, episode = regressor(4), sinusoid(1, shots=2, queries=6)
    learner = Multitask(1, RATE)
    meta = learner.init(model, torch.Generator())
    start = model.init(0)
    both = Batch(
        {"x": torch.cat([episode.support.inputs["x"], episode.query.inputs["x"]])},
        torch.cat([episode.support.targets, episode.query.targets]),
        episode.support.classes,
    )
    expected = model.loss(model.forward(start, both), both.targets)
    assert learner.meta_loss(model, meta, [episode]).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, [0.25, 0.25, 0.25, 0.25]),
        (5, [0.125, 0.125, 0.125, 0.625]),
        (10, [0, 0, 0, 1]),
        (99, [0, 0, 0, 1]),
    ],
)
def test_the_weights_of_the_multi_step_loss_go_from_even_to_the_last(count, expected):
    assert MAMLPlusPlus(4, anneal=10).step_weights(count) == pytest.approx(expected)


@pytest.mark.parametrize("count", [0, 4, 10])
def test_the_multi_step_loss_is_the_weighted_sum_over_steps(count, theta):
    episode, learner = quadratic_episode(1), MAMLPlusPlus(3, RATE, anneal=10)
    meta = learner.init(Quadratic(), torch.Generator())
    meta |= {"start.theta": theta, "outer_steps": torch.tensor(float(count))}
    loss, found = meta_gradient(learner, Quadratic(), meta, [episode])
    step = torch.eye(D) - RATE * episode.support.inputs["A"]
    expected, direction = 0.0, torch.zeros(D)
    for i, weight in enumerate(learner.step_weights(count), 1):
        end = descend(theta, [episode.support] * i)
        expected += weight * Quadratic().forward({"theta": end}, episode.query).item()
        direction += weight * torch.linalg.matrix_power(step, i) @ slope(episode.query, end)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert torch.allclose(found["start.theta"], direction, atol=1e-12)
    assert set(found) == {"start.theta", "log_rate.theta"}


def test_every_step_of_maml_plus_plus_has_its_own_rate(theta):
    episode, learner = quadratic_episode(1), MAMLPlusPlus(2, anneal=0)
    rates = torch.tensor([0.1, 0.02])
    meta = learner.init(Quadratic(), torch.Generator()) | {
        "start.theta": theta,
        "log_rate.theta": rates.log(),
    }
    first = descend(theta, [episode.support], rates[0])
    second = descend(first, [episode.support], rates[1])
    assert torch.allclose(learner.adapt(Quadratic(), meta, episode.support)["theta"], second, atol=1e-12)
    found = gradients(learner, Quadratic(), meta, [episode])["log_rate.theta"]
    outer = slope(episode.query, second)
    through = (torch.eye(D) - rates[1] * episode.support.inputs["A"]) @ outer
    expected = [
        -rates[0] * slope(episode.support, theta) @ through,
        -rates[1] * slope(episode.support, first) @ outer,
    ]
    assert torch.allclose(found, torch.stack(expected), atol=1e-12)


def test_maml_plus_plus_counts_outer_steps_and_starts_with_first_order(theta):
    episode, learner = quadratic_episode(1), MAMLPlusPlus(3, RATE, anneal=0, first_order_steps=2)
    meta = learner.init(Quadratic(), torch.Generator()) | {"start.theta": theta}
    for others in (fomaml, fomaml, MAML):
        expected = gradients(others(3, RATE), Quadratic(), maml_meta(theta), [episode])
        found = gradients(learner, Quadratic(), meta, [episode])
        assert torch.allclose(found["start.theta"], expected["start.theta"], atol=1e-12)
        meta = meta | learner.write(Quadratic(), meta, [episode])
    assert meta["outer_steps"].item() == 3


def maml_meta(theta):
    return {"start.theta": theta, "log_rate.theta": torch.tensor(math.log(RATE))}


def test_anil_moves_the_head_alone_and_boil_the_body_alone():
    model, episode = regressor(8), sinusoid(1)
    head = {"4.weight", "4.bias"}
    for learner, own in ((anil(3, RATE), head), (BOIL(3, RATE), set(model.init(0)) - head)):
        meta = learner.init(model, torch.Generator())
        adapted = learner.adapt(model, meta, episode.support)
        assert set(adapted) == own
        assert all(not torch.equal(adapted[n], meta[f"start.{n}"]) for n in own)
        found = gradients(learner, model, meta, [episode])
        assert all(bool(found[f"start.{n}"].any()) for n in model.init(0))


def test_over_a_head_alone_anil_is_maml_with_fixed_rates(toy_model, toy_episode):
    model, episode = toy_model(), toy_episode()
    one, other = anil(), MAML(learn_rates="none")
    meta = starting(one, model)
    assert set(meta) == set(other.init(model, torch.Generator()))
    found, expected = gradients(one, model, meta, [episode]), gradients(other, model, meta, [episode])
    for name in meta:
        assert torch.allclose(found[name], expected[name], atol=1e-14)


@pytest.mark.parametrize("adapt", ["bias", "head", "all"])
def test_over_a_head_alone_an_adaptation_is_the_whole_head(adapt, toy_model, toy_episode):
    model, episode = toy_model(), toy_episode()
    learner = MAML(adapt=adapt)
    meta = learner.init(model, torch.Generator())
    assert list(learner.adapt(model, meta, episode.support)) == list(model.init(3))


def test_cavia_whose_context_is_every_parameter_is_maml(theta):
    episode = quadratic_episode(1)
    learner = CAVIA(4, RATE, n_context=D, at="theta")
    meta = learner.init(Quadratic(), torch.Generator())
    meta |= {"start.theta": theta, "start.context_map.theta": torch.eye(D)}
    end = descend(theta, [episode.support] * 4)
    context = learner.adapt(Quadratic(), meta, episode.support)
    assert list(context) == ["context"]
    assert torch.allclose(context["context"], end - theta, atol=1e-12)
    found = gradients(learner, Quadratic(), meta, [episode])
    expected = gradients(MAML(4, RATE, learn_rates="none"), Quadratic(), {"start.theta": theta}, [episode])
    assert torch.allclose(found["start.theta"], expected["start.theta"], atol=1e-12)


def test_cavias_context_in_a_bias_is_context_beside_the_inputs():
    model, episode = regressor(6), sinusoid(1)
    learner = CAVIA(2, RATE, n_context=2, at="0.bias")
    meta = starting(learner, model)
    adapted = learner.adapt(model, meta, episode.support)
    assert {n: tuple(v.shape) for n, v in adapted.items()} == {"context": (2,)}
    found = learner.predict(model, meta, adapted, episode.query)
    weight = torch.cat([meta["start.0.weight"], meta["start.context_map.0.bias"]], 1)
    x = episode.query.inputs["x"]
    beside = torch.cat([x, adapted["context"].expand(len(x), -1)], 1)
    hidden = torch.tanh(beside @ weight.T + meta["start.0.bias"])
    hidden = torch.tanh(hidden @ meta["start.2.weight"].T + meta["start.2.bias"])
    expected = hidden @ meta["start.4.weight"].T + meta["start.4.bias"]
    assert torch.allclose(found, expected, atol=1e-12)


def test_cavia_learns_new_labels_beside_the_context_and_keeps_nothing_of_them_elsewhere():
    torch.manual_seed(0)
    model = EmbeddingModel(nn.Sequential(nn.Linear(20, 8), nn.Tanh()), 8, n_labels=5)
    episode, learner = five_ways(1), CAVIA(3, 0.5)
    meta = starting(learner, model)

    def adapted(classes):
        support = Batch(episode.support.inputs, episode.support.targets, torch.tensor(classes))
        return learner.adapt(model, meta, support)

    assert set(adapted([3, 0, 1, 2, 4])) == {"context"}
    found = adapted([3, -1, 1, 2, -1])
    assert set(found) == {"context", "own.weight.features", "own.bias"}
    assert found["own.bias"].ne(0).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("sharpness", [1.0, 0.3])
def test_protomaml_starts_as_protonet(sharpness):
    model, episode = embedder(), five_ways(3, shots=2)
    learner = ProtoMAML(1, 1e-300, sharpness=sharpness, learn_rates="none")
    meta = learner.init(model, torch.Generator())
    with torch.no_grad():
        logits = learner.predict(model, meta, learner.adapt(model, meta, episode.support), episode.query)
        support, query = (
            model.embed(model.init(0), b).inputs["features"]
            for b in vars(episode).values()
            if isinstance(b, Batch)
        )
    centres = torch.stack([support[episode.support.targets == y].mean(0) for y in range(5)])
    expected = -sharpness * torch.cdist(query, centres).square()
    assert torch.allclose(logits.softmax(1), expected.softmax(1), atol=1e-12)


def test_protomaml_never_predicts_a_label_without_examples():
    model, episode = embedder(), five_ways(3, shots=2)
    learner = ProtoMAML(3, 0.5)
    meta = learner.init(model, torch.Generator())
    support = episode.support[episode.support.targets != 2]
    logits = learner.predict(model, meta, learner.adapt(model, meta, support), episode.query)
    assert bool(torch.isfinite(logits).all())
    assert 2 not in logits.argmax(1)


def test_a_zero_head_leaves_nothing_of_other_tasks_labels():
    torch.manual_seed(0)
    model = EmbeddingModel(nn.Sequential(nn.Linear(20, 8), nn.Tanh()), 8, n_labels=5)
    learner, episode = ProtoMAML(1, 0.5, "head", zero_head=True, learn_rates="none"), five_ways(1)
    meta = learner.init(model, torch.Generator())
    assert set(meta) == {"start.0.weight", "start.0.bias", "prior_trust"}
    adapted = learner.adapt(model, meta, episode.support)
    features = model.embed(model.init(5), episode.support).inputs["features"]
    residual = F.one_hot(episode.support.targets, 5) - 1 / 5
    assert torch.allclose(adapted["weight.features"], 0.5 * residual.T @ features / 5, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in MODULE_LEARNERS if n not in {"fomaml", "reptile"}])
def test_the_gradient_is_that_of_finite_differences(name):
    torch.manual_seed(0)
    model = ModuleModel(nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)), F.mse_loss)
    learner = made(name) if name in {"multitask", "imaml"} else made(name, steps=2)
    checked(learner, model, [sinusoid(s, 4, 3) for s in range(2)])


@pytest.mark.parametrize("options", [{}, {"zero_head": True}, {"adapt": "head"}, {"adapt": "body"}])
def test_protomamls_gradient_is_that_of_finite_differences(options):
    torch.manual_seed(0)
    model = EmbeddingModel(nn.Sequential(nn.Linear(20, 2), nn.Tanh()), 2)
    if options == {"adapt": "body"}:  # a head of prototypes that stays
        assert "log_rate.bias" not in ProtoMAML(**options).init(model, torch.Generator())
    checked(ProtoMAML(2, 0.1, **options), model, [five_ways(s, queries=1) for s in range(2)])


def checked(learner, model, episodes):
    meta = starting(learner, model)
    names = [n for n in meta if learner.outer_rate(n)]

    def loss(*values):
        return learner.meta_loss(model, meta | dict(zip(names, values, strict=True)), episodes)

    values = [meta[n].double().requires_grad_() for n in names]
    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-6)


@every_module_learner
def test_recomputing_and_parts_change_nothing(name):
    model, learner = regressor(5), made(name)
    meta = starting(learner, model)
    episodes = [sinusoid(s, 5, 4) for s in range(4)]
    expected = gradients(learner, model, meta, episodes, chunk=4)
    for options in ({"chunk": 4, "recompute": True}, {"chunk": 3}, {"chunk": 1, "recompute": True}):
        found = gradients(learner, model, meta, episodes, **options)
        for n in expected:
            assert torch.allclose(found[n], expected[n], atol=1e-9), n


@every_module_learner
def test_a_tasks_gradient_does_not_depend_on_its_neighbours(name):
    model, learner = regressor(5), made(name)
    meta = starting(learner, model)
    shapes = [(5, 4), (3, 4), (5, 4), (5, 2)]
    episodes = [
        Episode(e.support, e.query, weight=1.0 + s)
        for s, shape in enumerate(shapes)
        for e in [sinusoid(s, *shape)]
    ]
    together = gradients(learner, model, meta, episodes)
    turned = gradients(learner, model, meta, episodes[::-1])
    alone = [gradients(learner, model, meta, [e]) for e in episodes]
    for n, value in together.items():
        mean = sum(e.weight * g[n] for e, g in zip(episodes, alone, strict=True)) / 10
        assert torch.allclose(value, mean, atol=1e-9), n
        assert torch.allclose(value, turned[n], atol=1e-9), n


class Words(nn.Module):
    """The mean of the words' embeddings, under a linear layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(60, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, ids):
        return self.out(torch.tanh(self.embedding(ids).mean(1)))


@every_module_learner
def test_the_rows_of_an_embedding_table_are_as_good_as_the_table(name, monkeypatch):
    def words(count, chance):
        ids = torch.randint(0, 60, (count, 3), generator=chance)
        return Batch({"ids": ids}, torch.arange(count) % 3, torch.arange(3))

    torch.manual_seed(0)
    model, learner = ModuleModel(Words()), made(name)
    chances = [torch.Generator().manual_seed(seed) for seed in range(3)]
    episodes = [Episode(words(6, chance), words(9, chance)) for chance in chances]
    meta = starting(learner, model)
    found = gradients(learner, model, meta, episodes)
    monkeypatch.setattr(InnerLoop, "cut_tables", lambda self, model, meta, begin, *stacks: (begin, {}))
    expected = gradients(learner, model, meta, episodes)
    for n in expected:
        assert torch.allclose(found[n], expected[n], atol=1e-9), n
