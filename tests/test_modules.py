"""Any module as a model: what is kept apart, what is left as it was, and what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import networks as nets
from metaglot.errors import DataError, SettingsError
from metaglot.learners.modules import EmbeddingModel, ModuleModel
from metaglot.learners.protonet import ProtoNet
from metaglot.types import Batch, Episode


class Odd(nn.Module):
    """Tied, unused and frozen parameters, buffers that count, and a forward with more than one input."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, ids, *, scale, shift=None):
        if self.training:
            self.calls += 1
        states = torch.tanh(self.frozen(self.table(ids))) * scale.unsqueeze(-1)
        return {"scores": self.out(states if shift is None else states + shift), "states": states}


def odd_batch(seed, n=5):
    chance = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 7, (n, 3), generator=chance)
    return Batch({"scale": torch.rand(n, 3, generator=chance), "ids": ids}, ids.roll(1, 1), nets.NO_LABELS)


def odd_model(**options):
    return ModuleModel(Odd(), nets.cross_entropy, output=lambda found: found["scores"], **options)


def state_of(module):
    tensors = {n: t.clone() for n, t in [*module.named_parameters(), *module.named_buffers()]}
    return (
        tensors,
        [(p.requires_grad, p.grad) for p in module.parameters()],
        [m.training for m in module.modules()],
    )


@pytest.mark.parametrize("dropout", [True, False])
def test_the_module_is_left_as_it_is(dropout):
    module = Odd().train()
    before, others = state_of(module)[0], state_of(module)[1:]
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules()]
    model = ModuleModel(module, nets.cross_entropy, output=lambda f: f["scores"], dropout=dropout)
    learner = nets.maml()
    nets.gradient(
        learner, model, learner.init(model, torch.Generator()), [Episode(odd_batch(0), odd_batch(1))] * 2
    )
    after = state_of(module)[0]
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert state_of(module)[1:] == others
    assert [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules()] == hooks


def test_init_gives_copies_that_do_not_follow_the_module():
    module = nets.mlp()
    model = ModuleModel(module)
    start = model.init(0)
    with torch.no_grad():
        start["0.weight"].zero_()
        assert bool(module[0].weight.any())
    assert list(start) == [n for n, _ in module.named_parameters()]


def test_tied_unused_and_frozen_parameters(double):
    model, learner = odd_model(), nets.maml()
    assert list(model.init(0)) == ["table.weight", "unused.weight", "unused.bias"]
    meta = nets.moved(learner, model)
    tasks = [Episode(odd_batch(2 * i), odd_batch(2 * i + 1)) for i in range(3)]
    found = nets.gradient(learner, model, meta, tasks)[1]
    assert not bool(found["start.unused.weight"].any())
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-12
    # Both places of the tied parameter count.
    assert nets.finite_difference(learner, model, meta, tasks) < 1e-7


def test_the_start_of_a_tied_parameter_is_used_in_both_places(double):
    model, module = odd_model(), Odd()
    params, batch = model.init(0), odd_batch(0)
    params["table.weight"] = params["table.weight"] + 1
    untied = copy.deepcopy(model._function._module)
    with torch.no_grad():
        untied.table.weight.copy_(params["table.weight"])
        assert untied.out.weight is untied.table.weight
        expected = untied(**batch.inputs)["scores"]
        assert torch.equal(model.forward(params, batch), expected)
    assert not torch.equal(module.table.weight, params["table.weight"])


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (
            Odd,
            {"ids": 1, "scales": 1},
            r"named as the module's arguments \(ids, scale, shift\), found ids, scales wi",
        ),
        (Odd, {"ids": 1}, "found ids without scale"),
        (Odd, {"tokens": 1}, "found tokens without scale"),
        (nets.mlp, {"x": 1, "y": 1}, r"arguments \(input\), found x, y"),
    ],
)
def test_inputs_of_other_names_are_refused(module, inputs, message):
    model = ModuleModel(module())
    batch = Batch({name: torch.zeros(2, 4) for name in inputs}, torch.tensor([0, 1]), torch.arange(2))
    with pytest.raises(DataError, match=message):
        model.forward(model.init(0), batch)


def test_a_name_that_is_nearly_right_gets_a_suggestion():
    model = ModuleModel(Odd())
    batch = Batch(
        {"ids": torch.zeros(2, 3), "scal": torch.zeros(2, 3)}, torch.tensor([0, 1]), torch.arange(2)
    )
    with pytest.raises(DataError, match="Did you mean 'scale'"):
        model.forward(model.init(0), batch)


@pytest.mark.parametrize("make", [ModuleModel, lambda net: EmbeddingModel(net, 3)])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 4), r"each of 2 targets, found the shape \(3, 4\)"),
        (torch.zeros(2, 5), r"found x float32 \[2, 5\]: mat1 and mat2 shapes cannot be multiplied"),
        (
            torch.zeros(2, 4, dtype=torch.float64),
            r"found x float64 \[2, 4\]: mat1 and mat2 must have the same",
        ),
    ],
)
def test_inputs_of_other_shapes_and_types_are_refused(make, x, message):
    model = make(nets.mlp())
    batch = Batch({"x": x}, torch.tensor([0, 1]), torch.arange(2))
    with pytest.raises(DataError, match=message):
        model.forward(model.init(2), batch)


def test_one_example_is_too_few_for_batch_norm_of_the_batch():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model, one = ModuleModel(net), Batch({"x": torch.ones(1, 4)}, torch.zeros(1, 3), nets.NO_LABELS)
    with pytest.raises(
        DataError, match=r"BatchNorm to normalise by, found 1 example.\n.*batch_norm='running'"
    ):
        model.forward(model.init(0), one)
    running = ModuleModel(net, batch_norm="running")
    assert running.forward(running.init(0), one).shape == (1, 3)


class Computed(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.computed = self.weight * 2


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (lambda: nets.mlp().requires_grad_(False), {}, "trainable parameters, found none in Sequential"),
        (nn.Tanh, {}, "trainable parameters, found none in Tanh"),
        (lambda: nets.mlp().bfloat16(), {}, "found '0.weight' in bfloat16: inner steps would be lost"),
        (lambda: nets.mlp().half(), {}, "found '0.weight' in float16"),
        (lambda: nn.LazyLinear(3), {}, "found 'weight' of a lazy module"),
        (Computed, {}, "module that can be copied, found Computed"),
        (nets.mlp, {"head": "3"}, "as the head, found '3'"),
        (nets.mlp, {"batch_norm": "both"}, "'batch' or 'running', found 'both'"),
        (nets.mlp, {"precision": "float16"}, "float32 or bfloat16, found 'float16'"),
    ],
)
def test_modules_and_options_that_make_no_sense_are_refused(module, options, message):
    with pytest.raises(SettingsError, match=message):
        ModuleModel(module(), **options)


def test_an_output_that_is_no_tensor_is_refused():
    model = ModuleModel(Odd())
    with pytest.raises(SettingsError, match=r"found dict with scores, states.\n.*output=lambda"):
        model.forward(model.init(0), odd_batch(0))


def test_the_head_is_the_last_submodule_or_the_one_that_is_named():
    assert ModuleModel(nets.mlp()).head == {"2.weight", "2.bias"}
    assert ModuleModel(nets.mlp(), head="0").head == {"0.weight", "0.bias"}
    assert ModuleModel(nn.Linear(2, 2)).head == {"weight", "bias"}


def test_mixed_precision_is_near_and_of_full_parameters():
    task, net = nets.episodes(2), nets.mlp()
    exact, mixed = ModuleModel(net), ModuleModel(net, precision="bfloat16")
    learner = nets.maml()
    meta = learner.init(exact, torch.Generator())
    one, other = (nets.gradient(learner, model, meta, task)[1] for model in (exact, mixed))
    assert 0 < nets.apart(other, one) < 0.1
    assert {v.dtype for v in other.values()} == {torch.float32}


# --- A module under a linear head.


def test_logits_are_the_head_over_the_modules_embeddings(double):
    net = nets.mlp(outputs=5)
    model = EmbeddingModel(net, 5)
    batch, params = nets.batch(0), model.init(3)
    assert model.forward(params, batch).shape == (5, 3)
    params = {n: torch.randn_like(v) for n, v in params.items()}
    features = torch.func.functional_call(net, {n: params[n] for n in model.body}, (batch.inputs["x"],))
    expected = features @ params["weight.features"].T + params["bias"]
    assert torch.allclose(model.forward(params, batch), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_heads_parameters_are_of_the_bodys_type(dtype):
    params = EmbeddingModel(nets.mlp().to(dtype), 3).init(4)
    assert {v.dtype for v in params.values()} == {dtype}


def test_embeddings_of_another_width_are_refused():
    model = EmbeddingModel(nets.mlp(outputs=5), 4)
    with pytest.raises(SettingsError, match=r"embeddings \[5, 4\] from the module, found \[5, 5\]"):
        model.forward(model.init(3), nets.batch(0))


def test_a_body_with_the_heads_names_is_refused():
    class Clash(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

    with pytest.raises(SettingsError, match=r"than the head's, found \['bias'\]"):
        EmbeddingModel(Clash(), 3)


@pytest.mark.parametrize("learner", [ProtoNet(), nets.maml(2, 0.3)])
def test_the_gradient_reaches_the_body(double, learner):
    model = EmbeddingModel(nets.mlp(outputs=5), 5)
    meta, tasks = nets.moved(learner, model), nets.episodes(3)
    found = nets.gradient(learner, model, meta, tasks)[1]
    assert all(bool(found[f"start.{n}"].any()) for n in model.body)
    assert nets.finite_difference(learner, model, meta, tasks) < 1e-7
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-12


def test_labels_of_a_query_set_out_of_range_are_told_by_every_head():
    model = EmbeddingModel(nets.mlp(outputs=5), 5)
    query = nets.batch(1)
    query.targets[0] = 3
    for learner in (ProtoNet(), nets.maml()):
        with pytest.raises(DataError, match="label numbers from 0 to 2, found 0 to 3"):
            learner.meta_loss(model, learner.init(model, torch.Generator()), [Episode(nets.batch(0), query)])


def test_token_scores_with_a_loss_that_leaves_padding_out(double):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    model, learner = ModuleModel(net, nets.cross_entropy), nets.maml()

    def tokens(seed, n=4):
        batch = nets.batch(seed, n, shape=(5, 4))
        chance = torch.Generator().manual_seed(seed)
        targets = torch.randint(0, 3, (n, 5), generator=chance)
        targets[:, 3:] = -100
        return Batch(batch.inputs, targets, torch.arange(3))

    tasks = [Episode(tokens(2 * i), tokens(2 * i + 1)) for i in range(3)]
    meta = nets.moved(learner, model)
    found = nets.gradient(learner, model, meta, tasks)[1]
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-12
    for task in tasks:  # padding is nothing to learn from
        task.support.inputs["x"][:, 3:] = 7.0
    assert nets.apart(nets.gradient(learner, model, meta, tasks)[1], found) < 1e-12
    tasks[0].query.targets[0, 0] = 9
    for wrong in (tasks, tasks[:1]):
        with pytest.raises(DataError, match="from 0 to 2, found 0 to 9"):
            nets.gradient(learner, model, meta, wrong)


def test_a_loss_of_the_modules_own(double):
    class WithLoss(nn.Linear):
        def forward(self, input, labels):
            return F.cross_entropy(super().forward(input), labels)

    model = ModuleModel(WithLoss(4, 3), lambda output, targets: output)
    plain = ModuleModel(nn.Linear(4, 3))
    learner, meta = nets.maml(), nets.moved(nets.maml(), plain)

    def with_labels(batch):
        return Batch({"input": batch.inputs["x"], "labels": batch.targets}, batch.targets, batch.classes)

    tasks = nets.episodes(3)
    found = nets.gradient(
        learner, model, meta, [Episode(with_labels(t.support), with_labels(t.query)) for t in tasks]
    )[1]
    assert nets.apart(found, nets.gradient(learner, plain, meta, tasks)[1]) < 1e-12
