"""A task family without text: tides at places, each a sine with a phase of its own.

The learner has everything that the outer loop must take care of: parameters of two rates, state that
it writes itself, and chance (its inputs are dropped out).
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F

from metaglot.config import TrainSettings
from metaglot.learners.base import as_it_is, weighted_mean
from metaglot.outer_loop import optimize
from metaglot.space import generator
from metaglot.types import Batch, Episode

PLACES = ("brest", "dover", "genoa", "hilo", "lagos")
NO_LABELS = torch.zeros(0, dtype=torch.int64)
SETTINGS = TrainSettings(
    steps=12,
    episodes=3,
    pool=0,
    checkpoint_every=2,
    validate_every=3,
    clip=1.0,
    warmup=2,
    curves_every=1,
)


def waves(hours):
    """Features `[n, 6]` of hours `[n]`."""
    return torch.cat([f(k * hours.unsqueeze(-1)) for k in (0.5, 1.0, 2.0) for f in (torch.sin, torch.cos)], 1)


def tide(place, *key):
    """An episode of one place."""
    chance = generator("tide", place, *key)
    phase = 1.0 + 0.2 * PLACES.index(place)

    def batch(n):
        hours = torch.tensor(chance.uniform(0, 6, n), dtype=torch.float32)
        return Batch({"hours": waves(hours)}, torch.sin(hours + phase), NO_LABELS)

    return Episode(batch(5), batch(8), place)


def draw(step, place):
    """An episode of a place by chance."""
    return tide(PLACES[int(generator("place", step, place).integers(len(PLACES)))], step, place)


def draw_all(step, place):
    """An episode of every place in turn."""
    return tide(PLACES[place % len(PLACES)], step, place)


HELD_OUT = tuple(tide(place, "held out", i) for place in PLACES[:2] for i in range(2))


class Tidal:
    """One gradient step from a learned start, at a learned rate, beside a mean that is written."""

    needs = frozenset({"any"})
    prepare = as_it_is

    def __init__(self, dropout=0.2, rate=0.05):
        self.dropout = dropout
        self.rate = rate

    def init(self, model, generator):
        start = 0.1 * torch.randn(6, generator=generator)
        return {"start": start, "log_rate": torch.tensor(math.log(0.3)), "mean": torch.zeros(())}

    def outer_rate(self, name):
        return {"start": self.rate, "log_rate": self.rate / 5, "mean": 0.0}[name]

    def adapt(self, model, meta, support):
        with torch.enable_grad():
            start = meta["start"] if meta["start"].requires_grad else meta["start"].clone().requires_grad_()
            inputs = F.dropout(support.inputs["hours"], self.dropout)
            loss = F.mse_loss(inputs @ start + meta["mean"], support.targets)
            (gradient,) = torch.autograd.grad(loss, start, create_graph=torch.is_grad_enabled())
        return {"weight": start - meta["log_rate"].exp() * gradient}

    def predict(self, model, meta, adapted, batch):
        return batch.inputs["hours"] @ adapted["weight"] + meta["mean"]

    def meta_loss(self, model, meta, episodes):
        losses = [
            F.mse_loss(
                self.predict(model, meta, self.adapt(model, meta, e.support), e.query), e.query.targets
            )
            for e in episodes
        ]
        return weighted_mean(torch.stack(losses), [e.weight for e in episodes])

    def write(self, model, meta, episodes):
        mean = torch.stack([e.query.targets.mean() for e in episodes]).mean()
        return {"mean": 0.9 * meta["mean"] + 0.1 * mean}


def learn(settings=SETTINGS, learner=None, **options):
    """Run the loop on tides."""
    changes = options.pop("changes", {})
    settings = replace_settings(settings, changes)
    everywhere = settings.tasks == "all"
    options.setdefault("validate", HELD_OUT)
    return optimize(
        None,
        learner or Tidal(),
        draw_all if everywhere else draw,
        settings,
        tasks=len(PLACES) if everywhere else None,
        **options,
    )


def replace_settings(settings, changes):
    """Settings with some changed, checked as a recipe's are."""
    return TrainSettings.model_validate(settings.model_dump() | changes)


def weighted(episode, weight):
    """An episode that counts differently."""
    return replace(episode, weight=weight)


def same(one, other):
    """Whether two results are the same, bit for bit."""
    return one.history == other.history and all(torch.equal(one.meta[k], other.meta[k]) for k in one.meta)
