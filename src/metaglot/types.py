"""The words of the house, and the notation of its tensor shapes.

Shapes in docstrings use these letters and no others:

    n  examples in a batch            C  labels of a task
    d  width of a feature block       B  feature blocks
    T  tokens of a text               k  examples per label in a support set (shots)
    m  tasks of a meta-batch
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Params: TypeAlias = "dict[str, Tensor]"
"""Named tensors: a model's, a learner's, or an adaptation's parameters."""

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of an example's text with a label: characters `start` to `end` (exclusive).

    `value` is what the stretch means in the corpus's own words ("blau" → "blue"), and empty where the text
    itself is what is meant, or nothing is known. Two spans are equal whatever their values.
    """

    start: int
    end: int
    label: str
    value: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled item in one language.

    Attributes:
        id: its own within the language; in a parallel corpus it names the content.
        text: what is labelled.
        label: the whole text's, or its pair's or entities'; empty where only stretches have labels.
        language: the code.
        split: `train`, `dev` or `test`.
        group: what the example was made from (a sentence template, a document): examples of one group
            never stand on two sides of a split.
        spans: labelled stretches of the text. Where some contain others (a tree), the outer come first.
        tokens: the stretches `(start, end)` that the data cut the text into; empty where they do not say.
        pair: the second text of a pair.
    """

    id: str
    text: str
    label: str
    language: str
    split: str = "train"
    group: str = ""
    spans: tuple[Span, ...] = ()
    tokens: tuple[tuple[int, int], ...] = ()
    pair: str = ""


@dataclass(frozen=True)
class Corpus:
    """Examples of one kind in many languages.

    `parallel` says that one id names the same content in every language, so that ids must be kept
    apart between sources and targets. `notices` are things that the user should know.
    """

    name: str
    examples: tuple[Example, ...]
    kind: str = "classification"
    parallel: bool = False
    licence: str = ""
    source: str = ""
    notices: tuple[str, ...] = ()
    _index: dict[tuple[str, str], tuple[Example, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        table: dict[tuple[str, str], list[Example]] = {}
        for example in self.examples:
            table.setdefault((example.language, example.split), []).append(example)
        self._index.update({key: tuple(rows) for key, rows in table.items()})

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages that have examples, sorted."""
        return tuple(sorted({language for language, _ in self._index}))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Every label of any language, sorted."""
        return tuple(sorted({example.label for example in self.examples}))

    def select(self, language: str, split: str | None = None) -> tuple[Example, ...]:
        """Return one language's examples, of one split or of all, in the corpus's order."""
        splits = SPLITS if split is None else (split,)
        return tuple(e for s in splits for e in self._index.get((language, s), ()))

    def restrict(self, languages: Iterable[str]) -> Corpus:
        """Return the corpus of these languages alone."""
        keep = set(languages)
        return Corpus(
            name=self.name,
            examples=tuple(e for e in self.examples if e.language in keep),
            kind=self.kind,
            parallel=self.parallel,
            licence=self.licence,
            source=self.source,
            notices=self.notices,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what every example says, independent of their order.

        A corpus to be classified has texts and labels alone: the spans that its files happen to have do
        not change it.
        """
        total = hashlib.sha256()
        parts = _parts if self.kind == "classification" else _all_parts
        for row in sorted("\x1f".join(parts(e)) for e in self.examples):
            total.update(row.encode("utf-8", "surrogatepass") + b"\x1e")
        return total.hexdigest()


def _parts(example: Example) -> list[str]:
    """Where an example stands, its label and its text."""
    e = example
    return [e.language, e.split, e.id, e.label, e.text]


def _all_parts(example: Example) -> list[str]:
    """All that an example says, as texts."""
    e = example
    spans = " ".join(f"{span.start}-{span.end}:{span.label}" for span in e.spans)
    tokens = " ".join(f"{start}-{end}" for start, end in e.tokens)
    return [*_parts(e), e.pair, spans, tokens]


@dataclass(frozen=True)
class Answer:
    """What is predicted for an example: a label, labelled stretches, or both.

    Attributes:
        label: of the whole; empty where only stretches have labels.
        spans: in the order of the text; where some contain others, the outer come first.
    """

    label: str = ""
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Examples of one task as tensors: all that a learner ever sees.

    Attributes:
        inputs: block name → features `[n, d]`.
        targets: label numbers `[n]`, int64, 0 to C − 1.
        classes: `[C]`, int64: which row of the model's label list each label is; −1 for one that
            the sources do not have.
        prior: scores `[n, C]` of a head that never saw this language (cross-fitted where the
            language is a source), or None where there is none.
        group: which of the model's groups (language families) the task is of; −1 for none of them.

    Tasks without labels (regression) have targets of any shape `[n, …]` and no classes `[0]`.
    """

    inputs: Mapping[str, Tensor]
    targets: Tensor
    classes: Tensor
    prior: Tensor | None = None
    group: int = -1
    _grams: dict[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)

    def gram(self, name: str) -> Tensor:
        """Return X Xᵀ `[n, n]` of a block, worked out once for all that ask."""
        if name not in self._grams:
            self._grams[name] = self.inputs[name] @ self.inputs[name].T
        return self._grams[name]

    def __getitem__(self, rows: Tensor) -> Batch:
        """Return the examples at `rows` `[m]`, int64 or bool."""
        return Batch(
            inputs={name: block[rows] for name, block in self.inputs.items()},
            targets=self.targets[rows],
            classes=self.classes,
            prior=None if self.prior is None else self.prior[rows],
            group=self.group,
        )


@dataclass(frozen=True)
class Episode:
    """A support set to adapt on and a query set to be judged on, drawn from one task.

    `weight` is how much the task counts beside the others of a meta-batch.
    """

    support: Batch
    query: Batch
    task: str = ""
    weight: float = 1.0


class TaskModel(Protocol):
    """A model as pure functions of named parameters: what a learner adapts.

    Attributes:
        outputs: what the model is to a learner, which says what it can use: `"label-scores"` for a
            linear head over features (then it is a `FeatureModel` too), `"any"` for an arbitrary
            function with a loss.
        n_labels: rows of the model's label list; 0 where tasks have no labels in common.
        groups: names of the groups of tasks, such as language families.
        head: the names of the parameters of the last layer, as in `init`.
        fixed_start: the names of parameters that start as `init` has them in every task, since what
            they mean is not the same in two tasks (weights of character n-grams).
    """

    @property
    def outputs(self) -> str: ...  # noqa: D102 - above

    @property
    def n_labels(self) -> int: ...  # noqa: D102

    @property
    def groups(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def head(self) -> frozenset[str]: ...  # noqa: D102

    @property
    def fixed_start(self) -> frozenset[str]: ...  # noqa: D102

    def init(self, n_labels: int) -> Params:
        """Return the trainable parameters for `n_labels` labels, in order from input to output.

        A linear head over features starts as what the prior predicts, or chance.
        """
        ...

    def rows(self, params: Params, classes: Tensor) -> Params:
        """Return the parameters of the labels `classes` `[C]`; those of a new label (−1) are zero.

        Parameters that do not belong to labels are returned as they are.
        """
        ...

    def forward(self, params: Params, batch: Batch) -> Tensor:
        """Return the outputs for a batch: logits `[n, C]`, or whatever the loss takes."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of outputs for targets."""
        ...


class FeatureModel(TaskModel, Protocol):
    """A body that makes blocks of features, and a linear head over them.

    Attributes:
        blocks: block name → its width d.
        lexical: the blocks that mean nothing across languages (character n-grams).
        body: the names of the body's parameters, as in `init`; none where features are frozen.
    """

    @property
    def blocks(self) -> Mapping[str, int]: ...  # noqa: D102 - above

    @property
    def lexical(self) -> frozenset[str]: ...  # noqa: D102

    @property
    def body(self) -> frozenset[str]: ...  # noqa: D102

    def embed(self, params: Params, batch: Batch) -> Batch:
        """Return the batch with the body's features `[n, d]` of every block as its inputs."""
        ...

    def linear_head(
        self, weights: Mapping[str, Tensor], bias: Tensor | None = None, prior_scale: Tensor | float = 0.0
    ) -> Params:
        """Return the head's parameters: block weights `[C, d]`, a bias `[C]` and a trust in the prior.

        A block that is not named gets no weight.
        """
        ...

    def apply_head(self, params: Params, features: Batch) -> Tensor:
        """Return logits `[n, C]` of the head for what `embed` returned."""
        ...

    def head_names(self, blocks: Iterable[str]) -> list[str]:
        """Return the names of the parameters that weigh these blocks."""
        ...
