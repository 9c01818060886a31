"""The inner loop against torch.optim, closed forms, finite differences and other libraries."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import networks as nets
from metaglot.errors import DataError, SettingsError, TrainingError
from metaglot.learners.inner import clipped, descend, inner_optimizer, recomputation
from metaglot.learners.inner_loop import RATE, InnerLoop
from metaglot.learners.modules import ModuleModel
from metaglot.types import Batch, Episode

pytestmark = pytest.mark.usefixtures("double")

A = torch.tensor([[2.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
b = torch.tensor([0.4, -1.0], dtype=torch.float64)
START = torch.tensor([0.7, 1.1], dtype=torch.float64)


def bowl(theta, outer, i):
    """½ θᵀAθ − bᵀθ of one task, θ `[1, 2]`."""
    value = theta["theta"][0]
    return 0.5 * value @ A @ value - b @ value


def run(steps, start=START, *, rate=0.1, optimizer="sgd", **options):
    names = {k: options.pop(k) for k in ("clip", "exact", "learning") if k in options}
    return descend(
        bowl,
        {"theta": start.unsqueeze(0)},
        {},
        steps=steps,
        rate=lambda outer, name, i: rate,
        optimizer=inner_optimizer(optimizer, **options),
        **names,
    )


REFERENCES = [
    ("sgd", {}, lambda p: torch.optim.SGD(p, 0.1)),
    ("sgd", {"momentum": 0.9}, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    ("sgd", {"weight_decay": 0.3}, lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.3)),
    (
        "sgd",
        {"momentum": 0.8, "weight_decay": 0.2},
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.2),
    ),
    ("adam", {}, lambda p: torch.optim.Adam(p, 0.1)),
    ("adam", {"betas": (0.5, 0.7), "eps": 1e-6}, lambda p: torch.optim.Adam(p, 0.1, (0.5, 0.7), 1e-6)),
    ("adam", {"weight_decay": 0.3}, lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.3)),
]


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize(("name", "options", "reference"), REFERENCES)
def test_every_step_is_that_of_torch_optim(name, options, reference, learning):
    found = run(10, optimizer=name, learning=learning, **options)
    value = START.clone().requires_grad_()
    theirs = reference([value])
    for step in range(10):
        theirs.zero_grad()
        bowl({"theta": value.unsqueeze(0)}, {}, step).backward()
        theirs.step()
        assert torch.allclose(found[step + 1]["theta"][0], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", range(1, 11))
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_the_derivative_of_the_end_by_the_start_is_the_closed_form(steps, momentum, decay):
    start = START.clone().requires_grad_()
    end = run(steps, start, momentum=momentum, weight_decay=decay)[-1]["theta"][0]
    # θ and v together move by one matrix: v ← μ v + (A + β) θ,  θ ← θ − α v.
    eye, curved = torch.eye(2), A + decay * torch.eye(2)
    step = torch.cat(
        [
            torch.cat([eye - 0.1 * curved, -0.1 * momentum * eye], 1),
            torch.cat([curved, momentum * eye], 1),
        ]
    )
    expected = torch.linalg.matrix_power(step, steps)[:2, :2]
    found = torch.stack([torch.autograd.grad(e, start, retain_graph=True)[0] for e in end])
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_gradcheck(optimizer):
    options = {"momentum": 0.9} if optimizer == "sgd" else {}

    def end(start, rate):
        return run(4, start, rate=rate, optimizer=optimizer, clip=1.5, **options)[-1]["theta"]

    assert torch.autograd.gradcheck(
        end, (START.clone().requires_grad_(), torch.tensor(0.07, requires_grad=True))
    )


@pytest.mark.parametrize("options", [o for _, o, _ in REFERENCES if "betas" not in o and "eps" not in o])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_recomputed_steps_have_the_same_derivatives(optimizer, options):
    options = {k: v for k, v in options.items() if optimizer == "sgd" or k != "momentum"}
    found = []
    for again in (False, True):
        start, rate = START.clone().requires_grad_(), torch.tensor(0.1, requires_grad=True)
        with recomputation(again):
            path = descend(
                bowl,
                {"theta": start.unsqueeze(0)},
                {"rate": rate},
                steps=5,
                rate=lambda outer, name, i: outer["rate"],
                optimizer=inner_optimizer(optimizer, **options),
                clip=1.0,
            )
        # Of points on the way too, as a loss over several steps has them.
        loss = path[-1]["theta"].square().sum() + 0.3 * path[2]["theta"].sum()
        found.append([loss, *torch.autograd.grad(loss, [start, rate])])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@given(st.integers(0, 1000), st.floats(0.01, 10))
def test_a_clipped_gradient_keeps_its_direction_and_is_no_longer_than_asked(seed, most):
    chance = torch.Generator().manual_seed(seed)
    gradients = {
        "a": 3 * torch.randn(2, 3, generator=chance, dtype=torch.float64),
        "b": torch.randn(2, generator=chance, dtype=torch.float64),
    }
    found = clipped(gradients, most)
    for task in range(2):
        before = torch.cat([g[task].flatten() for g in gradients.values()])
        after = torch.cat([g[task].flatten() for g in found.values()])
        expected = before * min(1.0, most / float(before.norm()))
        assert torch.allclose(after, expected, rtol=0, atol=1e-12)


def test_clipping_a_gradient_of_zero_has_a_finite_derivative():
    gradient = torch.zeros(1, 3, requires_grad=True)
    (found,) = torch.autograd.grad(clipped({"a": gradient}, 1.0)["a"].sum(), gradient)
    assert torch.equal(found, torch.ones(1, 3))


def test_adam_at_a_gradient_of_zero_has_a_finite_derivative():
    start = torch.linalg.solve(A, b).requires_grad_()  # the minimum
    (found,) = torch.autograd.grad(run(3, start, optimizer="adam")[-1]["theta"].sum(), start)
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("learned", ["none", "parameter", "element", "step"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("first_order", [False, True])
def test_gradients_of_starts_and_rates_of_every_kind(learned, optimizer, first_order):
    model = ModuleModel(nets.mlp().double())
    learner = nets.maml(
        3,
        0.1,
        learn_rates=learned,
        optimizer=optimizer,
        first_order=first_order,
        clip=0.8,
        rates={"2.*": 0.5},
        adapt="2.*+0.weight",
    )
    meta, tasks = nets.moved(learner, model, noise=0.2), nets.episodes(3)
    assert {n.startswith(RATE) for n in meta} == ({True, False} if learned != "none" else {False})
    found = nets.gradient(learner, model, meta, tasks)[1]
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-12
    if not first_order:
        assert max(nets.finite_difference(learner, model, meta, tasks, s) for s in range(3)) < 1e-7


def test_rates_by_pattern_are_multiples():
    model, support = ModuleModel(nets.mlp().double()), nets.batch(0)
    learner = nets.maml(1, 0.2, rates={"2.*": 0.5, "*.bias": 0.0})
    start = learner.init(model, torch.Generator())
    moved = learner.adapt(model, start, support)
    plain = nets.maml(1, 0.2).adapt(model, start, support)
    for name, share in (("0.weight", 1), ("2.weight", 0.5), ("0.bias", 0), ("2.bias", 0)):
        before = start["start." + name]
        assert torch.allclose(moved[name] - before, share * (plain[name] - before), atol=1e-14)


@pytest.mark.parametrize("steps", [1, 3])
def test_first_order_is_exact_where_there_is_no_curvature(steps):
    class Slope(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = torch.nn.Parameter(torch.randn(4))

        def forward(self, x):
            return x @ self.theta

    def loss(outputs, targets):  # linear in θ
        return (outputs * targets.squeeze(1)).mean()

    model = ModuleModel(Slope(), loss)
    tasks = nets.episodes(2, labels=0)
    found = []
    for first_order in (True, False):
        learner = nets.maml(steps, learn_rates="parameter", first_order=first_order)
        found.append(nets.gradient(learner, model, nets.moved(learner, model), tasks)[1])
    assert nets.apart(*found) < 1e-13


@pytest.mark.parametrize("exact", [True, False])
def test_the_meta_gradient_is_that_of_a_loop_by_hand(exact):
    module, (task,) = nets.mlp().double(), nets.episodes(1)
    model, learner = ModuleModel(module), nets.maml(5, 0.3, first_order=not exact)
    found = nets.gradient(learner, model, learner.init(model, torch.Generator()), [task])[1]
    expected = nets.unrolled(module, F.cross_entropy, task, 0.3, 5, exact=exact)
    assert nets.apart(found, expected) < 1e-12


@pytest.mark.parametrize("exact", [True, False])
def test_the_meta_gradient_is_that_of_higher(exact):
    higher = pytest.importorskip("higher")
    module, (task,) = nets.mlp().double(), nets.episodes(1)
    inner = torch.optim.SGD(module.parameters(), 0.3)
    x, y = task.support.inputs["x"], task.support.targets
    with higher.innerloop_ctx(module, inner, copy_initial_weights=False, track_higher_grads=exact) as (
        f,
        opt,
    ):
        for _ in range(4):
            opt.step(F.cross_entropy(f(x), y))
        loss = F.cross_entropy(f(task.query.inputs["x"]), task.query.targets)
        at = f.parameters(time=0) if exact else f.parameters()
        theirs = torch.autograd.grad(loss, list(at))
    model, learner = ModuleModel(module), nets.maml(4, 0.3, first_order=not exact)
    found = nets.gradient(learner, model, learner.init(model, torch.Generator()), [task])[1]
    assert nets.apart(found, dict(zip(found, theirs, strict=True))) < 1e-5


def test_the_meta_gradient_is_that_of_torchopt():
    torchopt = pytest.importorskip("torchopt")
    module, (task,) = nets.mlp().double(), nets.episodes(1)
    model, learner = ModuleModel(module), nets.maml(4, 0.3)
    found = nets.gradient(learner, model, learner.init(model, torch.Generator()), [task])[1]
    inner = torchopt.MetaSGD(module, lr=0.3)
    start = list(module.parameters())
    for _ in range(4):
        inner.step(F.cross_entropy(module(task.support.inputs["x"]), task.support.targets))
    loss = F.cross_entropy(module(task.query.inputs["x"]), task.query.targets)
    theirs = torch.autograd.grad(loss, start)
    assert nets.apart(found, dict(zip(found, theirs, strict=True))) < 1e-5


@pytest.mark.parametrize("first_order", [True, False])
def test_the_meta_gradient_is_that_of_learn2learn(first_order):
    l2l = pytest.importorskip("learn2learn")
    module, (task,) = nets.mlp().double(), nets.episodes(1)
    theirs = l2l.algorithms.MAML(module, lr=0.3, first_order=first_order)
    clone = theirs.clone()
    for _ in range(4):
        clone.adapt(F.cross_entropy(clone(task.support.inputs["x"]), task.support.targets))
    loss = F.cross_entropy(clone(task.query.inputs["x"]), task.query.targets)
    expected = torch.autograd.grad(loss, list(module.parameters()))
    model, learner = ModuleModel(module), nets.maml(4, 0.3, first_order=first_order)
    found = nets.gradient(learner, model, learner.init(model, torch.Generator()), [task])[1]
    assert nets.apart(found, dict(zip(found, expected, strict=True))) < 1e-5


# --- What makes no sense.


def test_inner_steps_that_diverge_are_told():
    learner, model = nets.maml(8, 1e99), ModuleModel(torch.nn.Linear(4, 1), F.mse_loss)
    meta, support = learner.init(model, torch.Generator()), nets.batch(0, labels=0)
    with (
        torch.no_grad(),
        pytest.raises(TrainingError, match=r"finite parameters after 8 .* at a rate of 1e\+99"),
    ):
        learner.adapt(model, meta, support)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"learn_rates": "layer"},
        {"clip": 0.0},
        {"rates": {"*": -1.0}},
        {"optimizer": "sdg"},
        {"optimizer_options": {"momentun": 0.9}},
        {"optimizer_options": {"momentum": 1.0}},
        {"optimizer": "adam", "optimizer_options": {"betas": (0.9, 1.0)}},
    ],
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(SettingsError, match=r"expected|wrong"):
        InnerLoop(**options)


def test_a_loss_that_does_not_depend_on_what_adapts_is_refused():
    def rounded(outputs, targets):
        return F.mse_loss(outputs.detach(), targets.double().unsqueeze(1).expand_as(outputs))

    model, learner = ModuleModel(nets.mlp().double(), rounded), nets.maml()
    with pytest.raises(SettingsError, match=r"depends on what adapts \(0.weight, 0.bias, 2.weight, …\)"):
        learner.adapt(model, learner.init(model, torch.Generator()), nets.batch(0))


STRANGE = [
    ((0, 4), [], 3, "found no example"),
    ((1, 4), [1], 3, "one label only"),
    ((3, 4), [0, 1], 3, r"each of 2 targets.*\(3, 4\)"),
    ((2, 4), [0, 3], 3, "from 0 to 2, found 0 to 3"),
    ((2, 4), [0, -1], 3, "from 0 to 2, found -1 to 0"),
    ((2, 4), [0, 7], 0, "outputs have 3 scores; found 7"),
    ((2, 5), [0, 1], 3, r"inputs that the module can take, found x float64 \[2, 5\]"),
]


@pytest.mark.parametrize(("shape", "targets", "labels", "message"), STRANGE)
@pytest.mark.parametrize("m", [1, 2])
def test_support_and_query_sets_that_make_no_sense_are_refused(shape, targets, labels, message, m):
    support = Batch({"x": torch.zeros(shape)}, torch.tensor(targets, dtype=torch.int64), torch.arange(labels))
    model, learner = ModuleModel(nets.mlp().double()), nets.maml()
    meta = nets.moved(learner, model)
    with pytest.raises(DataError, match=message):
        learner.adapt(model, meta, support)
    with pytest.raises(DataError, match=message):
        nets.gradient(learner, model, meta, [Episode(support, nets.batch(0))] * m)
    if message not in {"found no example", "one label only"}:  # which are faults of a support set alone
        with pytest.raises(DataError, match=message):
            nets.gradient(learner, model, meta, [Episode(nets.batch(0), support)] * m)
