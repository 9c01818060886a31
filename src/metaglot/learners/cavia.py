"""CAVIA: a few context parameters adapt, and everything else is shared.

    θ(φ)_p = start_p + M_p φ for the parameters p at which context enters,    φ_0 = 0
    φ_{i+1} = φ_i − α ∇_φ L(θ(φ_i), S),    ω = (start, M)

Zintgraf, Shiarlis, Kurin, Hofmann & Whiteson (2019), "Fast context adaptation via meta-learning", eqs. 5
and 6. There φ `[n_context]` is set beside the inputs of a layer, which adds W_φ φ to its bias. So p is
"bias" here unless `at` says otherwise, and any parameter can take context, by a map M_p that is learned.
What a task has of its own are n_context numbers.

Over a head on frozen features all parameters that are learned take context, and the adaptation is the
head that φ stands for. What the sources cannot teach a map for adapts by itself, from zero, with φ:
the rows of labels that are new, and the weights of lexical blocks, which mean nothing across languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import torch

from metaglot.errors import SettingsError
from metaglot.learners.base import START, as_it_is, nothing_written
from metaglot.learners.gradient import (
    by_descent,
    by_parameters,
    by_steps,
    from_start,
    is_head_alone,
    query_losses,
    start_and_rates,
    takes,
)
from metaglot.learners.inner_loop import InnerLoop, names_of, whole_start
from metaglot.learners.selection import select
from metaglot.types import Batch, Episode, Params, TaskModel

if TYPE_CHECKING:
    from torch import Generator, Tensor

CONTEXT = "context"
"""The name of the context `[n_context]` in an adaptation."""
# Within a task's descent: what the names of its own parameters begin with, which no module's do.
_TASKS = "@"
_CONTEXT = _TASKS + CONTEXT
_OWN = _TASKS + "own."
_MAP = "context_map."


class CAVIA:
    """A few context parameters that adapt, all else shared by all tasks (CAVIA).

    Args:
        steps: inner gradient steps, at least 1.
        rate: the inner rate to start from.
        n_context: how many context parameters a task has.
        at: the parameters that take context, as `adapt` in `metaglot.learners.selection`. By default the
            biases, or all of a head on frozen features or of a module without biases.
        learn_rates: `"none"`, or learn inner rates, one per `"parameter"` or `"step"`.
        outer_rate: the outer loop's step size.
        options: the others of `metaglot.learners.inner_loop.InnerLoop`.
    """

    needs = frozenset({"label-scores", "any"})

    begin = from_start
    solve = by_steps
    prepare = as_it_is
    outer_rate = start_and_rates
    write = nothing_written

    @takes(InnerLoop, but=("adapt", "rates"))
    def __init__(
        self,
        steps: int = 5,
        rate: float = 8.0,
        *,
        n_context: int = 8,
        at: str | None = None,
        learn_rates: str = "none",
        outer_rate: float = 0.03,
        **options: Any,
    ) -> None:
        if n_context < 1:
            raise SettingsError(f"expected n_context ≥ 1, found {n_context}.")
        if learn_rates == "element":
            raise SettingsError("expected learn_rates of 'parameter', 'step' or 'none', found 'element'.")
        self.inner = InnerLoop(steps, rate, _TASKS + "*", learn_rates=learn_rates, **options)
        self.n_context = n_context
        self.at = at
        self.start_rate = outer_rate

    def init(self, model: TaskModel, generator: Generator) -> Params:
        """Return the model's own start, random maps, and the learned rates in logarithms.

        Raises:
            SettingsError: `at` stands for no parameter that can take context.
        """
        placed = self._placed(model)
        meta = self.inner.init(placed)
        # So that M Mᵀ does not stretch a gradient: M's columns, or its rows, are of length one.
        for name, value in placed.maps().items():
            size = max(self.n_context, value[..., 0].numel())
            meta[START + name] = torch.randn(value.shape, generator=generator) / size**0.5
        return meta

    def adapt(self, model: TaskModel, meta: Params, support: Batch) -> Params:
        """Return the context, and what adapts by itself; a complete head over frozen features."""
        placed = self._placed(model)
        found = by_descent(self, placed, meta, support)
        if is_head_alone(model):
            return placed.build(placed.rows(whole_start(placed, meta), support.classes) | found, support)
        new = bool((support.classes < 0).any())
        kept = {n: v for n, v in found.items() if n == _CONTEXT or new or n in placed.replaced}
        return {name.removeprefix(_TASKS): value for name, value in kept.items()}

    def predict(self, model: TaskModel, meta: Params, adapted: Params, batch: Batch) -> Any:
        """Return the model's outputs with the parameters that the context stands for."""
        if is_head_alone(model):
            return model.forward(adapted, batch)
        found = {_TASKS + name: value for name, value in adapted.items()}
        return by_parameters(self, self._placed(model), meta, found, batch)

    def meta_loss(self, model: TaskModel, meta: Params, episodes: Sequence[Episode]) -> Tensor:
        """Return the weighted mean query loss at the end of the inner loop, a scalar."""
        return query_losses(self, self._placed(model), meta, episodes)

    def _placed(self, model: TaskModel) -> _Placed:
        known = _PLACED.setdefault(model, {})
        key = (self.at, self.n_context)
        if key not in known:
            known[key] = _Placed(model, self.at, self.n_context)
        return known[key]


class _Placed:
    """A model with context in the place of its parameters: itself a model, of which the context adapts.

    Its parameters are the model's own, maps `[…, n_context]` beside those that take context, the
    context, and what adapts by itself: parameters whose start is fixed (`replaced`), and additions to
    those that belong to labels, which count in the rows of new labels.
    """

    outputs = "any"
    head: frozenset[str] = frozenset()

    def __init__(self, model: TaskModel, at: str | None, n_context: int) -> None:
        self._model = ref(model)  # the model is a key to this, which would otherwise keep it alive
        self.n_labels = model.n_labels
        self.groups = model.groups
        start = model.init(model.n_labels)
        self._learned = [n for n, v in start.items() if n not in model.fixed_start and v.numel()]
        biases = [n for n in self._learned if n.rpartition(".")[2].endswith("bias")]
        if at is None:
            at = "all" if is_head_alone(model) or not biases else "bias"
        self._at = select(model, at, self._learned)
        self._n_context = n_context
        nobody = torch.full((1,), -1)
        ones = {n: torch.ones_like(v) for n, v in start.items()}
        rowed = [n for n, v in model.rows(ones, nobody).items() if not bool(v.all())]
        self._added = [n for n in rowed if n not in model.fixed_start]
        self._shapes = {n: start[n].shape for n in self._added}
        self._fixed = [n for n in start if n in model.fixed_start]
        self.replaced = frozenset(_OWN + n for n in self._fixed)
        self.fixed_start = frozenset([_CONTEXT, *(_OWN + n for n in [*self._added, *self._fixed])])

    @property
    def model(self) -> TaskModel:
        """The model without context."""
        model = self._model()
        assert model is not None, "whoever asks has the model"
        return model

    def maps(self) -> Params:
        """Return maps of zero `[…, n_context]` by their names among the parameters."""
        start = self.model.init(self.n_labels)
        return {_MAP + n: start[n].new_zeros(*start[n].shape, self._n_context) for n in self._at}

    def init(self, n_labels: int) -> Params:
        """Return the model's parameters, maps and context, and what adapts by itself."""
        start = self.model.init(n_labels)
        some = next(iter(start.values()))
        own = {_OWN + n: torch.zeros_like(start[n]) for n in self._added}
        own |= {_OWN + n: start[n] for n in self._fixed}
        context = {_CONTEXT: some.new_zeros(self._n_context)}
        return {n: start[n] for n in self._learned} | self.maps() | context | own

    def rows(self, params: Params, classes: Tensor) -> Params:
        """Return the parameters of the labels `classes` `[C]`, the maps' and the additions' too."""
        found = dict(params)
        for prefix in ("", _MAP, _OWN):
            names = [n for n in params if n.startswith(prefix) and (prefix or n in self._learned)]
            own = self.model.rows({n.removeprefix(prefix): params[n] for n in names}, classes)
            found |= {prefix + n: value for n, value in own.items()}
        return found

    def build(self, params: Params, batch: Batch) -> Params:
        """Return the model's parameters with the context in them."""
        ones = {n: params[_OWN + n].new_ones(self._shapes[n]) for n in self._added}
        known = self.model.rows(ones, batch.classes)
        built = {}
        for name in names_of(self.model):
            value = params.get(name)
            if name in self._at:
                value = params[name] + params[_MAP + name] @ params[_CONTEXT]
            if name in self._added:
                new = params[_OWN + name] * (1 - known[name])
                value = new if value is None else value + new
            built[name] = params[_OWN + name] if value is None else value
        return built

    def forward(self, params: Params, batch: Batch) -> Any:
        """Return the model's outputs with the context in its parameters."""
        return self.model.forward(self.build(params, batch), batch)

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the model's loss."""
        return self.model.loss(outputs, targets)


_PLACED: WeakKeyDictionary[Any, dict[Any, _Placed]] = WeakKeyDictionary()
