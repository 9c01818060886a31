"""Transformers of sequences: what they see, what they do not, and that learners can differentiate them."""

import math

import pytest
import torch
from torch.func import functional_call, vmap

from metaglot.errors import DataError, SettingsError
from metaglot.learners.maml import MAML
from metaglot.learners.modules import ModuleModel
from metaglot.sequences.blocks import StackConfig
from metaglot.sequences.loss import bits_per_byte, token_cross_entropy, total_nats
from metaglot.sequences.transformer import (
    LanguageModel,
    LanguageModelConfig,
    TranslationConfig,
    TranslationModel,
)
from metaglot.types import Batch, Episode

TINY = StackConfig(d=8, layers=2, heads=2, d_inner=12, dropout=0.0)
V = 11


def language_model(seed=0):
    return LanguageModel(LanguageModelConfig(V, TINY, seed)).eval()


def translation_model(kind="tokens", layers=1):
    source = {"source_vocabulary": 9} if kind == "tokens" else {"d_states": 5}
    encoder = StackConfig(d=8, layers=layers, heads=2, d_inner=12, dropout=0.0)
    return TranslationModel(TranslationConfig(V, **source, decoder=TINY, encoder=encoder)).eval()


def draw(*shape, high=V, seed=0):
    return torch.randint(3, high, shape, generator=torch.Generator().manual_seed(seed))


def sources(kind, n, length, seed=1):
    if kind == "tokens":
        return draw(n, length, high=9, seed=seed)
    return torch.randn(n, length, 5, generator=torch.Generator().manual_seed(seed))


KINDS = pytest.mark.parametrize("kind", ["tokens", "states"])


def test_a_later_token_changes_no_earlier_logit():
    model, target = language_model(), draw(3, 7)
    other = target.clone()
    other[:, 4] = other[:, 4] % (V - 1) + 1
    before, after = model(target), model(other)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().amax(-1).min() > 1e-4


@KINDS
def test_every_source_token_counts_and_order_does(kind):
    model, source, target = translation_model(kind), sources(kind, 1, 4), draw(1, 3)
    logits = model(source, target)
    for place in range(4):
        other = source.clone()
        other[0, place] = (
            sources(kind, 1, 4, seed=9)[0, place] if kind == "states" else source[0, place] % 8 + 1
        )
        assert (model(other, target) - logits).abs().max() > 1e-4
    assert (model(source.flip(1), target) - logits).abs().max() > 1e-4


@KINDS
@pytest.mark.parametrize("layers", [0, 2])
def test_padding_changes_nothing(kind, layers):
    model, source, target = translation_model(kind, layers), sources(kind, 2, 4), draw(2, 3)
    padding = torch.zeros_like(source[:, :3]) if kind == "tokens" else 7 * torch.ones_like(source[:, :3])
    mask = torch.tensor([[True] * 4 + [False] * 3] * 2)
    longer = model(torch.cat((source, padding), 1), torch.cat((target, torch.zeros_like(target)), 1), mask)
    assert torch.allclose(model(source, target), longer[:, :3], atol=1e-5)
    if kind == "tokens":
        assert torch.equal(longer, model(torch.cat((source, padding), 1), torch.cat((target, target * 0), 1)))


@KINDS
def test_step_by_step_with_a_cache_is_the_same(kind):
    model, source, target = translation_model(kind), sources(kind, 2, 4), draw(2, 6)
    whole = model(source, target)
    cache = model.begin(source)
    logits, cache = model.extend(target[:, :2], cache)
    found = [logits]
    for place in range(2, 6):
        logits, cache = model.extend(target[:, place : place + 1], cache)
        found.append(logits)
    assert cache.length == 6
    assert torch.allclose(torch.stack(found, 1), whole[:, 1:], atol=1e-5)


def test_several_rows_share_a_source():
    model, source, target = translation_model(), sources("tokens", 2, 4), draw(6, 5)
    target[:, :2] = target[::3, :2].repeat_interleave(3, 0)
    _, cache = model.extend(target[::3, :2], model.begin(source))
    logits, _ = model.extend(target[:, 2:], cache.select(torch.arange(2).repeat_interleave(3)))
    assert torch.allclose(logits, model(source.repeat_interleave(3, 0), target)[:, -1], atol=1e-5)


def test_distances_count_and_places_do_not():
    assert torch.allclose(rotated(0), rotated(100), atol=1e-4)
    assert not torch.allclose(rotated(0)[..., 1:, 1:], rotated(0)[..., :-1, :-1], atol=1e-1)


def rotated(first):
    from metaglot.sequences.blocks import angles, turned

    q, k = (torch.randn(1, 1, 6, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    turn = angles(first, 6, 8, q)
    return turned(q, turn) @ turned(k, turn).transpose(-2, -1)


def test_one_table_for_input_and_output():
    names = dict(language_model().named_parameters())
    assert [n for n, p in names.items() if V in p.shape] == ["decoder.embedding"]
    assert next(iter(names)) == "context"


def test_the_seed_alone_says_how_a_model_starts():
    torch.manual_seed(1)
    one = language_model(seed=3)
    torch.manual_seed(2)
    same, other = language_model(seed=3), language_model(seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.decoder.embedding, other.decoder.embedding)


@KINDS
def test_the_context_reaches_both_sides(kind):
    model = translation_model(kind)
    source, mask = sources(kind, 1, 4), torch.ones(1, 4, dtype=torch.bool)
    context = torch.linspace(-1, 1, 8)
    assert not torch.allclose(
        model.encoder(source, mask, context), model.encoder(source, mask, model.context)
    )
    with torch.no_grad():
        before = model(source, draw(1, 3))
        model.context += context
        assert not torch.allclose(model(source, draw(1, 3)), before, atol=1e-3)


@KINDS
def test_first_and_second_derivatives_are_right(kind):
    torch.manual_seed(0)
    model = translation_model(kind).double()
    source, target = sources(kind, 2, 3), draw(2, 3)
    source = source.double() if kind == "states" else source
    ways = {n: torch.randn(p.shape, dtype=p.dtype) for n, p in model.named_parameters()}

    def loss(steps):
        """As a function of steps in random directions, of a seventh of the parameters each."""
        moved = {
            name: p.detach() + steps[i % len(steps)] * ways[name]
            for i, (name, p) in enumerate(model.named_parameters())
        }
        logits = functional_call(model, moved, (source, target[:, :-1]))
        return token_cross_entropy(logits, target[:, 1:], 0.1)

    steps = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (steps,))
    assert torch.autograd.gradgradcheck(loss, (steps,))


def test_the_forward_of_several_tasks_runs_under_vmap():
    model = translation_model()
    source, target = sources("tokens", 6, 4).view(3, 2, 4), draw(3, 2, 5)
    params = {
        n: torch.stack([p.detach() * (1 + 0.1 * i) for i in range(3)]) for n, p in model.named_parameters()
    }

    def forward(own, source, target):
        return functional_call(model, own, (source, target))

    together = vmap(forward)(params, source, target)
    for i in range(3):
        alone = forward({n: p[i] for n, p in params.items()}, source[i], target[i])
        assert torch.allclose(together[i], alone, atol=1e-5)


def episode(seed):
    def batch(place):
        text = draw(4, 6, seed=10 * seed + place)
        return Batch({"source": text % 9, "target": text[:, :-1]}, text[:, 1:], torch.arange(0))

    return Episode(batch(0), batch(1))


@pytest.mark.parametrize("adapt", ["context", "decoder.blocks.1.*"])
def test_a_learner_adapts_what_it_is_told_and_differentiates_through_it(adapt):
    model = ModuleModel(translation_model(), token_cross_entropy)
    learner = MAML(steps=2, rate=0.5, adapt=adapt)
    omega = learner.init(model, torch.Generator())
    for value in omega.values():
        value.requires_grad_(value.is_floating_point())
    loss = learner.meta_loss(model, omega, [episode(1), episode(2)])
    found = torch.autograd.grad(loss, [v for v in omega.values() if v.requires_grad], allow_unused=True)
    assert all(torch.isfinite(g).all() for g in found if g is not None)
    assert sum(g is not None and g.abs().sum() > 0 for g in found) > 10


def test_a_copy_task_is_learned():
    config = StackConfig(d=32, layers=2, heads=4, d_inner=64, dropout=0.1)
    model = TranslationModel(TranslationConfig(V, source_vocabulary=V, decoder=config, encoder=config))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    model.train()
    torch.manual_seed(0)
    for step in range(80):
        text = draw(32, 5, seed=step)
        target = torch.cat((torch.ones(32, 1, dtype=torch.int64), text), 1)
        loss = token_cross_entropy(model(text, target[:, :-1]), text)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    text = draw(64, 5, seed=999)
    start = torch.ones(64, 1, dtype=torch.int64)
    guessed = model.eval()(text, torch.cat((start, text[:, :-1]), 1)).argmax(-1)
    assert (guessed == text).float().mean() > 0.95


def test_losses_against_their_formulas():
    logits = torch.randn(2, 3, V, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[4, 5, 0], [6, -100, 0]])
    flat, counted = logits.reshape(-1, V), torch.tensor([4, 5, -1, 6, -1, -1])
    for smoothing in (0.0, 0.2):
        wanted = torch.nn.functional.cross_entropy(flat, counted, ignore_index=-1, label_smoothing=smoothing)
        assert torch.allclose(token_cross_entropy(logits, targets, smoothing), wanted, atol=1e-6)
    total = total_nats(logits, targets)
    assert torch.allclose(total, 3 * token_cross_entropy(logits, targets))
    assert token_cross_entropy(logits, torch.zeros_like(targets)) == 0
    assert bits_per_byte(8 * math.log(2), 4) == pytest.approx(2.0)
    uniform = total_nats(torch.zeros(1, 4, 256), torch.full((1, 4), 7))
    assert bits_per_byte(float(uniform), 4) == pytest.approx(8.0, rel=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: StackConfig(d=10, heads=4), SettingsError, "even multiple"),
        (lambda: StackConfig(dropout=1.0), SettingsError, "dropout"),
        (lambda: TranslationConfig(V), SettingsError, "tokens"),
        (lambda: TranslationConfig(V, 5, 5), SettingsError, "tokens"),
        (lambda: TranslationConfig(V, 5, decoder=TINY), SettingsError, "one width"),
        (lambda: LanguageModel(LanguageModelConfig(0)), SettingsError, "at least 1 row"),
        (lambda: language_model()(draw(2, 3)[0]), DataError, r"\[n, T\]"),
        (lambda: language_model()(draw(2, 3).float()), DataError, "whole numbers"),
        (lambda: translation_model()(draw(2, 0), draw(2, 3)), DataError, "T ≥ 1"),
        (lambda: translation_model("states")(torch.randn(2, 3, 4), draw(2, 3)), DataError, r"\[n, S, 5\]"),
        (lambda: translation_model("states")(torch.randn(2, 0, 5), draw(2, 3)), DataError, "found none"),
        (lambda: translation_model()(draw(1, 3, high=9), draw(2, 3)), DataError, "each source"),
        (
            lambda: translation_model()(draw(2, 3, high=9), draw(2, 3), torch.ones(2, 3)),
            DataError,
            "True and False",
        ),
        (lambda: token_cross_entropy(torch.zeros(1, 2, V), draw(1, 3)), DataError, "each place"),
        (lambda: token_cross_entropy(torch.zeros(1, 3, V), draw(1, 3), 1.0), SettingsError, "smoothing"),
        (lambda: bits_per_byte(1.0, 0), DataError, "one byte"),
    ],
)
def test_what_is_wrong_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()
