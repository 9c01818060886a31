"""Tasks, and the space of them that a corpus spans.

A task is one kind in one language with one label set. The space tells the sources, which are
learned from, from the held-out languages, which only ever give support and query sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from metaglot.errors import DataError, LanguageError, suggestion
from metaglot.kinds import KINDS, Kind
from metaglot.languages import language_name, parse_language
from metaglot.space.episodes import Shots
from metaglot.types import Corpus, Example

# Of a parallel corpus's contents, the share that the sources may learn from. The rest is for the
# held-out languages' support sets: no content stands on both sides.
SOURCE_SHARE = 0.6


@dataclass(frozen=True)
class Task:
    """One language's examples, apart by use.

    Attributes:
        language: the code.
        labels: the task's label inventory, sorted.
        pool: what support sets (and, in training, query sets) are drawn from.
        test: what an adapted model is judged on; empty for a source.
        shots: what the k of k shots counts.
    """

    language: str
    labels: tuple[str, ...]
    pool: tuple[Example, ...]
    test: tuple[Example, ...] = ()
    shots: Shots = "label"

    def __str__(self) -> str:
        return f"{language_name(self.language)} ({self.language})"


@dataclass(frozen=True)
class TaskSpace:
    """All tasks of a corpus: `sources` to learn from and `held_out` to be judged on.

    `notices` say which languages could not be used, and why.
    """

    corpus: Corpus
    sources: tuple[Task, ...]
    held_out: tuple[Task, ...] = ()
    notices: tuple[str, ...] = ()
    labels: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = sorted({label for task in self.sources for label in task.labels})
        object.__setattr__(self, "labels", tuple(names))

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        held_out: Sequence[str] = (),
        *,
        sources: Sequence[str] | None = None,
        min_per_label: int = 2,
    ) -> TaskSpace:
        """Divide a corpus into source and held-out tasks.

        Sources give their train and dev splits; held-out languages their train split as support
        pool and their test split (dev, where there is no test) as query. In a parallel corpus no id
        is in both the sources' examples and the held-out languages'.

        Args:
            corpus: the examples.
            held_out: codes or names of the languages to hold out.
            sources: codes or names of the sources; every other language where None.
            min_per_label: a label with fewer train examples is left out of that language's task, where
                shots count examples of each label.

        Raises:
            LanguageError: a language that the corpus does not have.
            DataError: no source has two labels, or a held-out language has not.
        """
        targets = [find_language(corpus, name) for name in held_out]
        chosen = (
            [find_language(corpus, name) for name in sources]
            if sources is not None
            else [code for code in corpus.languages if code not in targets]
        )
        if both := sorted(set(chosen) & set(targets)):
            raise DataError(f"expected sources and held-out languages to differ, found {both[0]!r} in both.")
        if not chosen:
            raise DataError(
                "expected at least one source language to learn from, found none.",
                hint=f"The corpus has {', '.join(corpus.languages)}; hold out fewer of them.",
            )
        taken = _held_out_ids(corpus, targets) if corpus.parallel else frozenset()
        found, notices, fault = [], [], None
        for code in sorted(chosen):
            try:
                found.append(_source(corpus, code, taken, min_per_label))
            except DataError as error:
                fault = error
                notices.append(f"{language_name(code)} ({code}) is left out of the sources: {error.problem}")
        if fault is not None and not found:
            raise fault
        if len(found) == 1:
            notices.append(
                f"{language_name(found[0].language)} is the only source: how far to trust what it teaches "
                "about other languages cannot be learned from one."
            )
        return cls(
            corpus=corpus,
            sources=tuple(found),
            held_out=tuple(_target(corpus, code, taken, min_per_label) for code in targets),
            notices=tuple(notices),
        )


def find_language(corpus: Corpus, name: str) -> str:
    """Return the corpus's code for a language given by code or name.

    Raises:
        LanguageError: the corpus does not have it; the message suggests what was meant.
    """
    if name in corpus.languages:
        return name
    for region in (True, False):
        try:
            code = parse_language(name, region=region)
        except LanguageError:
            break
        if code in corpus.languages:
            return code
    spoken = {language_name(code).casefold(): code for code in corpus.languages}
    if name.casefold() in spoken:
        return spoken[name.casefold()]
    near = suggestion(name, [*corpus.languages, *spoken])
    raise LanguageError(
        f"expected a language of the corpus {corpus.name!r}, found {name!r}.",
        hint=f"{near} It has: {', '.join(corpus.languages)}.".strip(),
    )


def _held_out_ids(corpus: Corpus, targets: Iterable[str]) -> frozenset[str]:
    """The ids that belong to the held-out languages of a parallel corpus."""
    judged = {e.id for code in targets for e in corpus.select(code) if e.split != "train"}
    pool = {e.id for code in targets for e in corpus.select(code, "train")}
    return frozenset(judged | {i for i in pool if _fraction(i) >= SOURCE_SHARE})


def _fraction(content: str) -> float:
    """A number from 0 to 1 that is the same for the same id everywhere."""
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") / 2**64


def _source(corpus: Corpus, code: str, taken: frozenset[str], least: int) -> Task:
    rows = [e for split in ("train", "dev") for e in corpus.select(code, split) if e.id not in taken]
    return _task(corpus, code, rows, [], least)


def _target(corpus: Corpus, code: str, taken: frozenset[str], least: int) -> Task:
    pool = [e for e in corpus.select(code, "train") if not corpus.parallel or e.id in taken]
    test = list(corpus.select(code, "test") or corpus.select(code, "dev"))
    if not test:
        raise DataError(
            f"expected a test or dev split for the held-out language {code!r}, found none.",
            hint="Hold out a language that has one, or name the split's file test.csv.",
        )
    return _task(corpus, code, pool, test, least)


def _task(corpus: Corpus, code: str, pool: list[Example], test: list[Example], least: int) -> Task:
    kind: Kind = KINDS[corpus.kind]()
    count = kind.count_labels(pool)
    if kind.shots == "example":
        if len(count) < 2:
            raise DataError(
                f"expected examples of at least two labels in {code!r}, found {', '.join(count) or 'none'}.",
                hint="Leave the language out, or give it labelled examples.",
            )
        return Task(code, tuple(sorted(count)), tuple(pool), tuple(test), kind.shots)
    judged = kind.count_labels(test)
    labels = tuple(sorted(x for x, n in count.items() if n >= least and (not test or x in judged)))
    if len(labels) < 2:
        raise DataError(
            f"expected at least two labels with {least} or more train examples in {code!r}, "
            f"found {len(labels)} (of {len(count)} labels).",
            hint="Leave the language out, or give it more examples.",
        )
    keep = set(labels)
    return Task(
        language=code,
        labels=labels,
        pool=tuple(e for e in pool if e.label in keep),
        test=tuple(e for e in test if e.label in keep),
    )
