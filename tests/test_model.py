"""What of an example's units is learned from."""

import pytest
import torch

from kind_corpora import corpus, encoder
from metaglot import drawing
from metaglot import model as model_module
from metaglot.config import TrainSettings
from metaglot.kinds.base import NOTHING
from metaglot.learners.base import IGNORED
from metaglot.model import fit_sources
from metaglot.prior import PENALTIES
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

    def watched(languages, widths, n_labels, *, penalties, log_shares, **others):
        learned = sum(int(source.learned.sum()) for source in languages)
        seen.append((learned, log_shares, penalties))
        return fit_prior(languages, widths, n_labels, penalties=penalties, log_shares=log_shares, **others)

    fit_prior = model_module.fit_prior
    monkeypatch.setattr(model_module, "fit_prior", watched)
    made = corpus("parsing")
    space = TaskSpace.of(made, [made.languages[-1]])
    fit_sources(space, encoder())
    monkeypatch.setattr(model_module, "_PRIOR_UNITS", 60)
    fit_sources(space, encoder())
    (whole, kept, penalties), (part, shares, _) = seen
    assert torch.equal(kept, torch.zeros_like(kept))
    assert 20 < part < 100 < whole
    assert shares.min() < 0
    assert set(penalties) < set(PENALTIES)


def test_priors_of_tasks_that_count_sentences_are_not_spoilt_by_default(parsed):
    calm, by_default, spoilt = (
        [drawing.source_episode(parsed, TrainSettings(prior_noise=noise), n).query.prior for n in range(6)]
        for noise in (0.0, None, 0.3)
    )
    assert all(torch.equal(a, b) for a, b in zip(calm, by_default, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(calm, spoilt, strict=True))
