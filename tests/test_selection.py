"""What adapts: the words, patterns and their sums, and what matches nothing."""

import pytest
import torch
from torch import nn

import networks as nets
from metaglot.errors import SettingsError
from metaglot.label_scores import LabelScores
from metaglot.learners.insertions import add_adapters, add_lora
from metaglot.learners.modules import EmbeddingModel, ModuleModel
from metaglot.learners.selection import layers, select


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 3)
        self.norm = nn.LayerNorm(4)
        self.classifier = nn.Linear(4, 3)

    def forward(self, ids):
        return self.classifier(self.norm(self.blocks(self.table(ids))))


def chosen(module, choice):
    model = ModuleModel(module)
    names = list(model.init(0))
    found = select(model, choice, names)
    assert [n for n in names if n in set(found)] == list(found)  # from input to output
    return set(found), set(names)


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("all", lambda n: True),
        ("head", lambda n: n.startswith("classifier.")),
        ("body", lambda n: not n.startswith("classifier.")),
        ("bias", lambda n: n.endswith("bias")),
        ("norm", lambda n: "norm" in n),
        ("norm + head", lambda n: "norm" in n or n.startswith("classifier.")),
        ("table.weight", lambda n: n == "table.weight"),
        (
            "blocks.layers.[02].linear*",
            lambda n: n[:15] in {"blocks.layers.0", "blocks.layers.2"} and ".linear" in n,
        ),
        ("last:1", lambda n: n.startswith(("blocks.layers.2", "norm", "classifier"))),
        ("last:3", lambda n: n != "table.weight"),
    ],
)
def test_words_and_patterns(choice, wanted):
    found, names = chosen(Tagger(), choice)
    assert found == {n for n in names if wanted(n)}


def test_insertions_are_found_by_their_words():
    assert all("lora_" in n for n in chosen(add_lora(Tagger(), freeze=False), "lora")[0])
    found, names = chosen(add_adapters(Tagger(), freeze=False), "adapter+head")
    assert {n for n in names if ".adapter." in n or n.startswith("classifier")} == found


def test_layers_are_the_members_of_a_numbered_list_or_modules():
    assert layers(["emb.weight", "h.0.a.weight", "h.0.b.weight", "h.1.a.weight", "out.w", "out.b"]) == [
        ["emb.weight"],
        ["h.0.a.weight", "h.0.b.weight"],
        ["h.1.a.weight"],
        ["out.w", "out.b"],
    ]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            "clasifier.weight",
            r"none that 'clasifier.weight' stands.*\n.*Did you mean 'classifier.weight'",
        ),
        ("encoder.*", r"among \d+: table.weight, .*…\.\n"),
        ("heads", "Did you mean 'head'"),
        ("head+nothing.*", "none that 'nothing"),
        ("lora", r"add_lora\(module\)"),
        ("adapter", r"add_adapters\(module\)"),
        ("", "expected what to adapt"),
        ("last:0", "N ≥ 1, found 'last:0'"),
        ("last:two", "N ≥ 1, found 'last:two'"),
        ("last:4", "up to the model's 3 layers, found 'last:4'"),
    ],
)
def test_what_stands_for_nothing_is_refused(choice, message):
    with pytest.raises(SettingsError, match=message):
        chosen(Tagger(), choice)


def test_norms_and_biases_that_are_not_there_are_said_to_be_missing():
    net = nn.Linear(4, 3, bias=False)
    for word in ("norm", "bias"):
        with pytest.raises(SettingsError, match="no such parameters that are trainable"):
            chosen(net, word)


def test_a_head_alone_has_no_body():
    model = LabelScores({"dense": 4}, 3)
    with pytest.raises(SettingsError, match="a head alone"):
        select(model, "body", list(model.init(3)))


@pytest.mark.parametrize("choice", ["head", "body", "bias", "2.*"])
def test_what_is_not_chosen_is_shared(choice, double):
    model, learner = ModuleModel(nets.mlp().double()), nets.maml(adapt=choice)
    meta = nets.moved(learner, model)
    own = select(model, choice, list(model.init(0)))
    adapted = learner.adapt(model, meta, nets.batch(0))
    assert set(adapted) == set(own)
    assert all(not torch.equal(adapted[n], meta["start." + n]) for n in own)
    found = nets.gradient(learner, model, meta, nets.episodes(2))[1]
    assert all(bool(g.any()) for g in found.values())  # shared parameters are meta-learned


def test_a_head_that_no_two_tasks_have_in_common_must_adapt():
    model = EmbeddingModel(nets.mlp(outputs=5), 5)
    with pytest.raises(SettingsError, match=r"nothing be learned.\n.*adapt='body\+head'"):
        nets.maml(adapt="body").init(model, torch.Generator())
