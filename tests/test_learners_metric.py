"""Learners whose head is worked out, not stepped to: what all share on a body; identities of metric ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metaglot.errors import DataError, MetaglotError
from metaglot.evaluation.grid import run_grid
from metaglot.label_scores import LabelScores
from metaglot.learners import LEARNERS
from metaglot.learners.base import body_of
from metaglot.learners.matching import Matching, attention
from metaglot.learners.modules import EmbeddingModel
from metaglot.learners.protonet import ProtoNet
from metaglot.model import target_table
from metaglot.space import draw_support
from metaglot.types import Batch, Episode
from small_tasks import embedder, five_ways, judge, learn

CLOSED = ("protonet", "matching", "memory", "ridge", "logistic", "laplace")
every_one = pytest.mark.parametrize("name", CLOSED)


def begun(learner, model):
    return learner.init(model, torch.Generator().manual_seed(0))


def body(seed=0):
    """A small nonlinear body in the default precision, whose embeddings are 3 wide."""
    torch.manual_seed(seed)
    return EmbeddingModel(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), 3)


def episode(counts=(2, 1, 3), seed=0, queries=2):
    chance = torch.Generator().manual_seed(seed)
    centres = torch.randn(len(counts), 4, generator=chance)

    def batch(numbers):
        targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(numbers))
        x = centres[targets] + 0.3 * torch.randn(len(targets), 4, generator=chance)
        return Batch({"x": x}, targets, torch.full((len(counts),), -1))

    return Episode(batch(counts), batch([queries] * len(counts)))


def logits_of(learner, model, meta, task):
    with torch.no_grad():
        return learner.predict(model, meta, learner.adapt(model, meta, task.support), task.query)


# --- on a body, all of them


@every_one
def test_an_adaptation_is_the_tasks_own_parameters_alone(name):
    model, learner = body(), LEARNERS[name]()
    meta = begun(learner, model)
    assert {"start." + n for n in model.body} <= set(meta)
    adapted = learner.adapt(model, meta, episode().support)
    assert not set(adapted) & model.body
    if name not in {"matching", "laplace"}:
        assert set(adapted) == model.head
        whole = body_of(model, meta) | adapted
        found = learner.predict(model, meta, adapted, episode().query)
        assert torch.equal(found, model.forward(whole, episode().query))


@every_one
def test_neither_order_nor_company_matters(name, double):
    model, learner, task = body(), LEARNERS[name](), episode((3, 1, 2))
    meta = begun(learner, model)
    logits = logits_of(learner, model, meta, task)
    some = torch.randperm(len(task.support), generator=torch.Generator().manual_seed(1))
    shuffled = Episode(task.support[some], task.query)
    assert torch.allclose(logits_of(learner, model, meta, shuffled), logits, atol=1e-9)
    for row in range(len(task.query)):
        alone = Episode(task.support, task.query[torch.tensor([row])])
        assert torch.allclose(logits_of(learner, model, meta, alone)[0], logits[row], atol=1e-10)
    tasks = [episode(counts, seed) for seed, counts in enumerate([(2, 2, 2), (1, 1), (3, 1, 2)])]
    together = learner.meta_loss(model, meta, tasks)
    one_by_one = torch.stack([learner.meta_loss(model, meta, [t]) for t in tasks])
    assert torch.allclose(together, one_by_one.mean(), atol=1e-12)
    assert torch.allclose(together, learner.meta_loss(model, meta, tasks[::-1]), atol=1e-12)
    heavier = [Episode(t.support, t.query, weight=w) for t, w in zip(tasks, (1.0, 3.0, 0.0), strict=True)]
    assert torch.allclose(learner.meta_loss(model, meta, heavier), one_by_one @ torch.tensor([0.25, 0.75, 0]))


@every_one
def test_the_meta_gradient_through_the_body_is_that_of_finite_differences(name, double):
    model, learner = body(), LEARNERS[name]()
    tasks = [episode((2, 1, 2), seed) for seed in range(2)]
    meta = begun(learner, model)
    learned = [n for n in meta if learner.outer_rate(n) > 0]

    def loss(*given):
        return learner.meta_loss(model, meta | dict(zip(learned, given, strict=True)), tasks)

    values = [meta[n].double().requires_grad_() for n in learned]
    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-6)


@every_one
def test_a_module_of_double_precision_is_worked_out_in_it(name):
    model = EmbeddingModel(nn.Sequential(nn.Linear(4, 3)).double(), 3)
    learner, task = LEARNERS[name](), episode()
    wide = Episode(
        *(Batch({"x": b.inputs["x"].double()}, b.targets, b.classes) for b in (task.support, task.query))
    )
    assert logits_of(learner, model, begun(learner, model), wide).dtype == torch.float64
    single = EmbeddingModel(nn.Sequential(nn.Linear(4, 3)), 3)
    assert logits_of(learner, single, begun(learner, single), task).dtype == torch.float32


@every_one
def test_a_body_is_learned_that_finds_what_the_label_is_in(name):
    """Four of twenty columns carry it, the others are loud noise: an untrained body is near chance."""
    model, learner = embedder(), LEARNERS[name]()
    before, meta = learn(learner, model, five_ways, 60)
    (loss, right), (loss_before, right_before) = (judge(learner, model, m, five_ways) for m in (meta, before))
    assert right > right_before + 0.2
    assert loss < loss_before - 0.4


@pytest.mark.parametrize("name", ["protonet", "matching", "memory"])
def test_a_projection_is_learned_over_features_that_noise_drowns(name):
    """Eight frozen columns, turned about: two directions carry the label, six are noise."""
    model, learner = LabelScores({"dense": 8}, 0), LEARNERS[name]()
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]

    def family(seed):
        chance = torch.Generator().manual_seed(seed)
        centres = torch.randn(5, 2, generator=chance)

        def batch(count):
            targets = torch.arange(5).repeat_interleave(count)
            x = 0.5 * torch.randn(len(targets), 8, generator=chance)
            x[:, :2] = centres[targets] + 0.1 * torch.randn(len(targets), 2, generator=chance)
            return Batch({"dense": x @ turn}, targets, torch.full((5,), -1))

        return Episode(batch(1), batch(5))

    before, meta = learn(learner, model, family, 120)
    assert judge(learner, model, meta, family)[1] > judge(learner, model, before, family)[1] + 0.03
    assert judge(learner, model, meta, family)[0] < judge(learner, model, before, family)[0] - 0.3


# --- what is wrong with a support set or a query set


@every_one
@pytest.mark.parametrize("kind", ["frozen", "body"])
def test_what_does_not_fit_is_refused(name, kind):
    frozen = LabelScores({"x": 4}, 4)
    model, learner = frozen if kind == "frozen" else body(), LEARNERS[name]()
    meta, support = begun(learner, model), episode().support
    x, targets, classes = support.inputs["x"], support.targets, support.classes
    faults = {
        "found no example": support[:0],
        "at least two labels, found one": support[targets == 2],
        "label numbers from 0 to 2": Batch({"x": x}, targets + 1, classes),
        "6 targets": Batch({"x": x[:4]}, targets, classes),
    }
    for message, wrong in faults.items():
        with pytest.raises(DataError, match=message):
            learner.adapt(model, meta, wrong)
    if kind == "frozen":
        with pytest.raises(DataError, match=r"expected features \[6, 4\] in block 'x'.*found \[6, 3\]"):
            learner.adapt(model, meta, Batch({"x": x[:, :3]}, targets, classes))
        with pytest.raises(DataError, match="expected blocks of features x, found y"):
            learner.adapt(model, meta, Batch({"y": x}, targets, classes))
        with pytest.raises(MetaglotError, match="expected features"):
            adapted = learner.adapt(model, meta, support)
            learner.predict(model, meta, adapted, Batch({"x": x[:, :3]}, targets, classes))


@every_one
def test_a_label_without_examples_does_not_disturb_the_others(name):
    model, learner, task = body(), LEARNERS[name](), episode((3, 2))
    meta = begun(learner, model)
    wider = [Batch(b.inputs, b.targets, torch.full((3,), -1)) for b in (task.support, task.query)]
    logits = logits_of(learner, model, meta, Episode(*wider))
    assert torch.equal(logits[:, :2].argmax(1), logits_of(learner, model, meta, task).argmax(1))
    assert not bool((logits.argmax(1) == 2).any())


# --- prototypical networks


def test_protonets_logits_are_minus_squared_distances_in_the_body(double):
    model, learner, task = body(), ProtoNet(), episode((1, 3, 2))
    meta = begun(learner, model) | {"log_sharpness.features": torch.tensor(0.7)}
    f, q = (model.embed(body_of(model, meta), b).inputs["features"] for b in (task.support, task.query))
    centres = torch.stack([f[task.support.targets == y].mean(0) for y in range(3)])
    expected = -torch.tensor(0.7).exp() * torch.cdist(q, centres).square()
    difference = logits_of(learner, model, meta, task) - expected
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-10)


def test_a_body_is_its_own_projection(toy_model):
    assert not any("projection" in n for n in begun(ProtoNet(), body()))
    assert "projection.dense" in begun(ProtoNet(), toy_model())
    assert "projection.lexical" not in begun(ProtoNet(), toy_model())


# --- matching networks


@pytest.mark.parametrize("kind", ["frozen", "body"])
def test_attention_sums_to_one_and_labels_get_that_of_their_examples(kind, toy_model, toy_episode, double):
    model = toy_model() if kind == "frozen" else body()
    task = toy_episode((1, 3, 2)) if kind == "frozen" else episode((1, 3, 2))
    learner = Matching()
    meta = begun(learner, model)
    adapted = learner.adapt(model, meta, task.support)
    paid = attention(model, meta, adapted, task.query)
    assert paid.shape == (len(task.query), 6)
    assert torch.allclose(paid.sum(1), torch.ones(len(paid)))
    assert bool((paid > 0).all())
    chances = learner.predict(model, meta, adapted, task.query).exp()
    assert torch.allclose(chances, paid @ F.one_hot(task.support.targets, 3).double())
    assert torch.allclose(chances.sum(1), torch.ones(len(paid)))


def test_attention_is_the_softmax_of_cosines(double):
    model, learner = LabelScores({"x": 2}, 0), Matching()
    meta = begun(learner, model) | {"log_sharpness.x": torch.tensor(3.0).log()}
    support = Batch(
        {"x": torch.tensor([[2.0, 0.0], [0.0, 0.5], [-7.0, 0.0]])},
        torch.tensor([0, 1, 1]),
        torch.tensor([-1, -1]),
    )
    query = Batch({"x": torch.tensor([[3.0, 4.0]])}, torch.tensor([0]), support.classes)
    paid = attention(model, meta, learner.adapt(model, meta, support), query)
    assert torch.allclose(paid, torch.tensor([[1.8, 2.4, -1.8]]).softmax(1))  # cosines 0.6, 0.8 and −0.6


def test_sharp_attention_neither_underflows_nor_overflows():
    model, learner, task = body(), Matching(), episode()
    meta = begun(learner, model) | {"log_sharpness.features": torch.tensor(9.0)}  # cosines times 8,000
    logits = logits_of(learner, model, meta, task)
    assert bool(torch.isfinite(logits).all())
    assert torch.allclose(logits.exp().sum(1), torch.ones(len(logits)), atol=1e-5)


def test_the_grid_asks_a_learner_for_what_is_no_linear_head(sources, space):
    model, (task,) = sources.model.task_model, space.held_out
    made = {name: (LEARNERS[name](), begun(LEARNERS[name](), model)) for name in ("matching", "laplace")}
    records = run_grid(sources, space, made, baselines=[], shots=(0, 2), draws=1)
    assert {(r.method, r.shots) for r in records} == {(n, k) for n in made for k in (0, 2)}
    pool, test = target_table(sources.model, task, task.pool), target_table(sources.model, task, task.test)
    support = pool.batch(sources.model, draw_support(task.pool, task.labels, 2, 0, "swh", 0), task.labels)
    query = test.batch(sources.model, torch.arange(len(task.test)), task.labels)
    for record in (r for r in records if r.shots):
        learner, meta = made[record.method]
        right = logits_of(learner, model, meta, Episode(support, query)).argmax(1) == query.targets
        assert record.metrics["accuracy"] == pytest.approx(float(right.float().mean()))


def test_protonet_and_matching_agree_with_one_example_a_label_on_directions(double):
    """Of features of length one ‖q − c‖² is 2 − 2 cos: the one's τ is twice the other's."""
    model = LabelScores({"x": 4}, 0)
    task = episode((1, 1, 1))
    unit = [
        Batch({"x": F.normalize(b.inputs["x"])}, b.targets, b.classes) for b in (task.support, task.query)
    ]
    sharp = {name: {"log_sharpness.x": torch.tensor(t).log()} for name, t in (("p", 2.0), ("m", 4.0))}
    one = logits_of(ProtoNet(), model, begun(ProtoNet(), model) | sharp["p"], Episode(*unit))
    two = logits_of(Matching(), model, begun(Matching(), model) | sharp["m"], Episode(*unit))
    assert torch.allclose(one.softmax(1), two.softmax(1), atol=1e-12)
