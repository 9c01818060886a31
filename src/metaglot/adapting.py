"""A few examples of a language in, an adaptation out, and what cross-validation says of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from metaglot.artifact import Adaptation, Artifact
from metaglot.augmentation import check_kind, copies_of
from metaglot.calibration import Calibration
from metaglot.cross_validation import cross_validate
from metaglot.errors import DataError, LanguageError, suggestion
from metaglot.evaluation.grid import adapted_head
from metaglot.kinds.values import Values
from metaglot.languages import custom_language, language_name, parse_language
from metaglot.model import target_table
from metaglot.space import Task
from metaglot.types import Answer, Example, Span


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
    model = artifact.model
    own = sorted(model.kind.count_labels(examples, model.labels))
    notices += _check(artifact, examples, own, new_labels=new_labels)
    # Of k sentences nobody expects to have every label.
    every_label = all_labels or model.kind.shots == "example"
    labels = tuple(sorted({*own, *model.labels})) if every_label else tuple(own)
    left_out = sorted(set(model.labels) - set(labels))
    if left_out:
        some = ", ".join(left_out[:5]) + ("…" if len(left_out) > 5 else "")
        notices.append(
            f"{len(left_out)} of the model's {len(model.labels)} labels have no example and will "
            f"not be predicted in {language_name(code)} ({some}). To keep them, pass --all-labels."
        )
    if augment:
        check_kind(model.kind_name)
    made = copies_of(examples, augment, copies, seed) if augment else []
    if augment:
        notices.append(f"{len(made)} changed copies of the examples are learned from too, and not judged.")
    origin = torch.tensor([*range(len(examples)), *(row for row, _ in made)])
    every = (*examples, *(copy for _, copy in made))
    task = Task(code, labels, every, shots=model.kind.shots)
    table = target_table(model, task, every, f"encoding {language_name(code)}")
    support = table.support(model, range(len(every)), labels)
    start = time.perf_counter()
    head = adapted_head(model, artifact.learner, artifact.meta, support)
    seconds = time.perf_counter() - start
    # What is kept is what float16 holds, so that predictions are the same before and after saving.
    head = {name: value.to(torch.float16).float() for name, value in head.items()}
    groups = [e.group or e.text for e in examples]  # what occurs twice must not judge itself
    found = cross_validate(artifact, table, labels, groups, origin=origin, seed=seed) if estimate else None
    if estimate and found is None:
        notices.append(
            "The gain could not be estimated: cross-validation needs two labels with two examples or more."
        )
    if found is not None and found.estimate.high <= 0 > found.estimate.gain:
        notices.append(
            "By this estimate adapting to these examples does harm: zero-shot is better. Add examples, look "
            "for wrong labels among them, or remove the adaptation's file to predict zero-shot."
        )
    gain = None if found is None else asdict(found.estimate)
    calibration = Calibration() if found is None else found.calibration
    values = Values() if model.kind.shots == "label" else Values.of(examples)
    adaptation = Adaptation(code, labels, head, len(examples), gain, calibration, values)
    return Adapted(adaptation, tuple(notices), seconds)


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


def _check(
    artifact: Artifact, examples: Sequence[Example], labels: Sequence[str], *, new_labels: bool
) -> list[str]:
    """Raise a `DataError` for examples that cannot be meant; return notices on the others.

    Args:
        artifact: the trained model.
        examples: what it is to be adapted to.
        labels: theirs.
        new_labels: whether labels that look misspelt are new ones.
    """
    if not examples:
        raise DataError("expected labelled examples, found none.", hint="A few for every label will do.")
    notices, kind = [], artifact.model.kind
    by_label = kind.shots == "label"
    seen: dict[tuple[str, str, tuple[Span, ...]], Answer] = {}
    for e in examples:
        asked = (e.text, e.pair, e.spans if by_label else ())
        answer = Answer(e.label) if by_label else Answer(e.label, e.spans)
        known = seen.setdefault(asked, answer)
        if known.label != answer.label:
            raise DataError(
                f"expected one label for a text, found both {known.label!r} and {answer.label!r} "
                f"for {_short(e.text)!r}.",
                hint="Decide for one of them.",
            )
        if known != answer:
            raise DataError(
                f"expected the same spans wherever a text occurs, found two answers for {_short(e.text)!r}.",
                hint="Decide for one of them.",
            )
    if len(examples) > len(seen):
        notices.append(f"{len(examples) - len(seen)} example(s) occur more than once; they count as often.")
    for label in sorted(set(labels) - set(artifact.model.labels)):
        near = suggestion(label, artifact.model.labels)
        if near and not new_labels:
            raise DataError(
                f"expected a label of the model or a new one, found {label!r}, which looks misspelt. {near}",
                hint="Mend it, or pass --new-labels if it is meant so.",
            )
        notices.append(f"The label {label!r} is new: the source languages have taught nothing about it.")
    if len(labels) < 2:
        raise DataError(
            f"expected examples of at least two labels, found only {labels[0]!r}.",
            hint="Add examples of the other labels: from one alone there is nothing to tell apart.",
        )
    return notices


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
