"""Meta-SGD: steps whose rate is learned for every element of every parameter.

    θ_{i+1} = θ_i − α ⊙ ∇_θ L(θ_i, S),    θ_0 = start,    ω = (start, log α), as many rates α as parameters

Li, Zhou, Chen & Li (2017), "Meta-SGD: learning to learn quickly for few-shot learning", eq. 4, which has
one step. It is MAML with learn_rates="element". There are three steps by default: one from a head of
zeros follows how many examples a label has rather than what they say. The rates are learned in
logarithms and stay positive, where the paper lets them change sign; a label that is new has the mean
rate of the others.
"""

from __future__ import annotations

from typing import Any

from metaglot.learners.gradient import takes
from metaglot.learners.maml import MAML


@takes(MAML, but=("learn_rates",))
def meta_sgd(steps: int = 3, rate: float = 8.0, adapt: str = "all", **options: Any) -> MAML:
    """Gradient steps, from a start and at rates per element that are meta-learned (Meta-SGD).

    The options are those of `metaglot.learners.maml.MAML`.
    """
    return MAML(steps, rate, adapt, learn_rates="element", **options)
