"""The memory: what is written, what is read, and that classes that come again are known the better for it."""

import pytest
import torch
from torch import nn

from metaglot.config import TrainSettings
from metaglot.errors import SettingsError
from metaglot.label_scores import LabelScores
from metaglot.learners.memory import AGE, CLASS, COUNT, EMPTY, KEYS, SHIFT, TASK, TRUST, Memory
from metaglot.learners.modules import EmbeddingModel
from metaglot.learners.protonet import ProtoNet
from metaglot.outer_loop import meta_train
from metaglot.types import Batch, Episode
from small_tasks import judge, learn

DENSE = KEYS + "dense"
WORLD = 30  # classes in all, five of which are in a task


def model_of(n_labels=WORLD, width=8):
    return LabelScores({"dense": width}, n_labels)


def recurring(seed, shots=1, queries=5, shift=0.0, classes=None):
    """Five of thirty classes, noisy, all moved by what the task has of its own."""
    world = torch.randn(WORLD, 8, generator=torch.Generator().manual_seed(0)) / 8**0.5
    chance = torch.Generator().manual_seed(seed + 1)
    rows = torch.randperm(WORLD, generator=chance)[:5]
    own = shift * torch.randn(8, generator=chance) / 8**0.5

    def batch(count):
        targets = torch.arange(5).repeat_interleave(count)
        noise = 1.0 * torch.randn(len(targets), 8, generator=chance) / 8**0.5
        return Batch(
            {"dense": world[rows][targets] + own + noise}, targets, rows if classes is None else classes
        )

    return Episode(batch(shots), batch(queries))


def episode(points, targets, classes, task=""):
    batch = Batch({"dense": torch.tensor(points)}, torch.tensor(targets), torch.tensor(classes))
    return Episode(batch, batch[:0], task)


def begun(learner, model):
    return learner.init(model, torch.Generator())


def slots(state):
    """(class, count, age, key) of the slots that were written."""
    rows = zip(state[CLASS].tolist(), state[COUNT].tolist(), state[AGE].tolist(), state[DENSE], strict=True)
    return [(c, n, age, key.tolist()) for c, n, age, key in rows if c != EMPTY]


# --- writing


def test_a_slot_is_the_mean_of_all_examples_of_a_class(double):
    learner, model = Memory(), model_of(3, 2)
    meta = begun(learner, model)
    first = episode([[1.0, 0.0], [3.0, 0.0], [0.0, 8.0]], [0, 0, 1], [2, 0])
    second = episode([[5.0, 6.0], [7.0, 7.0]], [1, 0], [-1, 2])
    meta |= learner.write(model, meta, [first])
    assert sorted(slots(meta)) == [(0, 1, 0, [0.0, 8.0]), (2, 2, 0, [2.0, 0.0])]
    meta |= learner.write(model, meta, [second])
    # Class 2: the mean of (1, 0), (3, 0), (5, 6); the new class, at −1, is not written.
    assert sorted(slots(meta)) == [(0, 1, 1, [0.0, 8.0]), (2, 3, 0, [3.0, 2.0])]


def test_support_and_query_are_both_written(double):
    learner, model, task = Memory(), model_of(), recurring(3, shots=2, queries=4)
    meta = begun(learner, model) | learner.write(model, begun(learner, model), [task])
    both = torch.cat([task.support.inputs["dense"], task.query.inputs["dense"]])
    targets = torch.cat([task.support.targets, task.query.targets])
    for label, row in enumerate(task.support.classes.tolist()):
        (slot,) = (meta[CLASS] == row).nonzero()
        assert torch.allclose(meta[DENSE][slot], both[targets == label].mean(0))
        assert int(meta[COUNT][slot]) == 6


def test_a_class_has_a_slot_in_every_task_and_the_oldest_gives_way():
    learner, model = Memory(slots=1), model_of(3, 1)  # three slots
    meta = begun(learner, model)
    for place, (row, task) in enumerate([(0, "a"), (1, "a"), (0, "b"), (1, "a"), (2, "c")]):
        meta |= learner.write(model, meta, [episode([[float(place)]], [0], [row], task)])
    # (0, a), written first and never again, has made room for (2, c); (1, a) is the mean of 1 and 3.
    assert sorted(slots(meta)) == [(0, 1, 2, [2.0]), (1, 2, 1, [2.0]), (2, 1, 0, [4.0])]
    assert len(set(meta[TASK].tolist())) == 3


def test_a_slot_that_is_full_follows_what_comes(double):
    learner, model = Memory(cap=3), model_of(1, 1)
    meta = begun(learner, model)
    for value in [0.0] * 50 + [1.0] * 20:
        meta |= learner.write(model, meta, [episode([[value]], [0], [0])])
    assert slots(meta)[0][3][0] == pytest.approx(1 - 0.75**20)


def test_writing_changes_nothing_but_what_it_returns():
    learner, model = Memory(), model_of()
    meta = begun(learner, model)
    before = {n: v.clone() for n, v in meta.items()}
    written = learner.write(model, meta, [recurring(0)])
    assert all(torch.equal(meta[n], v) for n, v in before.items())
    assert set(written) == {n for n in meta if learner.outer_rate(n) == 0}
    assert all(v.shape == meta[n].shape and v.dtype == meta[n].dtype for n, v in written.items())


# --- reading


def test_an_empty_memory_is_protonet():
    model, support = model_of(), recurring(1, shots=3).support
    ours = Memory().adapt(model, begun(Memory(), model), support)
    theirs = ProtoNet().adapt(model, ProtoNet().init(model, torch.Generator()), support)
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


@pytest.mark.parametrize("shots", [1, 2, 8])
def test_what_it_remembers_counts_as_rho_examples(shots, double):
    learner, model = Memory(), model_of(4, 2)
    meta = begun(learner, model)
    meta |= learner.write(model, meta, [episode([[1.0, 0.0], [0.0, 1.0]], [0, 1], [0, 1])])
    meta |= {TRUST: torch.tensor(3.0).log(), SHIFT: torch.tensor(-60.0)}  # ρ = 3, no offset
    points = torch.tensor([[5.0, 5.0], [-2.0, 2.0]]).repeat_interleave(shots, 0)
    support = Batch({"dense": points}, torch.tensor([0, 1]).repeat_interleave(shots), torch.tensor([1, -1]))
    sharpness = 8.0
    found = learner.adapt(model, meta, support)["weight.dense"] / (2 * sharpness)
    # The first label is class 1, at (0, 1); the second is new and reads nothing.
    expected = (shots * torch.tensor([5.0, 5.0]) + 3 * torch.tensor([0.0, 1.0])) / (shots + 3)
    assert torch.allclose(found[0], expected)
    assert torch.allclose(found[1], torch.tensor([-2.0, 2.0]))


def test_slots_near_the_examples_are_read_most_and_those_of_other_classes_never(double):
    learner, model = Memory(), model_of(3, 1)
    meta = begun(learner, model)
    past = [([[0.0]], 0, "a"), ([[2.0]], 0, "b"), ([[0.1]], 1, "a")]
    meta |= learner.write(model, meta, [episode(point, [0], [row], task) for point, row, task in past])
    meta |= {TRUST: torch.tensor(60.0), SHIFT: torch.tensor(-60.0)}  # the memory alone counts
    support = Batch({"dense": torch.tensor([[0.3], [9.0]])}, torch.tensor([0, 1]), torch.tensor([0, 2]))
    found = learner.adapt(model, meta, support)["weight.dense"] / 16
    near = torch.tensor([-(0.3**2), -(1.7**2)]).softmax(0)
    assert torch.allclose(found, torch.stack([2.0 * near[1:], torch.tensor([9.0])]))


def test_what_a_task_shifts_all_its_classes_by_is_believed(double):
    learner, model = Memory(), model_of(3, 2)
    meta = begun(learner, model)
    corners = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]
    meta |= learner.write(model, meta, [episode(corners, [0, 1, 2], [0, 1, 2])])
    moved = torch.tensor(corners) + torch.tensor([10.0, -3.0])
    batch = Batch({"dense": moved}, torch.arange(3), torch.arange(3))
    without = batch[:2]  # of the third class there is no example
    found = learner.adapt(model, meta | {SHIFT: torch.tensor(60.0)}, without)["weight.dense"] / 16
    assert torch.allclose(found, moved)


def test_a_class_without_examples_is_predicted_where_it_is_remembered():
    learner, model = Memory(), LabelScores({"dense": 2, "ngrams": 3}, 4, frozenset({"ngrams"}))
    both = {"dense": torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "ngrams": torch.eye(3)[:2]}
    meta = begun(learner, model)
    past = Batch(
        {"dense": torch.tensor([[-1.0, -1.0]]), "ngrams": torch.eye(3)[2:]},
        torch.tensor([0]),
        torch.tensor([3]),
    )
    meta |= learner.write(model, meta, [Episode(past, past)])
    support = Batch(both, torch.tensor([0, 1]), torch.tensor([0, 1, 3, 2]))
    query = Batch(
        {"dense": torch.tensor([[-1.0, -1.0]]), "ngrams": torch.zeros(1, 3)},
        torch.tensor([2]),
        support.classes,
    )
    logits = learner.predict(model, meta, learner.adapt(model, meta, support), query)
    assert int(logits.argmax()) == 2  # class 3, of the memory
    assert float(logits[0, 3]) < -1e3  # class 2, of which nobody knows


def test_while_a_task_is_trained_on_its_own_slots_are_out_of_sight():
    learner, model = Memory(), model_of()
    past, other = recurring(5), recurring(6)
    named = [Episode(e.support, e.query, task) for e, task in ((past, "swh"), (other, "yor"))]
    empty = begun(learner, model)
    meta = empty | learner.write(model, empty, named)
    only = empty | learner.write(model, empty, named[1:])
    seen, apart = learner.meta_loss(model, meta, named[:1]), learner.meta_loss(model, only, named[:1])
    assert torch.equal(seen, apart)
    unnamed = learner.meta_loss(model, meta, [past])
    assert float(unnamed) < float(seen) - 0.1  # its own query set, in the memory, gives it away


# --- what it is worth


@pytest.mark.parametrize("shift", [0.0, 1.0], ids=["one world", "tasks that shift"])
def test_classes_that_come_again_are_known_better_than_without_memory(shift):
    def family(seed):
        return recurring(seed, shift=shift)

    model, learner = model_of(), Memory()
    before, meta = learn(learner, model, family, 60)
    emptied = meta | {CLASS: torch.full_like(meta[CLASS], EMPTY)}
    _, plain = learn(ProtoNet(), model, family, 60)
    loss, right = judge(learner, model, meta, family)
    for other, learned in ((learner, before), (learner, emptied), (ProtoNet(), plain)):
        without = judge(other, model, learned, family)
        assert loss < without[0] - 0.1
        assert right > without[1] + 0.05


def test_new_classes_are_known_as_well_as_without_memory():
    model, learner, new = model_of(), Memory(), torch.full((5,), -1)
    _, meta = learn(learner, model, recurring, 30)
    emptied = meta | {CLASS: torch.full_like(meta[CLASS], EMPTY)}

    def family(seed):
        return recurring(seed, classes=new)

    assert judge(learner, model, meta, family) == judge(learner, model, emptied, family)


def test_it_remembers_what_a_body_makes_of_its_inputs():
    """The label is in four of twelve columns; a body finds them, and its memory follows."""
    torch.manual_seed(0)
    model = EmbeddingModel(nn.Sequential(nn.Linear(12, 8)), 8, n_labels=WORLD)
    world = 1.2 * torch.randn(WORLD, 4)

    def family(seed):
        chance = torch.Generator().manual_seed(seed)
        rows = torch.randperm(WORLD, generator=chance)[:5]

        def batch(count):
            targets = torch.arange(5).repeat_interleave(count)
            x = 2.0 * torch.randn(len(targets), 12, generator=chance)
            x[:, :4] = world[rows][targets] + torch.randn(len(targets), 4, generator=chance)
            return Batch({"x": x}, targets, rows)

        return Episode(batch(1), batch(5))

    before, meta = learn(Memory(outer_rate=0.01), model, family, 80)
    _, plain = learn(ProtoNet(outer_rate=0.01), model, family, 80)
    right = judge(Memory(), model, meta, family)[1]
    assert right > judge(Memory(), model, before, family)[1] + 0.2
    assert right > judge(ProtoNet(), model, plain, family)[1] + 0.05


def test_training_on_languages_fills_it(noisy_sources):
    settings = TrainSettings(steps=12, episodes=4, shots=(1, 2), queries=2)
    result = meta_train(noisy_sources, Memory(), settings)
    tables = noisy_sources.tables
    met = {(int(c), int(t)) for c, t in zip(result.meta[CLASS], result.meta[TASK], strict=True) if c != EMPTY}
    assert len(met) == sum(len(table.task.labels) for table in tables) == 16


@pytest.mark.parametrize("options", [{"slots": 0}, {"cap": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(SettingsError, match="expected slots ≥ 1 and cap ≥ 1"):
        Memory(**options)
