"""What of an example's units is learned from."""

from dataclasses import replace

import pytest
import torch

from kind_corpora import corpus, encoder
from metaglot import drawing
from metaglot import model as model_module
from metaglot.config import TrainSettings
from metaglot.kinds.base import NOTHING
from metaglot.learners.base import IGNORED
from metaglot.model import fit_sources
from metaglot.space import TaskSpace


@pytest.fixture(scope="module")
def parsed():
    made = corpus("parsing")
    return fit_sources(TaskSpace.of(made, [made.languages[-1]]), encoder())


def test_of_units_that_are_nothing_some_are_learned_from_and_of_the_others_all(parsed, monkeypatch):
    monkeypatch.setattr(model_module, "_NOTHINGS", 1)
    table = parsed.tables[0]
    labels = table.task.labels
    rows = [0, 2, 3]
    every = table.batch(parsed.model, rows, labels)
    support = table.support(parsed.model, rows, labels)
    nothing = labels.index(NOTHING)

    def counts(batch):
        return torch.bincount(batch.targets[batch.targets != IGNORED], minlength=len(labels))

    expected = counts(every)
    assert expected[nothing] > len(rows)
    expected[nothing] = len(rows)
    assert torch.equal(counts(support), expected)
    again = table.support(parsed.model, rows, labels)
    assert torch.equal(support.targets, again.targets)
    assert all(torch.equal(support.inputs[name], again.inputs[name]) for name in support.inputs)


def test_where_there_are_few_of_them_all_are_learned_from(parsed, monkeypatch):
    monkeypatch.setattr(model_module, "_NOTHINGS", 10_000)
    table = parsed.tables[0]
    rows = range(len(table.examples))
    every = table.batch(parsed.model, rows, table.task.labels)
    assert len(table.support(parsed.model, rows, table.task.labels)) == int((every.targets != IGNORED).sum())


def test_the_prior_is_learned_of_a_bounded_number_of_units(parsed, monkeypatch):
    seen = []

    def watched(languages, widths, n_labels, *, log_shares, **others):
        seen.append((sum(int(source.learned.sum()) for source in languages), log_shares))
        return fit_network(languages, widths, n_labels, log_shares=log_shares, **others)

    fit_network = model_module.fit_network
    monkeypatch.setattr(model_module, "fit_network", watched)
    made = corpus("parsing")
    space = TaskSpace.of(made, [made.languages[-1]])
    fit_sources(space, encoder())
    monkeypatch.setattr(model_module, "_PRIOR_UNITS", 60)
    fit_sources(space, encoder())
    (whole, kept), (part, shares) = seen
    assert torch.equal(kept, torch.zeros_like(kept))
    assert 20 < part < 100 < whole
    assert shares.min() < 0


def test_priors_of_tasks_that_count_sentences_are_not_spoilt_by_default(parsed):
    calm, by_default, spoilt = (
        [drawing.source_episode(parsed, TrainSettings(prior_noise=noise), n).query.prior for n in range(6)]
        for noise in (0.0, None, 0.3)
    )
    assert all(torch.equal(a, b) for a, b in zip(calm, by_default, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(calm, spoilt, strict=True))


def test_without_an_example_nothing_weighs_what_makes_the_best_answers_in_languages_left_out(parsed):
    model = parsed.model
    metric = model.kind.metrics[0]

    def worth(offset):
        tried = replace(model, prior=replace(model.prior, nothing=offset))
        found = []
        for table in parsed.tables:
            rows = range(len(table.examples))
            batch = table.batch(model, rows, table.task.labels)
            logits = model.prior.sharpness * batch.prior
            logits[:, table.task.labels.index(NOTHING)] += offset
            head = tried.zero_shot_head(batch.classes)
            assert torch.allclose(tried.task_model.forward(head, batch), logits, atol=1e-5)
            answers = model.answers(table, rows, logits, table.task.labels)
            found.append(model.kind.judge(table.examples, answers)[metric])
        return sum(found) / len(found)

    worths = {offset: worth(offset) for offset in model_module._OFFSETS}
    assert worths[model.prior.nothing] == max(worths.values())
    assert len(set(worths.values())) > 1


def test_a_kind_without_nothing_has_no_weight_for_it():
    made = corpus("tagging")
    found = fit_sources(TaskSpace.of(made, [made.languages[-1]]), encoder())
    assert NOTHING not in found.model.labels
    assert found.model.prior.nothing == 0.0
    head = found.model.zero_shot_head(torch.tensor([1, -1, 0]))
    assert torch.equal(head["bias"], torch.zeros(3))
