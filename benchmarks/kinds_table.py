"""The table of the documentation that says which learner adapts which kind.

python -m benchmarks.kinds_table
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from benchmarks.markers import fill, markdown, renew
from metaglot.errors import SettingsError
from metaglot.kinds import KINDS
from metaglot.label_scores import LabelScores
from metaglot.learners import LEARNERS
from metaglot.learners.base import check_pair


@cache
def pairs() -> dict[str, bool]:
    """Return for each learner whether it adapts kinds: all of them, for to a learner they are one model."""
    found = {}
    for name in LEARNERS:
        learner, model = LEARNERS[name](), LabelScores({"x": 2}, 2)
        try:
            check_pair(name, learner, "any", model.outputs)
            learner.init(model, torch.Generator())
        except SettingsError:
            found[name] = False
        else:
            found[name] = True
    return found


def table() -> str:
    """A row for each learner, a column for each kind."""
    rows = [[f"`{name}`", *["yes" if works else "–"] * len(KINDS)] for name, works in pairs().items()]
    return markdown(["learner", *(f"`{name}`" for name in KINDS)], rows)


def filled(page: Path) -> str:
    """Return a page's text with the table made anew."""
    return fill(page.read_text(encoding="utf-8"), {"kinds-table": table})


if __name__ == "__main__":
    renew(filled)
