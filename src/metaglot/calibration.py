"""How sure an adaptation may be: temperature, "I don't know", sets of labels, texts of no known label.

All of it is learned from the support set alone, by cross-validation: every example is judged by a head
that was adapted to the others, which gives logits z_i `[C]` and the true label y_i of n examples that
no head saw. From them:

    temperature   T = argmin Σ_i −log softmax(z_i / T)_{y_i} + (log T)² / 2σ²

(Guo et al. 2017, "On calibration of modern neural networks", eq. 9) with a log-normal prior around one.
A learner that is trained to predict well is nearly calibrated, so that σ is small, and a few examples
move T little.

    threshold     the least confidence at which predictions are right often enough, tested by an exact
                  binomial test at one threshold after the other, from the surest examples on, until one
                  fails (fixed-sequence testing: Angelopoulos et al. 2021, "Learn then test"; for the
                  purpose, Geifman & El-Yaniv 2017, "Selective classification for deep neural networks")

    label set     {y : softmax(z / T)_y ≥ q}, q the ⌊α(n + 1)⌋-th smallest probability of a true label
                  (cross-conformal prediction: Vovk 2015; the score is Sadinle et al. 2019's)

    scope         (1 + #{i : s_i ≤ s}) / (n + 1), s = max_y z_y: the conformal p-value of a text (Bates et
                  al. 2023, "Testing for outliers with conformal p-values"). The largest logit is
                  Hendrycks et al. 2022's score; docs/calibration.md has it beside others.

The examples are assumed to be like the texts to come. The final head saw all examples and those that are
counted on a few less, so that what is said of it is a little modest, and no theorem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from metaglot.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

SPREAD = 0.15
"""σ: about the deviation of the best log T of `auto` over source languages (docs/calibration.md)."""
LEVEL = 0.9
"""How sure a promise of precision is."""
_DIGITS = 6


@dataclass(frozen=True)
class Threshold:
    """From which confidence on a prediction is sure.

    Attributes:
        value: the least probability of the first label.
        promised: whether the examples bear the precision out; else `value` is the precision itself, which
            is right as far as the probabilities are.
        doubt: why it cannot be promised; empty where it is.
        kept: share of the cross-validated examples that are sure.
        right: share of those that are right; NaN where there is none.
    """

    value: float
    promised: bool
    doubt: str
    kept: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """What cross-validation says of an adaptation's probabilities; with no examples, nothing.

    Attributes:
        temperature: T.
        confidence: of every cross-validated example, the probability of the first label.
        truth: of the same examples, the probability of the true label.
        scope: of the same examples, the score s.
    """

    temperature: float = 1.0
    confidence: tuple[float, ...] = ()
    truth: tuple[float, ...] = ()
    scope: tuple[float, ...] = ()

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor) -> Calibration:
        """Calibrate by cross-validated logits `[n, C]` and labels `[n]`."""
        temperature = fit_temperature(logits, targets)
        chances = (logits / temperature).double().softmax(-1)
        truth = chances.gather(1, targets.unsqueeze(-1)).squeeze(-1)
        return cls(
            temperature, _rounded(chances.max(-1).values), _rounded(truth), _rounded(scope_score(logits))
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return softmax(z / T) `[n, C]`."""
        return (logits / self.temperature).softmax(-1)

    def threshold(self, precision: float) -> Threshold:
        """Return from which probability on predictions are right in a share of `precision`.

        Raises:
            SettingsError: the precision is not between 0 and 1.
        """
        _check_share("a precision", precision)
        confidence = torch.tensor(self.confidence, dtype=torch.float64)
        right = torch.tensor(self.truth, dtype=torch.float64) >= confidence
        found = promised_threshold(confidence, right, precision)
        value = precision if found is None else found
        sure = confidence >= value
        doubt = ""
        if found is None:
            count, least = len(confidence), least_examples(precision)
            doubt = (
                f"A precision of {precision:.0%} cannot be promised: "
                + (
                    f"it takes {least} cross-validated examples or more, and there are {count}."
                    if count < least
                    else f"too few of the surest of {count} cross-validated examples are right."
                )
                + f" Sure are probabilities of {precision:.0%} and more, which is believed and not counted."
            )
        kept = float(sure.double().mean()) if len(sure) else 0.0
        return Threshold(value, found is not None, doubt, kept, float(right[sure].double().mean()))

    def label_sets(self, logits: Tensor, coverage: float) -> Tensor:
        """Return which labels `[n, C]`, bool, hold the true one for a share of `coverage` of texts.

        The most probable label is always among them. Where there are too few cross-validated examples
        to count on (see `doubts`), a set is the fewest labels whose probabilities add up to the coverage.

        Raises:
            SettingsError: the coverage is not between 0 and 1.
        """
        _check_share("a coverage", coverage)
        chances = self.probabilities(logits)
        rank = _rank(len(self.truth), coverage)
        if rank >= 1:
            found = chances >= sorted(self.truth)[rank - 1]
        else:
            values, order = chances.sort(-1, descending=True)
            before = values.cumsum(-1) - values
            found = torch.zeros_like(chances, dtype=torch.bool).scatter(-1, order, before < coverage)
        return found | F.one_hot(chances.argmax(-1), chances.shape[-1]).bool()

    def scope_of(self, logits: Tensor) -> Tensor | None:
        """Return p-values `[n]` of texts being like the examples; None where nothing is known of those.

        A text is out of scope at an in-scope recall of r where its p-value is 1 − r or less.
        """
        if not self.scope:
            return None
        known = torch.tensor(sorted(self.scope), dtype=torch.float64)
        below = torch.searchsorted(known, scope_score(logits).double(), right=True)
        return (1.0 + below) / (1 + len(known))

    def doubts(self, *, coverage: float | None = None, recall: float | None = None) -> list[str]:
        """Return a sentence on each of coverage and in-scope recall that the examples are too few for."""
        found, count = [], len(self.truth)
        if coverage is not None and _rank(count, coverage) < 1:
            found.append(
                f"A coverage of {coverage:.0%} cannot be counted on: it takes {_least(coverage)} "
                f"cross-validated examples or more, and there are {count}. The sets are of labels whose "
                "probabilities add up to it."
            )
        if recall is not None and _rank(count, recall) < 1:
            found.append(
                f"No text can be told to be out of scope at an in-scope recall of {recall:.0%}: it takes "
                f"{_least(recall)} cross-validated examples or more, and there are {count}."
            )
        return found


def fit_temperature(logits: Tensor, targets: Tensor, spread: float = SPREAD) -> float:
    """Return T, the most probable one a posteriori; one where there is no example.

    Args:
        logits: cross-validated `[n, C]`.
        targets: `[n]`.
        spread: σ.
    """
    if len(targets) == 0:
        return 1.0
    logits = logits.double()

    def cost(log_t: float) -> float:
        loss = F.cross_entropy(logits * math.exp(-log_t), targets, reduction="sum")
        return float(loss) + log_t**2 / (2 * spread**2)

    best, step = 0.0, 0.1
    for _ in range(3):  # from −3 to 3 in tenths, then around the best in hundredths, then thousandths
        reach = 30 if step == 0.1 else 10
        best = min((best + step * i for i in range(-reach, reach + 1)), key=cost)
        step /= 10
    return round(math.exp(best), _DIGITS)


def scope_score(logits: Tensor) -> Tensor:
    """Return s `[n]`, the largest logit: the higher, the more a text is of some known label."""
    return logits.max(-1).values


def promised_threshold(
    confidence: Tensor, right: Tensor, precision: float, level: float = LEVEL
) -> float | None:
    """Return the least threshold at which predictions are right in a share of `precision`, or None.

    That they are not is rejected at 1 − `level` for the surest quarter of the examples (or for as many as
    a promise takes), then for a tenth more, and so on up to the first failure. Every test is exact,
    that of Clopper & Pearson 1934; in a fixed order they need no correction for being several.

    Args:
        confidence: `[n]`, of examples that no head had seen.
        right: `[n]`, bool.
        precision: to be promised.
        level: how sure the promise is to be.
    """
    count = len(confidence)
    found, number = None, max(math.ceil(count / 4), least_examples(precision, level))
    ordered = confidence.sort(descending=True).values
    while number <= count:
        value = float(ordered[number - 1])
        sure = confidence >= value  # more than `number` where some are equally sure
        if _chance(int(sure.sum()), int((sure & ~right).sum()), precision) > 1 - level:
            break
        found = value
        if number == count:
            break
        number = min(count, number + math.ceil(count / 10))
    return found


def least_examples(precision: float, level: float = LEVEL) -> int:
    """Return how many examples, all of them right, bear a precision out."""
    return math.ceil(math.log(1 - level) / math.log(precision) - 1e-9)


def _chance(count: int, wrong: int, precision: float) -> float:
    """The chance of so few wrong or fewer among `count` where `precision` is all there is."""
    return sum(
        math.exp(
            math.lgamma(count + 1)
            - math.lgamma(w + 1)
            - math.lgamma(count - w + 1)
            + w * math.log1p(-precision)
            + (count - w) * math.log(precision)
        )
        for w in range(wrong + 1)
    )


def _rank(count: int, share: float) -> int:
    """⌊α(n + 1)⌋ with α = 1 − share: how many of n examples may be worse."""
    return math.floor((1 - share) * (count + 1) + 1e-9)


def _least(share: float) -> int:
    """The least n of rank one."""
    return math.ceil(1 / (1 - share) - 1e-9) - 1


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, _DIGITS) for value in values.tolist())


def _check_share(what: str, value: float) -> None:
    if not 0 < value < 1:
        raise SettingsError(f"expected {what} between 0 and 1, such as 0.9, found {value}.")
