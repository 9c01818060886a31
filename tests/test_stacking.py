"""Tasks run at once give what they give one after the other, and what finite differences say."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import networks as nets
from metaglot.errors import SettingsError
from metaglot.learners.modules import ModuleModel
from metaglot.types import Batch, Episode

pytestmark = pytest.mark.usefixtures("double")


class Attention(nn.Module):
    """Self-attention with padding, mean-pooled."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x, padding):
        states, _ = self.attention(x, x, x, key_padding_mask=padding, need_weights=False)
        return self.out(states.mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells = kind(4, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.cells(x)[0][:, -1])


def encoder(norm_first=False):
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=norm_first, activation="gelu")
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(12, 3))


def normal(kind):
    return nn.Sequential(nn.Linear(4, 6), kind, nn.Tanh(), nn.Linear(6, 3))


NETS = {
    "layer norm": (lambda: normal(nn.LayerNorm(6)), (4,)),
    "rms norm": (lambda: normal(nn.RMSNorm(6)), (4,)),
    "group norm": (lambda: normal(nn.GroupNorm(2, 6)), (4,)),
    "batch norm": (lambda: normal(nn.BatchNorm1d(6)), (4,)),
    "batch norm, no affine": (lambda: normal(nn.BatchNorm1d(6, affine=False)), (4,)),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.Flatten(), nn.Linear(32, 3)
        ),
        (1, 6, 6),
    ),
    "encoder": (encoder, (3, 4)),
    "encoder, norm first": (lambda: encoder(True), (3, 4)),
    "spectral norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.GELU(), nn.Linear(5, 3)
        ),
        (4,),
    ),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.GELU(), nn.Linear(5, 3)
        ),
        (4,),
    ),
}


def check(model, tasks, *, first_order):
    learner = nets.maml(2, 0.2, first_order=first_order)
    meta = nets.moved(learner, model, noise=0.2)
    found = nets.gradient(learner, model, meta, tasks)[1]
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-10
    if not first_order:
        assert max(nets.finite_difference(learner, model, meta, tasks, s) for s in range(2)) < 1e-7


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("net", NETS)
def test_all_at_once_is_one_by_one_is_finite_differences(net, first_order):
    make, shape = NETS[net]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The model cannot be run")
        check(ModuleModel(make()), nets.episodes(3, shape=shape), first_order=first_order)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_batch_norm_of_both_kinds(statistics):
    torch.manual_seed(0)
    net = normal(nn.BatchNorm1d(6)).train()
    net(torch.randn(20, 4))  # running statistics that are not those of the batches
    running = [b.clone() for b in net.buffers()]
    model = ModuleModel(net, batch_norm=statistics)
    check(model, nets.episodes(3), first_order=False)
    assert all(torch.equal(a, b) for a, b in zip(running, net.buffers(), strict=True))
    rows = nets.batch(0, 6)
    outputs = model.forward(model.init(0), rows)
    alone = torch.cat([model.forward(model.init(0), rows[torch.tensor([i, i])])[:1] for i in range(6)])
    assert torch.allclose(outputs, alone) == (statistics == "running")


def padded(seed, n=4):
    chance = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (n, 1), generator=chance)
    inputs = {"x": torch.randn(n, 5, 4, generator=chance), "padding": torch.arange(5) >= lengths}
    return Batch(inputs, torch.arange(n) % 3, torch.arange(3))


def test_padding_is_each_examples_own():
    torch.manual_seed(0)
    model = ModuleModel(Attention())
    check(model, [Episode(padded(2 * i), padded(2 * i + 1)) for i in range(3)], first_order=False)
    batch = padded(0)
    noise = batch.inputs["x"] + 9 * batch.inputs["padding"].unsqueeze(-1)
    noisy = Batch({**batch.inputs, "x": noise}, batch.targets, batch.classes)

    class OfQuery(Attention):  # as above, but padding does not look at others either
        def forward(self, x, padding):
            states, _ = self.attention(x[:, :1], x, x, key_padding_mask=padding, need_weights=False)
            return self.out(states[:, 0])

    model = ModuleModel(OfQuery())
    assert torch.allclose(model.forward(model.init(0), batch), model.forward(model.init(0), noisy))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_what_cannot_be_vmapped_is_run_one_by_one_with_one_warning(kind):
    torch.manual_seed(0)
    model = ModuleModel(Recurrent(kind))
    tasks = nets.episodes(3, shape=(4, 4))
    with pytest.warns(UserWarning, match="cannot be run over several tasks at once") as caught:
        check(model, tasks, first_order=False)
        check(model, tasks, first_order=True)
    assert len(caught) == 1


def test_a_forward_that_vmap_would_run_otherwise_is_seen():
    class Sly(nn.Linear):
        def forward(self, x):
            batched = torch._C._functorch.is_batchedtensor(x)
            return super().forward(x) * (1.001 if batched else 1.0)

    model = ModuleModel(Sly(4, 3))
    with pytest.warns(UserWarning, match="losses differ from those of the plain forward by up to"):
        check(model, nets.episodes(3), first_order=False)


def test_a_loss_that_is_not_scalar_is_refused():
    for loss in (nn.CrossEntropyLoss(reduction="none"), lambda outputs, targets: 0.0):
        model, learner = ModuleModel(nets.mlp(), loss), nets.maml()
        for m in (1, 2):
            with pytest.raises(
                SettingsError, match=r"expected a scalar loss, found (one of shape \(5,\)|0.0)"
            ):
                nets.gradient(learner, model, nets.moved(learner, model), nets.episodes(m))


# --- Dropout.


def dropping():
    return nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.5), nn.Tanh(), nn.Linear(32, 3))


def run_with(seed, model, tasks):
    learner = nets.maml(2)
    torch.manual_seed(seed)
    return nets.gradient(learner, model, learner.init(model, torch.Generator()), tasks)[1]


def test_dropout_is_off_unless_asked_for_and_then_follows_the_seed():
    tasks, net = nets.episodes(3), dropping().train()
    off = ModuleModel(net)
    assert nets.apart(run_with(0, off, tasks), run_with(1, off, tasks)) == 0
    on = ModuleModel(net, dropout=True)
    first = run_with(0, on, tasks)  # the first run tries out whether the model can be vmapped
    assert nets.apart(run_with(0, on, tasks), first) == 0
    assert nets.apart(run_with(1, on, tasks), first) > 0.01
    assert net.training


def test_every_task_and_step_has_its_own_mask():
    masks = []

    class Watch(nn.Module):
        def forward(self, x):
            masks.append(
                torch._C._functorch.get_unwrapped(x) if torch._C._functorch.is_batchedtensor(x) else x
            )
            return x

    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), Watch(), nn.Linear(64, 3))
    model, task = ModuleModel(net, dropout=True), nets.episodes(1)[0]
    run_with(0, model, [task, task])
    last = [m.detach() != 0 for m in masks if m.ndim == 3][-3:]  # two inner steps, and the query set
    assert [m.shape[0] for m in last] == [2, 2, 2]
    assert not torch.equal(last[0][0], last[0][1])
    assert not torch.equal(last[0], last[1])


def test_all_kinds_of_dropout_are_switched():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(4, 3)

        def forward(self, x):
            return self.out(F.dropout(x, 0.5, self.training))

    for net in (Functional(), encoder()):
        shape = (4,) if isinstance(net, Functional) else (3, 4)
        rows = nets.batch(0, shape=shape)
        for dropout in (True, False):
            model = ModuleModel(net, dropout=dropout)
            one, other = (model.forward(model.init(0), rows) for _ in range(2))
            assert torch.equal(one, other) != dropout
