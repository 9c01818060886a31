"""Hugging Face models that write from a source, tiny and random: how they write, and that they learn."""

import pytest
import torch
import transformers as hf

from metaglot.errors import DataError, SettingsError
from metaglot.learners.fomaml import fomaml
from metaglot.learners.insertions import add_lora
from metaglot.learners.maml import MAML
from metaglot.learners.meta_gradient import meta_gradient
from metaglot.learners.modules import ModuleModel
from metaglot.sequences.decoding import Decoding, Limits, beam, greedy, sample
from metaglot.sequences.loss import token_cross_entropy
from metaglot.sequences.pretrained import PretrainedTranslation
from metaglot.types import Batch, Episode

V = 64
BART = {"vocab_size": V, "d_model": 16, "max_position_embeddings": 64} | {
    f"{side}_{what}": size
    for side in ("encoder", "decoder")
    for what, size in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 24))
}
T5 = {"vocab_size": V, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
T5 |= {"decoder_start_token_id": 0}
MARIAN = BART | {"pad_token_id": V - 1, "eos_token_id": 0, "decoder_start_token_id": V - 1}
MODELS = {
    "m2m100": lambda: hf.M2M100ForConditionalGeneration(hf.M2M100Config(**BART)),  # and NLLB
    "marian": lambda: hf.MarianMTModel(hf.MarianConfig(**MARIAN, forced_eos_token_id=None)),
    "mt5": lambda: hf.MT5ForConditionalGeneration(hf.MT5Config(**T5)),
    "t5": lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)),  # and ByT5
}
SHORT = Decoding(limits=Limits(0, 10))
WHOLE = Decoding(limits=Limits(0, 10), cached=False)


def made(name, std=0.4):
    torch.manual_seed(0)
    base = MODELS[name]().eval()
    for parameter in base.parameters():
        if parameter.ndim > 1:  # far from its tiny start, for texts that are not all alike
            torch.nn.init.normal_(parameter, std=std)
    return PretrainedTranslation(base)


def sources(n=5, length=9):
    torch.manual_seed(1)
    source = torch.randint(3, V - 1, (n, length))
    source[1:2, 5:] = source[2:3, 2:] = 0
    return source


each_model = pytest.mark.parametrize("name", MODELS)


@each_model
def test_padding_is_0_and_the_end_2_and_every_token_has_one_number(name):
    model = made(name)
    config = model.base.config
    assert model.rows[0] == config.pad_token_id
    assert model.rows[2] == config.eos_token_id
    assert model.rows[model.start] == config.decoder_start_token_id
    assert sorted(model.rows.tolist()) == list(range(V))
    assert int((model.rows != torch.arange(V)).sum()) <= 4


@each_model
def test_logits_are_the_models_own_and_padding_does_not_matter(name):
    model = made(name)
    source = sources()
    target = torch.randint(3, V - 1, (5, 4))
    target[:, 0] = model.start
    with torch.no_grad():
        found = model(source=source, target=target, source_mask=source != 0)
        mask = (source != 0).long()
        base = model.base(
            input_ids=model.rows[source], attention_mask=mask, decoder_input_ids=model.rows[target]
        )
        alone = model(source[2:3, :2], target[2:3])
        assert torch.equal(found, model(source, target))
    own = torch.empty_like(base.logits)
    own[..., torch.arange(V)] = base.logits[..., model.rows]
    assert torch.equal(found, own)
    torch.testing.assert_close(found[2:3], alone, atol=1e-4, rtol=1e-4)


@each_model
def test_greedy_writes_what_generate_does(name):
    model = made(name)
    source = sources(12)
    found = greedy(model, [[model.start]] * 12, {"source": source, "source_mask": source != 0}, SHORT)
    written = model.base.generate(
        input_ids=model.rows[source],
        attention_mask=(source != 0).long(),
        num_beams=1,
        do_sample=False,
        max_new_tokens=10,
        bad_words_ids=[[int(model.rows[0])]],
    )
    for one, row in zip(found, model.rows.argsort()[written][:, 1:].tolist(), strict=True):
        assert list(one.ids) == (row[: row.index(2)] if 2 in row else row)
    assert len({one.ids for one in found}) > 3, "texts that differ, or the test says little"


@each_model
def test_beam_search_finds_what_generate_does(name):
    model = made(name)
    source = sources()
    options = {"num_beams": 3, "do_sample": False, "length_penalty": 0.0}
    written = model.base.generate(
        input_ids=model.rows[source],
        attention_mask=(source != 0).long(),
        bad_words_ids=[[int(model.rows[0])]],
        min_new_tokens=10,  # of one length, for ends are ranked otherwise
        max_new_tokens=10,
        **options,
    )
    endless = Decoding(limits=Limits(0, 10), banned=(0, 2))
    found = beam(model, [[model.start]] * 5, {"source": source}, endless, width=3, length_penalty=0)
    own = model.rows.argsort()[written][:, 1:].tolist()
    assert [list(best[0].ids) for best in found] == own


@each_model
def test_kept_keys_and_values_change_nothing(name):
    model = made(name)
    inputs = {"source": sources()}
    # A tag after the first token, as models of many languages have it; and rows that begin differently.
    prefix = [[model.start, 5], [model.start, 6], [model.start], [model.start, 5], [model.start]]
    for write in (greedy, lambda *given: sample(*given, seed=3)):
        for kept, whole in zip(
            write(model, prefix, inputs, SHORT), write(model, prefix, inputs, WHOLE), strict=True
        ):
            assert kept.ids == whole.ids
            assert kept.log_p == pytest.approx(whole.log_p, abs=1e-4)
    options = {"width": 4, "n_best": 2}
    kept, whole = (beam(model, prefix, inputs, how, **options) for how in (SHORT, WHOLE))
    assert [[one.ids for one in best] for best in kept] == [[one.ids for one in best] for best in whole]


def test_writing_leaves_a_model_as_it_was():
    model = made("mt5")
    assert not model.training and not model.base.training
    greedy(model, [[model.start]], {"source": sources(2)[:1]}, SHORT)
    assert not any(part.training for part in model.modules())
    source, target = sources(), torch.full((5, 2), model.start)
    assert torch.equal(model(source, target), model(source, target)), "no dropout"


def test_a_cache_before_pytorchs_layers_is_read_too():
    from types import SimpleNamespace

    from metaglot.sequences.pretrained import _pairs

    old = SimpleNamespace(key_cache=[torch.ones(1)], value_cache=[torch.zeros(1)])
    assert _pairs(old) == ((torch.ones(1), torch.zeros(1)),)


def task(model, shift, n=8):
    """A language: every token of the source is said by the one `shift` further on."""
    source = torch.randint(8, 16, (n, 4))
    source[0, 2:] = 0
    words = torch.where(source > 0, (source + shift - 8) % 8 + 20, 0)
    sequence = torch.cat((torch.full((n, 1), model.start), words, torch.zeros(n, 1, dtype=torch.int64)), 1)
    sequence[torch.arange(n), 1 + (source > 0).sum(1)] = 2
    inputs = {"source": source, "source_mask": source > 0, "target": sequence[:, :-1]}
    return Batch(inputs, sequence[:, 1:], torch.arange(0))


def episode(model, shift):
    return Episode(support=task(model, shift), query=task(model, shift))


def finite_difference(learner, model, meta, episodes, gradient):
    """The loss's change along the meta-gradient, by differences and by the gradient."""
    total = sum(g.square().sum() for g in gradient.values()) ** 0.5
    step = 1e-5
    losses = []
    for sign in (1, -1):
        moved = {n: (v + sign * step * gradient[n] / total).detach() for n, v in meta.items()}
        losses.append(meta_gradient(learner, model, moved, episodes)[0])
    return float(losses[0] - losses[1]) / (2 * step), float(total)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@each_model
@pytest.mark.usefixtures("double")
def test_exact_maml_on_chosen_layers_has_the_right_meta_gradient(name):
    torch.manual_seed(2)
    module = made(name, std=0.2).double()
    model = ModuleModel(module, loss=token_cross_entropy)
    decoder = "*decoder.block.1.*" if name in ("mt5", "t5") else "*decoder.layers.1.*"
    learner = MAML(steps=2, rate=0.3, adapt=decoder)
    meta = learner.init(model, torch.Generator())
    episodes = [episode(module, shift) for shift in (1, 3)]
    _, gradient = meta_gradient(learner, model, meta, episodes)
    by_differences, by_gradient = finite_difference(learner, model, meta, episodes, gradient)
    assert by_differences == pytest.approx(by_gradient, rel=2e-3)


@pytest.mark.usefixtures("double")
def test_exact_maml_on_low_rank_updates_has_the_right_meta_gradient():
    torch.manual_seed(2)
    module = add_lora(made("m2m100", std=0.2).double(), rank=2)
    model = ModuleModel(module, loss=token_cross_entropy)
    learner = MAML(steps=2, rate=0.3, adapt="lora")
    meta = learner.init(model, torch.Generator())
    for name, value in meta.items():  # B is 0 at first, and A has no gradient
        if "lora_B" in name:
            meta[name] = value + 0.1 * torch.randn_like(value)
    episodes = [episode(module, shift) for shift in (1, 3)]
    _, gradient = meta_gradient(learner, model, meta, episodes)
    assert any("lora_A" in name and value.abs().sum() > 0 for name, value in gradient.items())
    by_differences, by_gradient = finite_difference(learner, model, meta, episodes, gradient)
    assert by_differences == pytest.approx(by_gradient, rel=2e-3)


def learned(learner, module, rate, steps=12, tasks=2):
    """The query loss of a new language, adapted on its support set, before and after meta-training."""
    torch.manual_seed(3)
    model = ModuleModel(module, loss=token_cross_entropy)
    meta = learner.init(model, torch.Generator().manual_seed(0))
    new = episode(module, 5)

    def judged():
        adapted = learner.adapt(model, meta, new.support)
        return float(model.loss(learner.predict(model, meta, adapted, new.query), new.query.targets))

    before = judged()
    rates = {name: rate * learner.outer_rate(name) for name in meta}
    optimizer = torch.optim.Adam([{"params": [value], "lr": rates[name]} for name, value in meta.items()])
    for step in range(steps):
        episodes = [episode(module, (step * tasks + i) % 5) for i in range(tasks)]  # never the new one's
        _, gradient = meta_gradient(learner, model, meta, episodes)
        for name, value in meta.items():
            value.grad = gradient.get(name)
        optimizer.step()
    return before, judged()


@pytest.mark.parametrize("name", ["m2m100", "t5"])
def test_first_order_maml_learns_all_of_it(name):
    before, after = learned(fomaml(steps=2, rate=0.3), made(name, std=0.15), rate=0.03)
    assert after < before - 0.1


@pytest.mark.parametrize(("name", "layer"), [("marian", "*decoder.layers.1.*"), ("mt5", "last:1")])
def test_exact_maml_learns_chosen_layers(name, layer):
    module = made(name, std=0.15)
    module.base.get_encoder().requires_grad_(False)
    frozen = {n: p.detach().clone() for n, p in module.named_parameters() if not p.requires_grad}
    before, after = learned(MAML(steps=2, rate=0.3, adapt=layer), module, rate=0.03)
    assert after < before - 0.1
    assert frozen, "the tied table and the encoder"
    assert all(torch.equal(p, frozen[n]) for n, p in module.named_parameters() if n in frozen)


@pytest.mark.parametrize(("name", "targets"), [("m2m100", None), ("mt5", ["*.q", "*.v", "*lm_head"])])
def test_low_rank_updates_alone_are_learned(name, targets):
    module = add_lora(made(name, std=0.15), rank=4, targets=targets)
    trained = [n for n, p in module.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in n for n in trained)
    before, after = learned(MAML(steps=2, rate=1.0, adapt="lora"), module, rate=0.1)
    assert after < before - 0.05


def test_it_writes_with_low_rank_updates_in_it():
    plain, inputs = made("mt5"), {"source": sources()}
    module = add_lora(plain, rank=4)
    same = greedy(module, [[plain.start]] * 5, inputs, SHORT)
    assert [one.ids for one in same] == [one.ids for one in greedy(plain, [[plain.start]] * 5, inputs, SHORT)]
    torch.manual_seed(4)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    kept, whole = (greedy(module, [[plain.start]] * 5, inputs, how) for how in (SHORT, WHOLE))
    assert [one.ids for one in kept] == [one.ids for one in whole] != [one.ids for one in same]


def test_what_is_no_such_model_is_refused():
    sizes = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with pytest.raises(SettingsError, match="sequence-to-sequence model of transformers, found BertModel"):
        PretrainedTranslation(hf.BertModel(hf.BertConfig(**sizes, intermediate_size=16)))
    with pytest.raises(SettingsError, match="found Linear"):
        PretrainedTranslation(torch.nn.Linear(1, 1))
    sides = MARIAN | {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}
    with pytest.raises(SettingsError, match=r"one vocabulary on both sides, found 64 .* 70"):
        PretrainedTranslation(hf.MarianMTModel(hf.MarianConfig(**sides, decoder_vocab_size=70)))
    base = MODELS["mt5"]()
    base.config.eos_token_id = base.generation_config.eos_token_id = None
    with pytest.raises(SettingsError, match="found 0, -1 and 0"):
        PretrainedTranslation(base)


def test_inputs_of_another_shape_are_refused():
    model = made("mt5")
    source, target = sources(), torch.full((5, 2), model.start)
    with pytest.raises(DataError, match="expected target ids"):
        model(source, target.float())
    with pytest.raises(DataError, match="expected source ids"):
        model.begin(source[0])
    with pytest.raises(DataError, match="expected a source mask of True and False"):
        model(source, target, (source != 0).long())
