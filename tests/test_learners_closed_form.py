"""Ridge, logistic regression and the Laplace posterior against scikit-learn, Newton steps and quadrature."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from torch import nn

from metaglot.errors import DataError
from metaglot.label_scores import LabelScores
from metaglot.learners import logistic
from metaglot.learners.base import body_of
from metaglot.learners.laplace import TEMPERATURE, Laplace, posterior_variance
from metaglot.learners.logistic import Logistic
from metaglot.learners.modules import EmbeddingModel
from metaglot.learners.ridge import PENALTY, Ridge, sharpness_at
from metaglot.types import Batch, Episode
from small_tasks import judge, learn

pytestmark = pytest.mark.usefixtures("double")


def begun(learner, model, **changes):
    """The start, with some logarithms changed, and the posterior at its own temperature."""
    meta = learner.init(model, torch.Generator().manual_seed(0))
    meta |= {TEMPERATURE: torch.zeros(())} if TEMPERATURE in meta else {}
    return meta | {name: torch.tensor(float(value)).log() for name, value in changes.items()}


def body(width=3):
    torch.manual_seed(0)
    return EmbeddingModel(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, width)), width)


def frozen(width):
    return LabelScores({"x": width}, 0)


def points(counts=(4, 2, 3), width=4, seed=0, prior=False, noise=0.8):
    chance = torch.Generator().manual_seed(seed)
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    x = torch.randn(len(counts), width, generator=chance)[targets]
    x = x + noise * torch.randn(x.shape, generator=chance)
    scores = torch.randn(len(targets), len(counts), generator=chance) if prior else None
    return Batch({"x": x}, targets, torch.full((len(counts),), -1), scores)


def scores_of(learner, model, meta, support, query):
    return learner.predict(model, meta, learner.adapt(model, meta, support), query)


# --- ridge


def test_ridge_on_a_body_is_scikit_learns_on_its_embeddings():
    model, learner, support, query = body(), Ridge(), points(), points(seed=1)
    meta = begun(learner, model, log_penalty=0.3) | {"log_scale.features": torch.tensor(0.4)}
    embedded = [
        model.embed(body_of(model, meta), b).inputs["features"] * math.exp(0.4) for b in (support, query)
    ]
    targets = F.one_hot(support.targets, 3) - 1 / 3
    theirs = SklearnRidge(alpha=0.3, fit_intercept=False).fit(embedded[0].numpy(), targets.numpy())
    expected = sharpness_at(meta["log_sharpness"], 3.0) * torch.from_numpy(
        theirs.predict(embedded[1].numpy())
    )
    assert torch.allclose(scores_of(learner, model, meta, support, query), expected, atol=1e-10)


def test_ridges_gradient_in_the_body_is_that_of_the_normal_equations():
    """The same loss with W = (XᵀX + λI)⁻¹ XᵀY written out, differentiated by autograd."""
    model, learner, task = body(), Ridge(), Episode(points(), points(seed=1))
    meta = {n: v.double().requires_grad_() for n, v in begun(learner, model).items()}
    learner.meta_loss(model, meta, [task]).backward()
    found = {n: v.grad.clone() for n, v in meta.items()}
    for value in meta.values():
        value.grad = None
    X, Q = (model.embed(body_of(model, meta), b).inputs["features"] for b in (task.support, task.query))
    scale, penalty = meta["log_scale.features"].exp(), meta[PENALTY].exp()
    X, Q = scale * X, scale * Q
    W = (
        torch.linalg.inv(X.T @ X + penalty * torch.eye(3))
        @ X.T
        @ (F.one_hot(task.support.targets, 3) - 1 / 3)
    )
    F.cross_entropy(sharpness_at(meta["log_sharpness"], 3.0) * (Q @ W), task.query.targets).backward()
    assert all(torch.allclose(found[n], v.grad, atol=1e-10) for n, v in meta.items())


@pytest.mark.parametrize("learner", [Ridge(), Logistic(), Laplace()], ids=["ridge", "logistic", "laplace"])
def test_features_that_are_no_numbers_are_refused(learner):
    support = points()
    support.inputs["x"][2, 1] = torch.nan
    with pytest.raises(DataError, match="found"):
        learner.adapt(frozen(4), begun(learner, frozen(4)), support)


# --- logistic regression


@pytest.fixture(params=["direct", "conjugate gradients"])
def solver(request, monkeypatch):
    """Either way of solving the systems."""
    if request.param != "direct":
        monkeypatch.setattr(logistic, "_DIRECT", 0)


@pytest.mark.parametrize("penalty", [10.0, 1.0, 1e-2, 1e-4])
@pytest.mark.parametrize(
    ("counts", "width"), [((4, 2, 3), 4), ((1, 1), 3), ((3, 3, 3, 3, 3), 40), ((30, 20), 2)]
)
def test_the_head_is_scikit_learns(penalty, counts, width, solver):
    model, support = frozen(width), points(counts, width)
    head = Logistic().adapt(model, begun(Logistic(), model, log_penalty=penalty), support)
    X, y = support.inputs["x"].numpy(), support.targets.numpy()
    theirs = LogisticRegression(
        C=1 / penalty, fit_intercept=False, tol=1e-12, max_iter=100_000, solver="newton-cg"
    )
    expected = torch.from_numpy(theirs.fit(X, y).coef_)
    if len(counts) == 2:  # there one vector w stands for (−w/2, w/2), whose squares sum to half of w's
        theirs.set_params(C=2 / penalty)
        w = torch.from_numpy(theirs.fit(X, y).coef_)
        expected = torch.cat([-w / 2, w / 2])
    assert torch.allclose(head["weight.x"], expected, atol=1e-5, rtol=1e-5)


def slope(W, X, Y, offset, penalty):
    return (torch.softmax(X @ W.T + offset, 1) - Y).T @ X + penalty * W


def test_at_the_solution_the_slope_is_zero_and_the_prior_is_what_it_corrects(solver):
    model, support = frozen(4), points(prior=True)
    meta = begun(Logistic(), model, log_penalty=0.1, log_trust=2.5)
    head = Logistic().adapt(model, meta, support)
    assert head["prior_scale"].item() == pytest.approx(2.5)
    Y = F.one_hot(support.targets, 3).double()
    found = slope(head["weight.x"], support.inputs["x"], Y, 2.5 * support.prior, 0.1)
    assert float(found.abs().max()) < 1e-8


def unrolled(X, Y, offset, penalty):
    """The same head by Newton steps from zero, half ones first, every one of them in autograd's graph."""
    W = X.new_zeros(Y.shape[1], X.shape[1])
    for length in [0.5] * 6 + [1.0] * 8:
        P = torch.softmax(X @ W.T + offset, 1)
        H = torch.diag_embed(P) - P.unsqueeze(2) * P.unsqueeze(1)
        hessian = torch.einsum("nab,ni,nj->aibj", H, X, X).reshape(W.numel(), -1)
        hessian = hessian + penalty * torch.eye(W.numel())
        W = W - length * torch.linalg.solve(hessian, slope(W, X, Y, offset, penalty).reshape(-1)).reshape(
            W.shape
        )
    return W


@pytest.mark.parametrize("width", [2, 4, 12], ids=lambda w: f"width {w}")
def test_the_implicit_gradient_is_that_of_unrolled_newton_steps(width, solver):
    model, support, query = (
        frozen(width),
        points(width=width, prior=True),
        points(width=width, seed=1, prior=True),
    )
    support.inputs["x"].requires_grad_()
    support.prior.requires_grad_()
    meta = begun(Logistic(), model, log_penalty=0.5, log_trust=1.5)
    meta = {n: v.clone().requires_grad_() for n, v in meta.items()}
    sources = [support.inputs["x"], support.prior, meta[PENALTY], meta["log_trust"]]
    head = Logistic().adapt(model, meta, support)
    ours = F.cross_entropy(query.inputs["x"] @ head["weight.x"].T, query.targets)
    offset = meta["log_trust"].exp() * support.prior
    W = unrolled(support.inputs["x"], F.one_hot(support.targets, 3).double(), offset, meta[PENALTY].exp())
    theirs = F.cross_entropy(query.inputs["x"] @ W.T, query.targets)
    assert torch.allclose(head["weight.x"], W, atol=1e-9)
    found = torch.autograd.grad(ours, sources)
    expected = torch.autograd.grad(theirs, sources)
    assert all(torch.allclose(a, b, atol=1e-8) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("learner", [Logistic(), Laplace()], ids=["logistic", "laplace"])
def test_the_implicit_gradient_is_that_of_finite_differences(learner, solver):
    model, query = frozen(3), points((1, 2), 3, seed=1, prior=True)
    meta = begun(learner, model, log_penalty=0.2)
    support = points((2, 2), 3, prior=True)

    def loss(x, prior, *given):
        batch = Batch({"x": x}, support.targets, support.classes, prior)
        changed = dict(zip(meta, given, strict=True))
        return F.cross_entropy(scores_of(learner, model, changed, batch, query), query.targets)

    values = [support.inputs["x"], support.prior, *(v.double() for v in meta.values())]
    assert torch.autograd.gradcheck(loss, [v.clone().requires_grad_() for v in values], atol=1e-6)


def test_examples_that_say_the_same_twice_are_no_trouble(solver):
    """The kernel is singular, and the gradient still that of finite differences."""
    model, once = frozen(3), points((2, 2), 3)
    meta = begun(Logistic(), model, log_penalty=1e-2)

    def weight(x):
        twice = Batch({"x": torch.cat([x, x])}, once.targets.repeat(2), once.classes)
        return Logistic().adapt(model, meta, twice)["weight.x"]

    alone = Logistic().adapt(model, begun(Logistic(), model, log_penalty=5e-3), once)["weight.x"]
    assert torch.allclose(weight(once.inputs["x"]), alone, atol=1e-8)
    assert torch.autograd.gradcheck(weight, once.inputs["x"].clone().requires_grad_(), atol=1e-5)


@pytest.mark.parametrize("learner", [Logistic(), Laplace()], ids=["logistic", "laplace"])
def test_features_that_are_all_zero_teach_nothing_and_break_nothing(learner):
    model, batch = frozen(3), points((2, 2), 3)
    zeros = torch.zeros_like(batch.inputs["x"]).requires_grad_()
    head = learner.adapt(model, begun(learner, model), Batch({"x": zeros}, batch.targets, batch.classes))
    assert not bool(head["weight.x"].any())
    (gradient,) = torch.autograd.grad(head["weight.x"].square().sum(), zeros)
    assert bool(torch.isfinite(gradient).all())


def test_many_labels_and_wide_features_are_solved_as_well_in_single_precision():
    torch.set_default_dtype(torch.float32)
    model, support = frozen(300), points((4,) * 20, 300)
    head = Logistic().adapt(model, begun(Logistic(), model, log_penalty=0.1), support)
    assert head["weight.x"].dtype == torch.float32
    W, X = head["weight.x"].double(), support.inputs["x"].double()
    found = slope(W, X, F.one_hot(support.targets, 20).double(), 0.0, 0.1)
    assert float(found.abs().max()) < 1e-4


# --- the Laplace posterior


def log_posterior(w, x, y, penalty):
    """Up to a constant, of two labels' weights `[…, 2]` in one dimension, at a penalty."""
    scores = w.unsqueeze(-2) * x.unsqueeze(-1)  # [..., n, 2]
    chances = scores.log_softmax(-1)[..., torch.arange(len(y)), y].sum(-1)
    return chances - penalty / 2 * w.square().sum(-1)


@pytest.mark.parametrize("penalty", [0.05, 0.5, 3.0])
def test_for_two_labels_the_variance_is_the_inverse_of_the_hessian(penalty):
    model, learner = frozen(1), Laplace()
    x, y = torch.tensor([0.5, -1.0, 2.0, 0.3, -0.4]), torch.tensor([1, 0, 1, 0, 0])
    support = Batch({"x": x.unsqueeze(1)}, y, torch.tensor([-1, -1]))
    query = Batch(
        {"x": torch.tensor([[0.1], [1.0], [-5.0]])}, torch.zeros(3, dtype=torch.int64), support.classes
    )
    meta = begun(learner, model, log_penalty=penalty)
    adapted = learner.adapt(model, meta, support)
    found = posterior_variance(model, meta, adapted, query)
    w = adapted["weight.x"].squeeze(1)
    hessian = torch.autograd.functional.hessian(lambda w: -log_posterior(w, x, y, penalty), w)
    apart = torch.tensor([1.0, -1.0])  # the variance of the difference of the two scores
    expected = query.inputs["x"].squeeze(1).square() * (apart @ torch.linalg.inv(hessian) @ apart)
    assert torch.allclose(2 * found, expected, rtol=1e-8)
    warmer = posterior_variance(model, meta | {TEMPERATURE: torch.tensor(3.0).log()}, adapted, query)
    assert torch.allclose(warmer, 3 * found)


@pytest.mark.parametrize("penalty", [1.0, 3.0])
def test_its_predictive_is_near_that_of_quadrature_and_the_maximums_is_not(penalty):
    """E p(y | q, w) over the exact posterior of two weights, on a grid."""
    model = frozen(1)
    x, y = torch.tensor([0.8, -1.0, 1.4, 0.3, -0.4]), torch.tensor([1, 0, 1, 0, 0])
    support = Batch({"x": x.unsqueeze(1)}, y, torch.tensor([-1, -1]))
    places = torch.tensor([0.2, 0.7, 1.5, 4.0, 10.0])
    query = Batch({"x": places.unsqueeze(1)}, torch.zeros(5, dtype=torch.int64), support.classes)
    line = torch.linspace(-15, 15, 601)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    weight = log_posterior(grid, x, y, penalty).softmax(0)
    exact = torch.stack([weight @ (grid * place).softmax(-1) for place in places])
    ours, plain = (
        scores_of(learner, model, begun(learner, model, log_penalty=penalty), support, query).softmax(1)
        for learner in (Laplace(), Logistic())
    )
    assert float((ours - exact).abs().max()) < 0.05
    assert float((ours - exact).abs().max()) < 0.5 * float((plain - exact).abs().max())


def test_confidence_falls_away_from_the_support_set_and_the_label_stays():
    model, learner = frozen(5), Laplace()
    support, query = points((3, 3, 3), 5), points((20, 20, 20), 5, seed=1)
    meta = begun(learner, model)
    plain = scores_of(Logistic(), model, begun(Logistic(), model), support, query)
    ours = scores_of(learner, model, meta, support, query)
    assert torch.equal(ours.argmax(1), plain.argmax(1))
    assert bool((ours.softmax(1).amax(1) < plain.softmax(1).amax(1)).all())
    # Moved along what no support example has anything of, a query keeps its scores and loses its confidence.
    across = torch.linalg.svd(support.inputs["x"][:4])[2][-1]
    few = support[torch.tensor([0, 3, 6, 7])]
    few = Batch({"x": few.inputs["x"] - (few.inputs["x"] @ across).outer(across)}, few.targets, few.classes)
    last = 1.0
    for distance in (0.0, 1.0, 10.0, 1000.0):
        moved = Batch({"x": query.inputs["x"] + distance * across}, query.targets, query.classes)
        sure = scores_of(learner, model, meta, few, moved).softmax(1).amax(1).max().item()
        assert sure < last
        last = sure
    assert last < 1 / 3 + 0.01
    flat = Batch(
        {"x": query.inputs["x"] - (query.inputs["x"] @ across).outer(across)}, query.targets, query.classes
    )
    far = Batch({"x": flat.inputs["x"] + 1000 * across}, query.targets, query.classes)
    meta = begun(Logistic(), model)
    assert torch.allclose(
        scores_of(Logistic(), model, meta, few, far), scores_of(Logistic(), model, meta, few, flat)
    )


def test_a_certain_support_set_has_derivatives():
    model = frozen(2)
    sure = Batch(
        {"x": torch.tensor([[900.0, 0.0], [0.0, 900.0]])}, torch.tensor([0, 1]), torch.tensor([-1, -1])
    )
    meta = {n: v.requires_grad_() for n, v in begun(Laplace(), model, log_penalty=1e-6).items()}
    Laplace().meta_loss(model, meta, [Episode(sure, sure)]).backward()
    assert all(bool(torch.isfinite(meta[n].grad).all()) for n in (PENALTY, TEMPERATURE, "log_scale.x"))


# --- what meta-learning is worth where features are frozen


@pytest.mark.parametrize("name", ["ridge", "logistic", "laplace"])
def test_which_block_to_believe_is_learned(name):
    """One block carries the label, the other, twice as large, is noise."""
    torch.set_default_dtype(torch.float32)
    learner = {"ridge": Ridge, "logistic": Logistic, "laplace": Laplace}[name]()
    model = LabelScores({"good": 4, "noise": 16}, 0)

    def family(seed):
        chance = torch.Generator().manual_seed(seed)
        centres = torch.randn(5, 4, generator=chance) / 2

        def batch(count):
            targets = torch.arange(5).repeat_interleave(count)
            good = centres[targets] + 0.2 * torch.randn(len(targets), 4, generator=chance)
            noise = 0.5 * torch.randn(len(targets), 16, generator=chance)
            return Batch({"good": good, "noise": noise}, targets, torch.full((5,), -1))

        return Episode(batch(2), batch(5))

    before, meta = learn(learner, model, family, 60)
    (loss, right), (loss_before, right_before) = (judge(learner, model, m, family) for m in (meta, before))
    assert right > right_before + 0.05
    assert loss < loss_before - 0.1
    assert float(meta["log_scale.good"]) > float(meta["log_scale.noise"]) + 1
