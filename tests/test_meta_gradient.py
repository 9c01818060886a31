"""How a meta-batch is divided never changes its gradient, and memory is what was asked for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import networks as nets
from metaglot.errors import SettingsError
from metaglot.learners import meta_gradient as engine
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.modules import ModuleModel
from metaglot.types import Episode

pytestmark = pytest.mark.usefixtures("double")


def setting(steps=2, **options):
    model = ModuleModel(nets.mlp().double())
    learner = nets.maml(steps, 0.2, **{"learn_rates": "parameter"} | options)
    return learner, model, nets.moved(learner, model)


def mixed(sizes, weights):
    """Episodes of which some have the same shape."""
    return [
        Episode(nets.batch(2 * i, n), nets.batch(2 * i + 1, n + 1), weight=w)
        for i, (n, w) in enumerate(zip(sizes, weights, strict=True))
    ]


def weighted(learner, model, meta, tasks):
    """Σ wₑ ∇lₑ / Σ wₑ, every task alone."""
    total = sum(t.weight for t in tasks)
    alone = [(t.weight / total, *nets.gradient(learner, model, meta, [t])) for t in tasks if t.weight]
    return sum(w * loss for w, loss, _ in alone), {n: sum(w * g[n] for w, _, g in alone) for n in meta}


tasks_drawn = st.lists(
    st.tuples(st.sampled_from([3, 5]), st.sampled_from([0.0, 0.5, 1.0, 3.0])), min_size=1, max_size=6
).filter(lambda rows: any(w for _, w in rows))


@settings(max_examples=25)
@given(
    tasks_drawn,
    st.sampled_from([None, 1, 2, 5]),
    st.sampled_from([None, 1, 100_000, 1 << 30]),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_no_division_changes_the_gradient(drawn, chunk, memory, recompute, first_order, chance):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        learner, model, meta = setting(first_order=first_order)
        tasks = mixed([n for n, _ in drawn], [w for _, w in drawn])
        loss, expected = weighted(learner, model, meta, tasks)
        chance.shuffle(tasks)
        found_loss, found = meta_gradient(
            learner, model, meta, tasks, chunk=chunk, memory=memory, recompute=recompute
        )
        assert torch.allclose(found_loss, loss, rtol=0, atol=1e-12)
        assert nets.apart(found, expected) < 1e-11
    finally:
        torch.set_default_dtype(before)


def test_a_task_is_none_the_wiser_for_the_company_it_keeps():
    learner, model, meta = setting()
    tasks = nets.episodes(4, weights=[1.0, 0.0, 0.0, 0.0])
    assert (
        nets.apart(
            meta_gradient(learner, model, meta, tasks)[1], nets.gradient(learner, model, meta, tasks[:1])[1]
        )
        < 1e-12
    )


def test_twice_the_weight_is_the_task_twice():
    learner, model, meta = setting()
    one, two = nets.episodes(2)
    heavy = [Episode(one.support, one.query, weight=2.0), two]
    found = meta_gradient(learner, model, meta, heavy)[1]
    assert nets.apart(found, meta_gradient(learner, model, meta, [one, one, two])[1]) < 1e-12


def test_state_that_no_optimizer_sees_has_no_gradient():
    learner, model, meta = setting()
    learner.outer_rate = lambda name: 0.0 if name == "start.0.weight" else 0.1
    found = meta_gradient(learner, model, meta, nets.episodes(2))[1]
    assert found.keys() == meta.keys() - {"start.0.weight"}
    assert not any(v.requires_grad for v in meta.values())


@pytest.mark.parametrize("options", [{"chunk": 0}, {"memory": 0}])
def test_limits_that_make_no_sense_are_refused(options):
    with pytest.raises(SettingsError, match="chunk ≥ 1"):
        meta_gradient(*setting(), nets.episodes(2), **options)


def test_no_episode_and_no_weight_are_refused():
    with pytest.raises(SettingsError, match="found 0 episodes"):
        meta_gradient(*setting(), [])
    for weights in ([0.0, 0.0], [1.0, -1.0], [-1.0, 2.0]):
        with pytest.raises(SettingsError, match="task weights ≥ 0 and one above"):
            meta_gradient(*setting(), nets.episodes(2, weights=weights))


# --- Memory.


def wide():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 3))
    learner = nets.maml(4, 0.05)
    model = ModuleModel(net.double())
    return learner, model, learner.init(model, torch.Generator()), nets.episodes(8, n=30, queries=30)


def leaves(meta):
    return {n: v.clone().requires_grad_() for n, v in meta.items()}


def peak(learner, model, meta, tasks, **options):
    """The most bytes that graphs held at one time."""
    held = engine._Held({v.untyped_storage().data_ptr() for v in meta.values()})
    with torch.autograd.graph.saved_tensors_hooks(held.keep, lambda kept: kept.tensor):
        meta_gradient(learner, model, meta, tasks, **options)
    assert held.now == 0
    return held.most


def test_what_is_held_is_counted_once_and_until_it_is_gone():
    x = torch.randn(100, requires_grad=True)
    held = engine._Held({x.data_ptr()})
    with torch.autograd.graph.saved_tensors_hooks(held.keep, lambda kept: kept.tensor):
        y = x.exp()  # keeps its result
        z = y * y  # keeps the same twice
        assert held.now == 800
        w = z.sin()
        assert held.now == 1600
    del w
    assert (held.now, held.most) == (800, 1600)
    del y, z
    assert held.now == 0


def test_less_memory_makes_more_parts_and_they_stay_within_it():
    learner, model, meta, tasks = wide()
    whole = peak(learner, model, meta, tasks, chunk=8)
    peaks, sizes = [], []
    for share in (4.0, 1.0, 0.5, 0.3):
        allowed = int(whole * share)
        parts = engine._parts(learner, model, leaves(meta), tasks, allowed, None, False)
        assert sum(len(part) for part, _ in parts) == len(tasks)
        sizes.append(max(len(part) for part, _ in parts))
        peaks.append(peak(learner, model, meta, tasks, memory=allowed))
        assert peaks[-1] < 1.2 * allowed
    assert sizes[0] == 8 and sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]
    assert peaks[-1] < 0.5 * peaks[0]


def test_a_task_that_takes_too_much_is_run_with_recomputation():
    learner, model, meta, tasks = wide()
    alone, again = (peak(learner, model, meta, tasks, chunk=1, recompute=r) for r in (False, True))
    assert again < 0.7 * alone
    parts = engine._parts(learner, model, leaves(meta), tasks, alone, None, False)
    assert [(len(part), again) for part, again in parts] == [(1, True)] * 8


def test_recomputed_memory_hardly_grows_with_the_steps():
    def both(steps):
        _, model, meta, tasks = wide()
        learner = nets.maml(steps, 0.05)
        return [peak(learner, model, meta, tasks[:1], chunk=1, recompute=r) for r in (False, True)]

    short, long = both(2), both(8)
    assert long[0] > 3 * short[0]
    # What is kept of each step is its parameters alone.
    parameters = sum(v.nbytes for v in wide()[2].values())
    assert long[1] - short[1] < 1.1 * 6 * parameters
