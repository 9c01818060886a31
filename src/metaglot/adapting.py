"""A few examples of a language in, an adaptation out, and what cross-validation says of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from metaglot.artifact import Adaptation, Artifact
from metaglot.augmentation import copies_of
from metaglot.calibration import Calibration
from metaglot.errors import DataError, LanguageError, suggestion
from metaglot.evaluation.baselines import zero_shot_head
from metaglot.evaluation.grid import adapted_head
from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.languages import custom_language, language_name, parse_language
from metaglot.space import generator
from metaglot.types import Batch, Example, Params

if TYPE_CHECKING:
    from torch import Tensor


FOLDS = 5


@dataclass(frozen=True)
class Estimate:
    """What adapting is worth, by cross-validation on the examples alone.

    Attributes:
        adapted: share of the examples that a head adapted to the others gets right.
        zero_shot: share of the same examples that is right without adapting.
        low: lower end of the 95% bootstrap interval of the difference.
        high: its upper end.
        judged: examples judged; those whose label has no other example are not.
        folds: into how many parts the examples were divided.
    """

    adapted: float
    zero_shot: float
    low: float
    high: float
    judged: int
    folds: int

    @property
    def gain(self) -> float:
        """The difference, adapted less zero-shot."""
        return self.adapted - self.zero_shot

    def __str__(self) -> str:
        return (
            f"{self.zero_shot:.1%} zero-shot → {self.adapted:.1%} adapted, "
            f"gain {100 * self.gain:+.1f} points (95% interval "
            f"{100 * self.low:+.1f} to {100 * self.high:+.1f}, {self.judged} examples judged)"
        )


@dataclass(frozen=True)
class CrossValidation:
    """What cross-validation on the examples says of an adaptation.

    Attributes:
        estimate: what adapting is worth.
        calibration: how sure its predictions may be.
    """

    estimate: Estimate
    calibration: Calibration


@dataclass(frozen=True)
class Adapted:
    """An adaptation and what its user should know about it.

    Attributes:
        adaptation: what was made.
        notices: a sentence each.
        seconds: what the learner took, from the examples' features to the head.
    """

    adaptation: Adaptation
    notices: tuple[str, ...]
    seconds: float


def adapt(
    artifact: Artifact,
    language: str,
    examples: Sequence[Example],
    *,
    all_labels: bool = False,
    new_labels: bool = False,
    augment: Sequence[str] = (),
    copies: int = 1,
    estimate: bool = True,
    seed: int = 0,
) -> Adapted:
    """Adapt a model to a language. The artifact is not changed: see `save_adaptation`.

    Args:
        artifact: the trained model.
        language: code or name.
        examples: a handful per label.
        all_labels: also predict the model's labels that have no example here.
        new_labels: take labels for new even if they look like a misspelt old one.
        augment: also learn from changed copies of the examples, made by these; see `metaglot.augmentation`.
        copies: the most copies of an example.
        estimate: cross-validate: the gain over zero-shot, and how sure predictions may be.
        seed: of the folds and the copies.

    Raises:
        DataError: no example, one label only, one text with two labels, a label that looks misspelt.
        SettingsError: an augmentation that is not there, or makes no sense.
    """
    code, notices = language_code(artifact, language)
    notices += _check(artifact, examples, new_labels=new_labels)
    own = sorted({e.label for e in examples})
    labels = tuple(sorted({*own, *artifact.model.labels})) if all_labels else tuple(own)
    left_out = sorted(set(artifact.model.labels) - set(labels))
    if left_out:
        some = ", ".join(left_out[:5]) + ("…" if len(left_out) > 5 else "")
        notices.append(
            f"{len(left_out)} of the model's {len(artifact.model.labels)} labels have no example and will "
            f"not be predicted in {language_name(code)} ({some}). To keep them, pass --all-labels."
        )
    made = copies_of(examples, augment, copies, seed) if augment else []
    if augment:
        notices.append(f"{len(made)} changed copies of the examples are learned from too, and not judged.")
    origin = torch.tensor([*range(len(examples)), *(row for row, _ in made)])
    every = [*examples, *(copy for _, copy in made)]
    texts, targets = [e.text for e in every], [e.label for e in every]
    support = artifact.model.batch(
        texts, labels, targets, language=code, description=f"encoding {language_name(code)}"
    )
    start = time.perf_counter()
    head = adapted_head(artifact.model, artifact.learner, artifact.meta, support)
    seconds = time.perf_counter() - start
    # What is kept is what float16 holds, so that predictions are the same before and after saving.
    head = {name: value.to(torch.float16).float() for name, value in head.items()}
    groups = [e.group or e.text for e in examples]  # what occurs twice must not judge itself
    found = cross_validate(artifact, support, groups, origin=origin, seed=seed) if estimate else None
    if estimate and found is None:
        notices.append(
            "The gain could not be estimated: cross-validation needs two labels with two examples or more."
        )
    if found is not None and found.estimate.high <= 0 > found.estimate.gain:
        notices.append(
            "By this estimate adapting to these examples does harm: zero-shot is better. Add examples, look "
            "for wrong labels among them, or remove the adaptation's file to predict zero-shot."
        )
    values = None if found is None else asdict(found.estimate)
    calibration = Calibration() if found is None else found.calibration
    adaptation = Adaptation(code, labels, head, len(examples), values, calibration)
    return Adapted(adaptation, tuple(notices), seconds)


def cross_validate(
    artifact: Artifact,
    support: Batch,
    groups: Sequence[str] = (),
    *,
    origin: Tensor | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> CrossValidation | None:
    """Estimate from the support set alone what adapting is worth, and how sure predictions may be.

    Every example whose label has another one is judged once, by a head adapted to the other folds.
    A head adapted to all examples has seen more than those, so the estimate is a little low.

    Args:
        artifact: the trained model.
        support: the examples, and copies of them after all of them.
        groups: what the examples were made from, see `fold_numbers`.
        origin: `[n]`, of each the row that it is a copy of, an example's being its own; without it none is
            a copy. Copies are learned from with their examples, and not judged.
        folds: at most as many.
        seed: of the folds.

    Returns:
        Both, or None where fewer than two labels have two examples.
    """
    rows = torch.arange(len(support))
    origin = rows if origin is None else origin
    own = support[origin == rows]

    def logits_of(seen: Tensor, out: Tensor) -> Tensor:
        head = adapted_head(artifact.model, artifact.learner, artifact.meta, support[seen[origin]])
        return logits(artifact, head, own[out])

    fold = fold_numbers(own.targets, groups, folds=folds, seed=seed)
    if len(set(own.targets[fold >= 0].tolist())) < 2:
        return None
    found, judged = held_out_logits(own.targets, fold, logits_of)
    targets = own.targets[judged]
    right = (found.argmax(-1) == targets).float()
    without = (logits(artifact, None, own[judged]).argmax(-1) == targets).float()
    low, high = bootstrap_interval((right - without).unsqueeze(0))
    estimate = Estimate(
        float(right.mean()), float(without.mean()), low, high, len(targets), int(fold.max()) + 1
    )
    return CrossValidation(estimate, Calibration.of(found, targets))


def fold_numbers(targets: Tensor, groups: Sequence[str] = (), *, folds: int = FOLDS, seed: int = 0) -> Tensor:
    """Return for each example `[n]` the fold that judges it; −1 where its label has no other to learn from.

    The examples of every label are spread over the folds evenly, so that none takes away all of them.

    Args:
        targets: labels `[n]`.
        groups: what each was made from, such as a template; empty texts, or none, where that is unknown.
            Examples of one label and group are judged by one fold.
        folds: at most as many.
        seed: of the division.
    """
    members: dict[int, dict[str, list[int]]] = {}
    for row, label in enumerate(targets.tolist()):
        # Alone in its group, an example is its own.
        group = (groups[row] if groups else "") or f"\x1f{row}"
        members.setdefault(label, {}).setdefault(group, []).append(row)
    folds = min(folds, max(map(len, members.values()), default=0))
    fold = torch.full((len(targets),), -1)
    for label, found in members.items():
        if len(found) >= 2:
            parts = list(found.values())
            for place, part in enumerate(generator(seed, "fold", label).permutation(len(parts))):
                fold[parts[part]] = place % folds
    return fold


def held_out_logits(
    targets: Tensor, fold: Tensor, logits_of: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return cross-validated logits `[m, C]` and which examples `[n]`, bool, the m are.

    A fold is passed over where the others have fewer than two labels.

    Args:
        targets: labels `[n]`.
        fold: see `fold_numbers`.
        logits_of: (examples to adapt to, examples to judge), each a mask `[n]` → logits of the latter.
    """
    judged = torch.zeros(len(targets), dtype=torch.bool)
    parts, rows = [], []
    for number in sorted(set(fold[fold >= 0].tolist())):
        out = fold == number
        if len(set(targets[~out].tolist())) >= 2:
            parts.append(logits_of(~out, out))
            rows.append(out.nonzero().squeeze(-1))
            judged |= out
    if not parts:
        return torch.empty(0, 0), judged
    return torch.cat(parts)[torch.cat(rows).argsort()], judged


def language_code(artifact: Artifact, name: str) -> tuple[str, list[str]]:
    """Return a language's code and notices: a language that no standard knows keeps its own name.

    Raises:
        LanguageError: the name has no letter and no digit to make a code of.
    """
    known = {*artifact.adaptations, *artifact.facts["sources"], *artifact.facts["held_out"]}
    if name in known:
        return name, []
    try:
        return parse_language(name), []
    except LanguageError as error:
        if not any(character.isalnum() for character in name):
            raise
        code = custom_language(name)
        if code in known:
            return code, []
        return code, [
            f"No standard knows the language {name!r}: it is kept as {code!r}. {error.hint}".strip()
        ]


def logits(artifact: Artifact, adapted: Params | None, batch: Batch) -> Tensor:
    """Return logits `[n, C]` by what the artifact's learner adapted, zero-shot where that is None."""
    model = artifact.model.task_model
    with torch.no_grad():
        if adapted is None:
            return model.forward(zero_shot_head(artifact.model, len(batch.classes)), batch)
        return artifact.learner.predict(model, artifact.meta, adapted, batch)


def _check(artifact: Artifact, examples: Sequence[Example], *, new_labels: bool) -> list[str]:
    """Raise a `DataError` for examples that cannot be meant; return notices on the others."""
    if not examples:
        raise DataError("expected labelled examples, found none.", hint="A few for every label will do.")
    notices, seen = [], dict[str, str]()
    doubled = 0
    for example in examples:
        if seen.setdefault(example.text, example.label) != example.label:
            raise DataError(
                f"expected one label for a text, found both {seen[example.text]!r} and {example.label!r} "
                f"for {_short(example.text)!r}.",
                hint="Decide for one of them.",
            )
        doubled += 1
    if doubled > len(seen):
        notices.append(f"{doubled - len(seen)} example(s) occur more than once; they count as often.")
    count = Counter(e.label for e in examples)
    for label in sorted(set(count) - set(artifact.model.labels)):
        near = suggestion(label, artifact.model.labels)
        if near and not new_labels:
            raise DataError(
                f"expected a label of the model or a new one, found {label!r}, which looks misspelt. {near}",
                hint="Mend it, or pass --new-labels if it is meant so.",
            )
        notices.append(f"The label {label!r} is new: the source languages have taught nothing about it.")
    if len(count) < 2:
        raise DataError(
            f"expected examples of at least two labels, found only {next(iter(count))!r}.",
            hint="Add examples of the other labels: from one alone there is nothing to tell apart.",
        )
    return notices


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
