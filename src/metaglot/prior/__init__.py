"""The prior: a head learned from the source languages, and what it would say of each without it.

It is cross-fitted: a language's scores in training come from a head that was learned without it, as they
will for a new language. (Scores of a head on its own training languages look far too good, and a learner
that meets them learns to ignore the support set.) In a parallel corpus the head that judges one half of
the contents is learned from the other half.

How a head is learned: `linear` where each example is one unit, `network` where it has many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class HiddenLayer:
    """What stands between features and head: h = GELU(Σ_b X_b V_bᵀ + c).

    Attributes:
        weights: block name → V_b `[H, d]`.
        bias: c `[H]`.
    """

    weights: Mapping[str, Tensor]
    bias: Tensor

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return h `[n, H]` for blocks of features, each `[n, d]`."""
        sums = torch.stack([inputs[block] @ weight.T for block, weight in self.weights.items()]).sum(0)
        return F.gelu(sums + self.bias)


HIDDEN = "hidden"
"""The one block that a head over a hidden layer has weights for."""

_WEIGHTS, _BIAS, _HIDDEN, _HIDDEN_BIAS = "prior.", "prior_bias", "prior_hidden.", "prior_hidden_bias"


@dataclass(frozen=True)
class Prior:
    """A zero-shot head.

    Attributes:
        weights: block name → `[C, d]`, a row per label of the model's list; `HIDDEN` alone, where there
            is a hidden layer.
        sharpness: what the scores are multiplied by to be calibrated logits.
        penalty: of the heads that leave languages out, as it was chosen; 0 for a network.
        bias: `[C]`, how frequent labels are; None where support sets do not say how frequent they are.
        hidden: the hidden layer, if any.
        nothing: what is added to the logit of `NOTHING` where a language is predicted without examples.
    """

    weights: Mapping[str, Tensor]
    sharpness: float
    penalty: float = 1.0
    bias: Tensor | None = None
    hidden: HiddenLayer | None = None
    nothing: float = 0.0

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of features that it looks at."""
        return tuple(self.weights if self.hidden is None else self.hidden.weights)

    def scores(self, inputs: Mapping[str, Tensor], classes: Tensor) -> Tensor:
        """Return scores `[n, C]` of the labels `classes`; a label unknown to the sources scores 0."""
        if self.hidden is not None:
            inputs = {HIDDEN: self.hidden(inputs)}
        every = torch.stack([inputs[block] @ weight.T for block, weight in self.weights.items()]).sum(0)
        if self.bias is not None:
            every = every + self.bias
        return take_labels(every, classes)

    def numbers(self) -> dict[str, float]:
        """Return what of it is a number, by name."""
        return {"sharpness": self.sharpness, "penalty": self.penalty, "nothing": self.nothing}

    def tensors(self) -> dict[str, Tensor]:
        """Return what of it is a tensor, by names that `of` knows."""
        found = {_WEIGHTS + name: weight for name, weight in self.weights.items()}
        if self.bias is not None:
            found[_BIAS] = self.bias
        if self.hidden is not None:
            found |= {_HIDDEN + name: weight for name, weight in self.hidden.weights.items()}
            found[_HIDDEN_BIAS] = self.hidden.bias
        return found

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> Prior:
        """Return the prior that has these `tensors` (among others) and `numbers`."""

        def named(start: str) -> dict[str, Tensor]:
            return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}

        hidden = named(_HIDDEN)
        return cls(
            named(_WEIGHTS),
            float(numbers["sharpness"]),
            float(numbers.get("penalty", 1.0)),
            tensors.get(_BIAS),
            HiddenLayer(hidden, tensors[_HIDDEN_BIAS]) if hidden else None,
            float(numbers.get("nothing", 0.0)),
        )


def take_labels(scores: Tensor, classes: Tensor) -> Tensor:
    """Return the columns `classes` `[C]` of scores `[n, labels]`, zeros for −1."""
    return scores[:, classes.clamp(min=0)] * (classes >= 0)


@dataclass(frozen=True)
class SourceLanguage:
    """One source language's examples.

    Attributes:
        features: `[n, D]`, the blocks that mean something across languages, side by side.
        targets: `[n]`, rows of the label list.
        halves: `[n]`, 0 or 1: which half of a parallel corpus's contents an example is of.
        labels: the rows of the label list that the language has.
        learned: `[n]`, bool: which examples are learned from; all where None.
    """

    features: Tensor
    targets: Tensor
    halves: Tensor
    labels: Tensor
    learned: Tensor | None = None
