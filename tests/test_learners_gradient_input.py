"""What the gradient-based learners say to input that cannot work: got, expected, remedy."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metaglot.config import Recipe
from metaglot.errors import DataError, SettingsError, TrainingError
from metaglot.learners import LEARNERS
from metaglot.learners.base import check_pair
from metaglot.learners.boil import BOIL
from metaglot.learners.imaml import IMAML
from metaglot.learners.maml import MAML
from metaglot.learners.modules import EmbeddingModel, ModuleModel
from metaglot.learners.multitask import Multitask
from metaglot.learners.protomaml import ProtoMAML
from metaglot.outer_loop import meta_train
from metaglot.training import make_learner
from metaglot.types import Batch, Episode
from small_tasks import NO_CLASSES, embedder, five_ways, regressor, sinusoid

NAMES = ["maml", "fomaml", "anil", "boil", "meta-sgd", "maml++"]
NAMES += ["imaml", "protomaml", "cavia", "reptile", "multitask"]
every_learner = pytest.mark.parametrize("name", NAMES)
on_modules = pytest.mark.parametrize("name", [n for n in NAMES if n != "protomaml"])


def started(learner, model):
    return learner.init(model, torch.Generator().manual_seed(0))


def test_boil_without_a_body_is_refused_by_name(toy_model, sources):
    with pytest.raises(SettingsError, match=r"'boil' adapts a model's body, and LabelScores has none") as e:
        started(BOIL(), toy_model())
    assert "anil" in e.value.hint
    with pytest.raises(SettingsError, match=r"'boil' needs any, and the kind 'classification'"):
        meta_train(sources, BOIL(), Recipe(corpus="tiny").train, name="boil")


def test_boil_and_multitask_need_a_head_that_tasks_share():
    with pytest.raises(SettingsError, match=r"'weight.features' to adapt, since it belongs to labels"):
        started(BOIL(), embedder())
    with pytest.raises(SettingsError, match=r"'multitask' trains one head on all tasks, and EmbeddingModel"):
        started(Multitask(), embedder())


def test_protomaml_needs_a_linear_head():
    with pytest.raises(
        SettingsError, match=r"'protomaml' needs label-scores, and .* 'ModuleModel' gives any"
    ):
        started(ProtoMAML(), regressor())


PATTERNS = [
    (n, o) for n in NAMES for o in ("adapt", "rates", "at") if o in inspect.signature(LEARNERS[n]).parameters
]


@pytest.mark.parametrize(("name", "option"), PATTERNS)
def test_patterns_that_match_nothing_are_shown_what_there_is(name, option):
    learner = LEARNERS[name](**{option: {"*.wieght": 2.0} if option == "rates" else "*.wieght"})
    model = embedder() if name == "protomaml" else regressor(4)
    with pytest.raises(SettingsError, match=r"found none that '\*\.wieght' stands for") as error:
        started(learner, model)
    assert "weight" in str(error.value)


def test_a_module_with_nothing_to_train_is_refused():
    with pytest.raises(SettingsError, match="expected a module with trainable parameters"):
        ModuleModel(nn.Linear(1, 1).requires_grad_(False), F.mse_loss)


@on_modules
def test_inner_rates_that_diverge_are_said_to(name):
    # Without a bounded activation, which would hold some of it.
    model, support = (
        ModuleModel(nn.Sequential(nn.Linear(1, 8), nn.Linear(8, 1)), F.mse_loss),
        sinusoid(1).support,
    )
    options = {"solver": "descent"} if name == "imaml" else {}
    learner = LEARNERS[name](steps=30, rate=1e6, **options)
    meta = started(learner, model)
    with torch.no_grad(), pytest.raises(TrainingError, match=r"30 inner steps at a rate of 1e\+06") as error:
        learner.adapt(model, meta, support)
    assert "Lower the inner rate" in error.value.hint


def test_newton_steps_do_not_diverge():
    model, support = regressor(8), sinusoid(1).support
    learner = IMAML(30, penalty=1e-3)
    adapted = learner.adapt(model, started(learner, model), support)
    before, after = (model.loss(model.forward(p, support), support.targets) for p in (model.init(0), adapted))
    assert after < 0.2 * before


@on_modules
def test_a_loss_that_is_not_scalar_is_refused(name):
    model = ModuleModel(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)), nn.MSELoss(reduction="none"))
    learner = LEARNERS[name](rate=0.1)
    with pytest.raises(
        SettingsError, match=r"expected a scalar loss, found one of shape \(15, 1\)|\(10, 1\)"
    ):
        learner.meta_loss(model, started(learner, model), [sinusoid(1), sinusoid(2)])


@every_learner
def test_labels_out_of_range_and_no_examples_are_refused(name):
    torch.manual_seed(0)
    model = EmbeddingModel(nn.Sequential(nn.Linear(20, 4), nn.Tanh()), 4, n_labels=5)
    learner, support = LEARNERS[name](rate=0.1), five_ways(1).support
    meta = started(learner, model)
    known = torch.arange(5)
    for wrong in (5, -1):
        targets = torch.cat([torch.tensor([wrong]), support.targets[1:]])
        with pytest.raises(DataError, match="label numbers from 0 to 4"):
            learner.adapt(model, meta, Batch(support.inputs, targets, known))
    with pytest.raises(DataError, match="at least two labels, found one"):
        learner.adapt(model, meta, support[support.targets == 0])
    empty = Batch({"x": torch.empty(0, 20)}, torch.empty(0, dtype=torch.int64), known)
    with pytest.raises(DataError, match="found no example"):
        learner.adapt(model, meta, empty)


@every_learner
def test_a_label_without_examples_does_no_harm(name):
    torch.manual_seed(0)
    model = EmbeddingModel(nn.Sequential(nn.Linear(20, 4), nn.Tanh()), 4, n_labels=5)
    learner, episode = LEARNERS[name](rate=0.1), five_ways(1, shots=2)
    meta = started(learner, model)
    support = episode.support[episode.support.targets != 3]
    outputs = learner.predict(model, meta, learner.adapt(model, meta, support), episode.query)
    assert outputs.shape == (25, 5)
    assert bool(torch.isfinite(outputs).all())


def test_regression_needs_no_classes_and_one_example_is_enough():
    model = regressor(4)
    support = Batch({"x": torch.ones(1, 1)}, torch.ones(1, 1), NO_CLASSES)
    learner = MAML(2, 0.1)
    assert learner.adapt(model, started(learner, model), support)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maml++", {"anneal": -1}, "expected anneal ≥ 0"),
        ("maml++", {"first_order_steps": -1}, "first_order_steps ≥ 0"),
        ("imaml", {"penalty": 0.0}, "expected penalty > 0"),
        ("imaml", {"penalty": float("nan")}, "expected penalty > 0"),
        ("imaml", {"cg_steps": 0}, "cg_steps ≥ 1"),
        ("imaml", {"solver": "newtons"}, "expected solver to be one of descent, newton"),
        ("cavia", {"n_context": 0}, "expected n_context ≥ 1"),
        ("cavia", {"learn_rates": "element"}, "'step' or 'none', found 'element'"),
        ("protomaml", {"sharpness": 0.0}, "expected sharpness > 0"),
        *[(name, {"steps": 0}, "expected steps ≥ 1") for name in NAMES],
        *[(name, {"optimizer": "sdg"}, "an inner optimizer") for name in NAMES],
        *[(name, {"clip": 0.0}, "expected clip > 0") for name in NAMES],
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message):
    with pytest.raises(SettingsError, match=message):
        LEARNERS[name](**options)


@every_learner
def test_a_recipe_can_name_every_option_and_a_misspelt_one_gets_a_suggestion(name):
    recipe = Recipe(corpus="tiny", learner=name, learner_options={"clip": 1.0, "optimizer": "adam"})
    learner = make_learner(recipe)
    assert (learner.inner.clip, learner.inner.optimizer) == (1.0, "adam")
    assert "options" not in inspect.signature(LEARNERS[name]).parameters
    with pytest.raises(SettingsError, match="Did you mean 'clip'"):
        make_learner(recipe.model_copy(update={"learner_options": {"clp": 1.0}}))


@pytest.mark.parametrize(
    ("name", "option"),
    [("fomaml", "first_order"), ("anil", "adapt"), ("boil", "adapt"), ("meta-sgd", "learn_rates"),
     ("reptile", "first_order"), ("imaml", "learn_rates"), ("multitask", "learn_rates")],
)  # fmt: skip
def test_what_makes_a_learner_what_it_is_is_no_option(name, option):
    assert option not in inspect.signature(LEARNERS[name]).parameters
    with pytest.raises(TypeError):
        LEARNERS[name](**{option: True})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@every_learner
def test_inner_optimizers_clipping_and_rates_work_with_every_learner(name, optimizer):
    learner = LEARNERS[name](
        **{"steps": 2, "rate": 0.05, "optimizer": optimizer, "clip": 0.5}
        | ({"rates": {"*weight*": 0.5}} if name != "cavia" else {})
        | ({"solver": "descent"} if name == "imaml" else {})
    )
    torch.manual_seed(0)
    model = EmbeddingModel(nn.Sequential(nn.Linear(20, 4), nn.Tanh()), 4, n_labels=5)
    drawn = [five_ways(seed) for seed in range(2)]
    known = torch.arange(5)
    episodes = [Episode(*(Batch(b.inputs, b.targets, known) for b in (e.support, e.query))) for e in drawn]
    meta = {n: v.requires_grad_(learner.outer_rate(n) > 0) for n, v in started(learner, model).items()}
    loss = learner.meta_loss(model, meta, episodes)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(v.grad is None or bool(torch.isfinite(v.grad).all()) for v in meta.values())
    assert any(v.grad is not None and bool(v.grad.any()) for v in meta.values())


def test_pairs_that_cannot_work_are_named():
    for name in NAMES:
        with pytest.raises(SettingsError, match=f"'{name.replace('+', '.')}' needs .* 'parsing' gives arcs"):
            check_pair(name, LEARNERS[name](), "parsing", "arcs")
