"""One table of properties for every registered learner, and the answers known beforehand."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge as SklearnRidge

from metaglot.config import TrainSettings
from metaglot.errors import DataError, SettingsError, UnknownNameError
from metaglot.learners import DEFAULT_LEARNER, LEARNERS
from metaglot.learners.base import Learner, check_pair
from metaglot.learners.protonet import ProtoNet
from metaglot.learners.ridge import Ridge, sharpness_at
from metaglot.model import target_table
from metaglot.outer_loop import meta_train, source_episode
from metaglot.space import draw_support
from metaglot.types import Batch, Episode

# What can work on a head over frozen features; those that need a body of its own are tested on modules.
ON_HEADS = [name for name in LEARNERS if "label-scores" in LEARNERS[name]().needs]
every_learner = pytest.mark.parametrize("name", ON_HEADS)
# Their gradients are not that of the loss's value, on purpose: FOMAML's leaves out the curvature, Reptile's
# is θ − φ. Both are tested against what they should be, in test_learners_maml and test_learners_gradient.
SURROGATES = {"fomaml", "reptile"}
# Their loss is not the query loss after adapting: it is that of joint training, or of every inner step.
OTHER_LOSSES = {"multitask", "maml++"}
# Their predictions are not linear in the features: they have adaptations of their own.
NOT_LINEAR = {"laplace", "matching"}
every_blocks = pytest.mark.parametrize(
    "blocks", [{"dense": 4, "lexical": 5}, {"dense": 4}, {"lexical": 5}], ids=["both", "dense", "lexical"]
)


def start(learner, model, seed=0):
    return learner.init(model, torch.Generator().manual_seed(seed))


def moved(learner, model, seed=0):
    """Meta-parameters away from the start, where terms that happen to be zero there are not."""
    chance = torch.Generator().manual_seed(seed)
    return {
        k: v + 0.1 * torch.randn(v.shape, generator=chance) if learner.outer_rate(k) > 0 else v
        for k, v in start(learner, model).items()
    }


def logits_of(learner, model, meta, episode):
    with torch.no_grad():
        adapted = learner.adapt(model, meta, episode.support)
        return learner.predict(model, meta, adapted, episode.query)


def renumbered(batch, order):
    """The batch with its labels numbered anew: label order[i] becomes i."""
    place = torch.argsort(order)
    prior = None if batch.prior is None else batch.prior[:, order]
    return Batch(batch.inputs, place[batch.targets], batch.classes[order], prior)


@every_learner
def test_it_keeps_the_contract(name, toy_model):
    learner = LEARNERS[name]()
    assert isinstance(learner, Learner)
    assert learner.needs
    assert LEARNERS.describe()[name]
    check_pair(name, learner, "classification", toy_model().outputs)


@every_learner
@every_blocks
def test_its_start_is_a_function_of_the_generator(name, blocks, toy_model):
    model, learner = toy_model(blocks=blocks), LEARNERS[name]()
    one, other = start(learner, model), start(learner, model)
    assert one
    for key, value in one.items():
        assert torch.equal(value, other[key])
        assert learner.outer_rate(key) >= 0
        # State, which no gradient changes, may be whole numbers.
        assert value.dtype == torch.get_default_dtype() or learner.outer_rate(key) == 0
    assert any(learner.outer_rate(key) > 0 for key in one)


@every_learner
@every_blocks
@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize(
    ("counts", "classes"),
    [((2, 2, 2), None), ((1, 1, 1), None), ((5, 1, 2), None), ((2, 2, 2), [3, -1, 0]), ((1, 1), [-1, -1])],
    ids=["even", "one shot", "uneven", "a new label", "new labels alone"],
)
def test_it_adapts_to_any_support_set(name, blocks, prior, counts, classes, toy_model, toy_episode):
    model, learner = toy_model(blocks=blocks), LEARNERS[name]()
    episode = toy_episode(counts, classes=classes, blocks=blocks, prior=prior, noise=0.1)
    meta = start(learner, model)
    with torch.no_grad():
        adapted = learner.adapt(model, meta, episode.support)
    assert not any(value.requires_grad for value in adapted.values())
    logits = learner.predict(model, meta, adapted, episode.query)
    if name not in NOT_LINEAR:
        head = model.init(len(counts))
        assert {k: v.shape for k, v in adapted.items()} == {k: v.shape for k, v in head.items()}
        assert torch.equal(logits, model.forward(adapted, episode.query))
    assert logits.shape == (len(episode.query), len(counts))
    assert bool(torch.isfinite(logits).all())
    hits = (logits.argmax(1) == episode.query.targets).double().mean()
    assert hits > 1.3 / len(counts)


@every_learner
def test_it_changes_none_of_its_arguments(name, toy_model, toy_episode):
    model, learner, episode = toy_model(), LEARNERS[name](), toy_episode()
    meta = moved(learner, model)
    before = copy.deepcopy((meta, episode))
    with torch.no_grad():
        learner.adapt(model, meta, episode.support)
    differentiable = {k: v.clone().requires_grad_(learner.outer_rate(k) > 0) for k, v in meta.items()}
    prepared = learner.prepare(model, episode)
    kept = copy.deepcopy(prepared)
    learner.meta_loss(model, differentiable, [prepared]).backward()
    for old, new in ((before[1].support, episode.support), (before[1].query, episode.query)):
        assert all(torch.equal(old.inputs[k], new.inputs[k]) for k in old.inputs)
        assert torch.equal(old.targets, new.targets)
        assert torch.equal(old.classes, new.classes)
        assert torch.equal(old.prior, new.prior)
    assert all(torch.equal(before[0][k], meta[k]) for k in meta)
    assert all(torch.equal(differentiable[k], meta[k]) for k in meta)
    again = learner.meta_loss(model, meta, [kept])
    assert torch.equal(again.detach(), learner.meta_loss(model, meta, [prepared]).detach())
    written = learner.write(model, meta, [prepared])
    assert all(learner.outer_rate(k) == 0 and v.shape == meta[k].shape for k, v in written.items())
    assert all(torch.equal(before[0][k], meta[k]) for k in meta)


@every_learner
def test_the_order_of_the_examples_does_not_matter(name, toy_model, toy_episode, double):
    model, learner = toy_model(), LEARNERS[name]()
    episode = toy_episode((3, 1, 2))
    meta = moved(learner, model)
    logits = logits_of(learner, model, meta, episode)
    some = torch.randperm(len(episode.support), generator=torch.Generator().manual_seed(1))
    other = torch.randperm(len(episode.query), generator=torch.Generator().manual_seed(2))
    again = logits_of(learner, model, meta, Episode(episode.support[some], episode.query[other]))
    assert torch.allclose(again, logits[other], atol=1e-9)


@every_learner
def test_the_numbers_of_the_labels_do_not_matter(name, toy_model, toy_episode, double):
    model, learner = toy_model(), LEARNERS[name]()
    episode = toy_episode((3, 1, 2), classes=[2, -1, 0])
    meta = moved(learner, model)
    logits = logits_of(learner, model, meta, episode)
    order = torch.tensor([2, 0, 1])
    again = Episode(renumbered(episode.support, order), renumbered(episode.query, order))
    assert torch.allclose(logits_of(learner, model, meta, again), logits[:, order], atol=1e-9)


@every_learner
def test_support_sets_that_teach_nothing_are_refused(name, toy_model, toy_episode):
    model, learner = toy_model(), LEARNERS[name]()
    meta, support = start(learner, model), toy_episode().support
    with pytest.raises(DataError, match="at least two labels, found one"):
        learner.adapt(model, meta, support[support.targets == 1])
    with pytest.raises(DataError, match="found no example"):
        learner.adapt(model, meta, support[torch.zeros(len(support), dtype=torch.bool)])
    for wrong in (3, -1):
        targets = torch.cat([torch.tensor([wrong]), support.targets[1:]])
        with pytest.raises(DataError, match="label numbers from 0 to 2"):
            learner.adapt(model, meta, Batch(support.inputs, targets, support.classes, support.prior))


@every_learner
@every_blocks
def test_the_loss_teaches_every_meta_parameter(name, blocks, toy_model, toy_episode):
    model, learner = toy_model(blocks=blocks), LEARNERS[name]()
    meta = moved(learner, model)
    for place in range(2):  # what a learner writes, it writes of other tasks
        past = replace(toy_episode(seed=place + 5, blocks=blocks), task=f"past {place}")
        meta |= learner.write(model, meta, [learner.prepare(model, past)])
    meta = {k: v.requires_grad_(learner.outer_rate(k) > 0) for k, v in meta.items()}
    episodes = [toy_episode((2, 1, 3), seed=seed, blocks=blocks, classes=[2, 0, 1]) for seed in range(2)]
    loss = learner.meta_loss(model, meta, [learner.prepare(model, e) for e in episodes])
    assert loss.shape == ()
    assert bool(torch.isfinite(loss))
    loss.backward()
    for key, value in meta.items():
        if learner.outer_rate(key) == 0:
            continue  # state, which no gradient changes
        assert value.grad is not None, key
        assert bool(torch.isfinite(value.grad).all()), key
        assert bool(value.grad.any()), key


@pytest.mark.parametrize("name", [n for n in ON_HEADS if n not in OTHER_LOSSES])
def test_the_loss_is_the_mean_query_loss_after_adapting(name, toy_model, toy_episode):
    model, learner = toy_model(), LEARNERS[name]()
    meta = moved(learner, model)
    episodes = [toy_episode(counts, seed=seed) for seed, counts in enumerate([(1, 1, 1), (4, 2, 3)])]
    loss = learner.meta_loss(model, meta, [learner.prepare(model, e) for e in episodes])
    by_hand = [F.cross_entropy(logits_of(learner, model, meta, e), e.query.targets) for e in episodes]
    assert loss.item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-5)


@pytest.mark.parametrize("name", [n for n in ON_HEADS if n not in SURROGATES])
def test_the_meta_gradient_is_that_of_finite_differences(name, toy_model, toy_episode, double):
    blocks = {"dense": 2, "lexical": 3}
    model = toy_model(3, blocks)
    learner = LEARNERS[name](steps=2) if name == "maml" else LEARNERS[name]()
    episodes = [
        learner.prepare(model, toy_episode((2, 1, 2), blocks=blocks, queries=2, seed=s)) for s in range(2)
    ]
    meta = moved(learner, model)
    learned = [k for k in meta if learner.outer_rate(k) > 0]
    values = [meta[k].requires_grad_() for k in learned]

    def loss(*given):
        return learner.meta_loss(model, meta | dict(zip(learned, given, strict=True)), episodes)

    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-6)


@every_learner
def test_meta_training_lowers_the_loss_on_fixed_episodes(name, noisy_sources):
    learner, model = LEARNERS[name](), noisy_sources.model.task_model
    settings = TrainSettings(steps=30, episodes=4, pool=12, shots=(1, 2, 4), queries=3)
    result = meta_train(noisy_sources, learner, settings, name=name)
    assert len(result.losses) == 30
    assert not any(v.requires_grad for v in result.meta.values())
    episodes = [learner.prepare(model, source_episode(noisy_sources, settings, i)) for i in range(12)]
    with torch.no_grad():
        before = learner.meta_loss(model, start(learner, model), episodes).item()
        after = learner.meta_loss(model, result.meta, episodes).item()
    assert after < 0.995 * before


@every_learner
def test_it_knows_new_texts_of_a_held_out_language(name, sources, space):
    learner, (task,) = LEARNERS[name](), space.held_out
    meta = start(learner, sources.model.task_model)
    pool, test = target_table(sources.model, task, task.pool), target_table(sources.model, task, task.test)
    rows = draw_support(task.pool, task.labels, 2, 0)
    episode = Episode(
        pool.batch(sources.model, rows, task.labels),
        test.batch(sources.model, torch.arange(len(task.test)), task.labels),
    )
    logits = logits_of(learner, sources.model.task_model, meta, episode)
    assert (logits.argmax(1) == episode.query.targets).double().mean() > 0.8


@every_learner
def test_a_pair_that_cannot_work_is_refused_with_both_named(name):
    with pytest.raises(SettingsError) as error:
        check_pair(name, LEARNERS[name](), "translation", "token-scores")
    for part in (name, "translation", "token-scores", "label-scores"):
        assert part in str(error.value)


def test_a_misspelt_learner_gets_a_suggestion():
    assert DEFAULT_LEARNER in LEARNERS
    with pytest.raises(UnknownNameError, match=r"Did you mean 'protonet'"):
        LEARNERS["protonets"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("maml", {"steps": 0}),
        ("maml", {"rate": -1.0}),
        ("maml", {"rate": float("nan")}),
        ("fomaml", {"steps": 0}),
        ("auto", {"steps": 0}),
        ("mixture", {"penalty": 0.0}),
        ("mixture", {"dense_scale": -1.0}),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options):
    with pytest.raises(SettingsError, match="expected"):
        LEARNERS[name](**options)


def test_protonets_logits_are_scaled_squared_distances(toy_model, toy_episode, double):
    model, episode = toy_model(), toy_episode((1, 3, 2))
    learner = ProtoNet()
    meta = moved(learner, model)
    logits = logits_of(learner, model, meta, episode)
    expected = torch.zeros_like(logits)
    for block in model.blocks:
        P = meta.get(f"projection.{block}", torch.eye(model.blocks[block]))
        f = episode.support.inputs[block] @ P.T
        centres = torch.stack([f[episode.support.targets == y].mean(0) for y in range(3)])
        distance = torch.cdist(episode.query.inputs[block] @ P.T, centres).square()
        expected -= meta[f"log_sharpness.{block}"].exp() * distance
    difference = logits - expected
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-9)
    assert torch.allclose(logits.softmax(1), expected.softmax(1), atol=1e-10)


def test_protonet_never_predicts_a_label_without_examples(toy_model, toy_episode):
    model, episode = toy_model(), toy_episode((2, 0, 2))
    logits = logits_of(ProtoNet(), model, start(ProtoNet(), model), episode)
    assert not bool((logits.argmax(1) == 1).any())


def test_ridges_head_is_scikit_learns_times_the_sharpness(toy_model, toy_episode, double):
    model, episode = toy_model(), toy_episode((2, 3, 1))
    learner = Ridge()
    meta = moved(learner, model)
    scaled = {b: meta[f"log_scale.{b}"].exp() for b in model.blocks}

    def features(batch):
        return torch.cat([scaled[b] * batch.inputs[b] for b in model.blocks], 1).numpy()

    targets = F.one_hot(episode.support.targets, 3).double() - 1 / 3
    theirs = SklearnRidge(alpha=meta["log_penalty"].exp().item(), fit_intercept=False)
    theirs.fit(features(episode.support), targets.numpy())
    expected = torch.from_numpy(theirs.predict(features(episode.query)))
    tau = sharpness_at(meta["log_sharpness"], 2.0)
    logits = logits_of(learner, model, meta, episode)
    assert torch.allclose(logits, tau * expected, atol=1e-10)


def test_a_batchs_kernel_is_its_rows_products_and_a_part_has_its_own(toy_episode):
    support = toy_episode((2, 3, 1)).support
    X = support.inputs["dense"]
    assert torch.equal(support.gram("dense"), X @ X.T)
    assert support.gram("dense") is support.gram("dense")
    rows = torch.tensor([4, 0])
    assert torch.allclose(support[rows].gram("dense"), (X @ X.T)[rows][:, rows])


def test_the_sharpness_is_a_power_of_the_shots():
    curve = torch.tensor([2.0, 0.5], dtype=torch.float64)
    for shots, exponent in ((1, 2.0), (0.5, 2.0), (2, 2.5), (8, 3.5)):
        assert sharpness_at(curve, shots).item() == pytest.approx(torch.tensor(exponent).exp().item())
