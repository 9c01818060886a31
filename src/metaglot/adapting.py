"""A few examples of a language in, an adaptation out; and what is predicted with or without one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from metaglot.artifact import Adaptation, Artifact
from metaglot.errors import DataError, LanguageError, SettingsError, suggestion
from metaglot.evaluation.baselines import zero_shot_head
from metaglot.evaluation.grid import adapted_head
from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.languages import custom_language, language_name, parse_language
from metaglot.space import generator
from metaglot.types import Batch, Example, Params

if TYPE_CHECKING:
    from torch import Tensor


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
class Prediction:
    """One text's most probable labels.

    Attributes:
        text: the text.
        language: the code.
        adapted: whether the language has an adaptation; else the prediction is zero-shot.
        labels: (label, probability), the most probable first.
    """

    text: str
    language: str
    adapted: bool
    labels: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as plain values."""
        rows = [{"label": label, "probability": round(p, 6)} for label, p in self.labels]
        return {"text": self.text, "language": self.language, "adapted": self.adapted, "labels": rows}


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
        estimate: cross-validate the gain over zero-shot.
        seed: of the folds.

    Raises:
        DataError: no example, one label only, one text with two labels, a label that looks misspelt.
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
    texts, targets = [e.text for e in examples], [e.label for e in examples]
    support = artifact.model.batch(
        texts, labels, targets, language=code, description=f"encoding {language_name(code)}"
    )
    start = time.perf_counter()
    head = adapted_head(artifact.model, artifact.learner, artifact.meta, support)
    seconds = time.perf_counter() - start
    # What is kept is what float16 holds, so that predictions are the same before and after saving.
    head = {name: value.to(torch.float16).float() for name, value in head.items()}
    found = cross_validate(artifact, support, seed=seed) if estimate else None
    if estimate and found is None:
        notices.append(
            "The gain could not be estimated: cross-validation needs two labels with two examples or more."
        )
    if found is not None and found.high < 0:
        notices.append(
            "By this estimate adapting to these examples does harm: zero-shot is better. Add examples, look "
            "for wrong labels among them, or remove the adaptation's file to predict zero-shot."
        )
    values = None if found is None else asdict(found)
    return Adapted(Adaptation(code, labels, head, len(examples), values), tuple(notices), seconds)


def cross_validate(artifact: Artifact, support: Batch, *, folds: int = 5, seed: int = 0) -> Estimate | None:
    """Estimate the gain of adapting over zero-shot from the support set alone.

    Every example whose label has another one is judged once, by a head adapted to the other folds.
    A head adapted to all examples has seen more than those, so the estimate is a little low.

    Returns:
        The estimate, or None where fewer than two labels have two examples.
    """
    count = Counter(support.targets.tolist())
    if sum(n >= 2 for n in count.values()) < 2:
        return None
    folds = min(folds, max(count.values()))
    fold = torch.full((len(support),), -1)
    for label, number in count.items():
        if number >= 2:
            rows = (support.targets == label).nonzero().squeeze(-1)
            order = torch.from_numpy(generator(seed, "fold", label).permutation(number))
            fold[rows[order]] = torch.arange(number) % folds
    judged = fold >= 0
    right = torch.zeros(len(support))
    for number in range(folds):
        out = fold == number
        if bool(out.any()) and len(set(support.targets[~out].tolist())) >= 2:
            head = adapted_head(artifact.model, artifact.learner, artifact.meta, support[~out])
            right[out] = _right(artifact, head, support[out])
        else:
            judged = judged & ~out
    without = _right(artifact, None, support)
    gain = (right - without)[judged]
    low, high = bootstrap_interval(gain.unsqueeze(0))
    return Estimate(
        float(right[judged].mean()), float(without[judged].mean()), low, high, int(judged.sum()), folds
    )


def predict(
    artifact: Artifact,
    texts: Sequence[str],
    language: str,
    *,
    top: int = 3,
    adaptation: Adaptation | None = None,
) -> list[Prediction]:
    """Predict the labels of texts in one language, zero-shot where it was never adapted.

    Args:
        artifact: the trained model.
        texts: what to classify.
        language: code or name.
        top: how many labels to return for each text.
        adaptation: what `adapt` made; by default what the artifact has for the language.

    Raises:
        SettingsError: `top` is less than one.
    """
    if top < 1:
        raise SettingsError(f"expected --top to be 1 or more, found {top}.")
    code, _ = language_code(artifact, language)
    adaptation = adaptation or artifact.adaptations.get(code)
    labels = artifact.model.labels if adaptation is None else adaptation.labels
    if not texts:
        return []
    batch = artifact.model.batch(texts, labels, language=code)
    chances = _logits(artifact, None if adaptation is None else adaptation.head, batch).softmax(-1)
    values, places = chances.topk(min(top, len(labels)), dim=-1)
    return [
        Prediction(
            text, code, adaptation is not None, tuple((labels[p], v) for p, v in zip(ps, vs, strict=True))
        )
        for text, ps, vs in zip(texts, places.tolist(), values.tolist(), strict=True)
    ]


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


def _logits(artifact: Artifact, adapted: Params | None, batch: Batch) -> Tensor:
    """Logits `[n, C]` by what the artifact's learner adapted, zero-shot where that is None."""
    model = artifact.model.task_model
    with torch.no_grad():
        if adapted is None:
            return model.forward(zero_shot_head(artifact.model, len(batch.classes)), batch)
        return artifact.learner.predict(model, artifact.meta, adapted, batch)


def _right(artifact: Artifact, adapted: Params | None, batch: Batch) -> Tensor:
    return (_logits(artifact, adapted, batch).argmax(-1) == batch.targets).float()


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
