"""MAML: gradient steps from a start that is meta-learned through the steps.

    θ₀ = start,    θ_{i+1} = θ_i − α ⊙ ∇_θ L(θ_i, S),    ω = (start, α)

Finn, Abbeel & Levine (2017), "Model-agnostic meta-learning for fast adaptation of deep networks",
eqs. 1 and 3. The meta-gradient goes through every inner step (products with I − α∇²L);
`first_order=True` takes the inner gradients for constants (ibid., section 5.2), which leaves out the
curvature and saves about half of the time.

The start of lexical blocks is zero and stays so: a character n-gram means nothing across languages,
and a start that could learn them would learn the sources' sentences by heart. Where there is a
prior, the head starts as a correction to it, and the prior's scale is adapted like any other
parameter. Over a linear head on features the rates α are positive and one for every named parameter,
learned with the start (`learn_rates`; Li et al. 2017, "Meta-SGD", has one per element).
"""

from __future__ import annotations

from typing import Any

from metaglot.learners.base import as_it_is, nothing_written
from metaglot.learners.gradient import (
    by_descent,
    by_parameters,
    by_steps,
    from_start,
    inner_init,
    query_losses,
    start_and_rates,
    takes,
)
from metaglot.learners.inner_loop import InnerLoop


class MAML:
    """Gradient steps from a meta-learned start, differentiated exactly (MAML).

    Args:
        steps: inner gradient steps, at least 1.
        rate: the inner rate to start from, in units of the loss's gradient. The default is for a
            linear head on scaled features; a network wants 0.01 to 0.5.
        adapt: what adapts, as in `metaglot.learners.selection`; the rest is shared.
        first_order: take inner gradients for constants (FOMAML).
        learn_rates: learn inner rates, one per `"parameter"`, `"element"` or `"step"`, or `"none"`.
        optimizer: the inner optimizer, `"sgd"` or `"adam"`.
        optimizer_options: its options, such as `{"momentum": 0.9}`.
        clip: the largest norm of an inner gradient.
        rates: pattern of names → the multiple of the rate that these parameters have.
        batch: examples of the support set that an inner step is on, in turn; 0 takes all of them.
        outer_rate: the outer loop's step size.
    """

    needs = frozenset({"label-scores", "any"})

    init = inner_init
    begin = from_start
    solve = by_steps
    adapt = by_descent
    predict = by_parameters
    prepare = as_it_is
    meta_loss = query_losses
    outer_rate = start_and_rates
    write = nothing_written

    @takes(InnerLoop)
    def __init__(
        self,
        steps: int = 5,
        rate: float = 8.0,
        adapt: str = "all",
        *,
        learn_rates: str = "parameter",
        outer_rate: float = 0.03,
        **options: Any,
    ) -> None:
        self.inner = InnerLoop(steps, rate, adapt, learn_rates=learn_rates, **options)
        self.start_rate = outer_rate
