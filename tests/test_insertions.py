"""LoRA and adapters: the same function at first, in the right places, on a copy."""

import builtins

import pytest
import torch
import transformers as hf
from torch import nn

import networks as nets
from metaglot.errors import MissingExtraError, SettingsError
from metaglot.learners.insertions import Adapter, add_adapters, add_lora
from metaglot.learners.modules import ModuleModel
from test_hugging_face import (  # noqa: F401 - the fixture too
    MODELS,
    all_in_float64,
    loss_of,
    made,
    tasks_of,
    texts,
)

pytestmark = pytest.mark.usefixtures("double")

ADD = {"lora": add_lora, "adapter": add_adapters}


def encoder():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(12, 3))


def outputs(module, name=None):
    module.eval()
    with torch.no_grad():
        if name is None:
            return module(nets.batch(0, shape=(3, 4)).inputs["x"])
        return module(**texts(MODELS[name][0], 0).inputs).logits


def stirred(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("word", ADD)
@pytest.mark.parametrize("name", [None, *MODELS])
def test_the_same_function_at_first_and_another_after(word, name):
    module = encoder() if name is None else made(name)[1]
    before = {n: p.clone() for n, p in module.named_parameters()}
    names = [n for n, _ in module.named_modules()]
    changed = ADD[word](module)
    assert torch.allclose(outputs(changed, name), outputs(module, name), rtol=0, atol=1e-12)
    trainable = [n for n, p in changed.named_parameters() if p.requires_grad]
    assert trainable
    assert all(("lora_" in n) if word == "lora" else (".adapter." in n) for n in trainable)
    assert (outputs(stirred(changed), name) - outputs(module, name)).abs().max() > 1e-3
    # The user's module has the parts, parameters and flags that it had.
    assert [n for n, _ in module.named_modules()] == names
    assert all(torch.equal(p, before[n]) and p.requires_grad for n, p in module.named_parameters())


@pytest.mark.parametrize("word", ADD)
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
@pytest.mark.usefixtures("all_in_float64")
def test_gradients_through_them_are_exact(word, name):
    kind, module = made(name)
    model = ModuleModel(stirred(ADD[word](module)), loss_of(kind))
    learner, tasks = nets.maml(2, 0.05, adapt=word), tasks_of(kind)
    meta = learner.init(model, torch.Generator())
    found = nets.gradient(learner, model, meta, tasks)[1]
    assert nets.apart(found, nets.one_by_one(learner, model, meta, tasks)) < 1e-10
    assert nets.finite_difference(learner, model, meta, tasks, size=1e-7) < 1e-6


@pytest.mark.parametrize("word", ADD)
def test_the_base_is_frozen_kept_in_part_or_shared(word):
    frozen = ModuleModel(ADD[word](encoder())).init(0)
    assert all(word in n for n in frozen)
    kept = ModuleModel(ADD[word](encoder(), keep=["2.*"])).init(0)
    assert kept.keys() - frozen.keys() == {"2.weight", "2.bias"}
    shared = ModuleModel(ADD[word](encoder(), freeze=False))
    assert len(shared.init(0)) == len(frozen) + len(list(encoder().parameters()))
    learner = nets.maml(2, 0.1, adapt=f"{word}+head")
    adapted = learner.adapt(shared, learner.init(shared, torch.Generator()), nets.batch(0, shape=(3, 4)))
    assert adapted.keys() == kept.keys()


@pytest.mark.parametrize("word", ADD)
def test_the_seed_is_all_that_the_start_depends_on(word):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, two, other = (ADD[word](encoder_of_now(), seed=s) for s in (0, 0, 1))
    starts = [[p for n, p in m.named_parameters() if word in n] for m in (one, two, other)]
    assert all(torch.equal(a, b) for a, b in zip(starts[0], starts[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(starts[0], starts[2], strict=True))
    assert torch.equal(torch.rand(2), expected)


def encoder_of_now():
    with torch.random.fork_rng([]):
        return encoder()


@pytest.mark.parametrize("name", ["bert", "xlm-r", "albert"])
@pytest.mark.parametrize("word", ADD)
def test_a_classifier_head_is_left_alone(word, name):
    changed = ADD[word](made(name)[1])
    assert not [n for n, p in changed.named_parameters() if p.requires_grad and "classifier" in n]


def test_places_and_sizes_are_the_callers_to_choose():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    changed = add_adapters(net, width=2, targets="0", activation="relu")
    sizes = {n: tuple(p.shape) for n, p in changed.named_parameters() if p.requires_grad}
    assert sizes == {
        "0.adapter.down.weight": (2, 6),
        "0.adapter.down.bias": (2,),
        "0.adapter.up.weight": (6, 2),
        "0.adapter.up.bias": (6,),
    }
    changed = add_lora(net, rank=1, targets=["2"])
    sizes = {n: tuple(p.shape) for n, p in changed.named_parameters() if p.requires_grad}
    assert sizes == {"2.lora_A.default.weight": (1, 6), "2.lora_B.default.weight": (3, 1)}


def test_lora_is_its_equation():
    net = nn.Sequential(nn.Linear(4, 3))
    changed = stirred(add_lora(net, rank=2, alpha=6, targets="0"))
    a, b = (p for n, p in changed.named_parameters() if "lora_" in n)
    x = torch.randn(5, 4)
    assert torch.allclose(changed(x), net(x) + 6 / 2 * x @ a.T @ b.T)


def test_an_adapter_is_its_equation():
    adapter = stirred(Adapter(4, 2, "tanh"))
    x = torch.randn(5, 4)
    inner = torch.tanh(x @ adapter.down.weight.T + adapter.down.bias)
    assert torch.allclose(adapter(x), x + inner @ adapter.up.weight.T + adapter.up.bias)


@pytest.mark.parametrize("word", ADD)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "classifer"}, "none that 'classifer' stands for"),
        ({"targets": "1"}, "can take .*, found Tanh for '1'"),
        ({"targets": []}, "found none"),
        ({}, r"whose layers' names are known, found Sequential with 0, 1, 2.\n.*targets="),
        ({"targets": "0", "keep": "3.*"}, "keep in training, found none that '3"),
    ],
)
def test_places_that_make_no_sense_are_refused(word, options, message):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    with pytest.raises(SettingsError, match=message):
        ADD[word](net, **options)


@pytest.mark.parametrize("options", [{"rank": 0}, {"alpha": 0}])
def test_lora_of_no_size_is_refused(options):
    with pytest.raises(SettingsError, match="rank ≥ 1 and alpha > 0"):
        add_lora(encoder(), **options)


@pytest.mark.parametrize("options", [{"width": 0}, {"activation": "step"}])
def test_adapters_of_no_size_or_kind_are_refused(options):
    with pytest.raises(SettingsError, match="width ≥ 1 and an activation of gelu, relu, tanh, silu"):
        add_adapters(encoder(), **options)


def test_fused_attention_takes_adapters_and_no_low_rank_updates():
    with pytest.raises(SettingsError, match=r"nn\.MultiheadAttention, of one weight for all"):
        add_lora(encoder(), targets="*self_attn.out_proj")
    add_adapters(encoder(), targets="*self_attn")


def test_without_peft_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **options):
        if name.startswith("peft"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r"needs the package 'peft'.*\n.*metaglot\[lora\]"):
        add_lora(encoder())


def test_a_base_of_half_precision_under_full_adapters():
    torch.set_default_dtype(torch.float32)
    base = hf.BertForSequenceClassification(made("bert")[1].config).bfloat16()
    changed = add_lora(base)
    for name, parameter in changed.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    model, learner = ModuleModel(changed), nets.maml(2, 0.05, adapt="lora")
    found = nets.gradient(learner, model, learner.init(model, torch.Generator()), tasks_of("label"))[1]
    assert {g.dtype for g in found.values()} == {torch.float32}
    assert any(bool(g.any()) for g in found.values())
