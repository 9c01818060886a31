"""ANIL: a body that all tasks share and a head that adapts ("almost no inner loop").

    θ = (body, head),    head_{i+1} = head_i − α ∇_head L(body, head_i; S),    body the same in every step

Raghu, Raghu, Bengio & Vinyals (2020), "Rapid learning or feature reuse? Towards understanding the
effectiveness of MAML", section 4. What MAML learns is mostly features that are reused, so that only the
head needs steps; the body still learns through them. It is MAML with adapt="head" and fixed rates. Over
a head on frozen features there is no body: then it is MAML with fixed rates.
"""

from __future__ import annotations

from typing import Any

from metaglot.learners.gradient import takes
from metaglot.learners.maml import MAML


@takes(MAML, but=("adapt",))
def anil(steps: int = 5, rate: float = 8.0, *, learn_rates: str = "none", **options: Any) -> MAML:
    """Gradient steps of the head alone, on a body that is meta-learned through them (ANIL).

    The options are those of `metaglot.learners.maml.MAML`.
    """
    return MAML(steps, rate, "head", learn_rates=learn_rates, **options)
