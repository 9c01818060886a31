"""The words of translation's data: a pair of sentences, and a corpus of them in many languages.

Every pair of languages is a task. Most corpora have one language in all of their pairs, English as a
rule; it is called the *pivot* here, and a task then is known by its other language.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from metaglot.errors import LanguageError, suggestion
from metaglot.languages import language_name
from metaglot.types import SPLITS


@dataclass(frozen=True, slots=True)
class SentencePair:
    """A sentence and its translation.

    Attributes:
        id: its own within its two languages; where the corpus is parallel it names the content, in all.
        source: the sentence.
        target: its translation.
        source_language: the code of the sentence's language.
        target_language: the code of the translation's.
        split: `train`, `dev` or `test`.
        group: what the pair is from (a chapter, a message with its plural forms): pairs of one group never
            stand on two sides of a split.
        note: what the two texts alone do not say, for a translator: a message's context, a plural's numbers.
    """

    id: str
    source: str
    target: str
    source_language: str
    target_language: str
    split: str = "train"
    group: str = ""
    note: str = ""

    def turned(self) -> SentencePair:
        """Return the pair the other way round."""
        return dataclasses.replace(
            self,
            source=self.target,
            target=self.source,
            source_language=self.target_language,
            target_language=self.source_language,
        )


@dataclass(frozen=True)
class Bitext:
    """Pairs of sentences in many languages.

    `parallel` says that one id names the same content in all languages, so that ids must be kept apart
    between the languages learned from and those learned. `notices` are things that the user should know.
    """

    name: str
    pairs: tuple[SentencePair, ...]
    parallel: bool = False
    licence: str = ""
    origin: str = ""
    notices: tuple[str, ...] = ()
    _index: dict[tuple[str, str], list[SentencePair]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for pair in self.pairs:
            for language in {pair.source_language, pair.target_language}:
                self._index.setdefault((language, pair.split), []).append(pair)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The codes of all languages, of either side, sorted."""
        return tuple(sorted({language for language, _ in self._index}))

    @cached_property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Source and target language of the pairs, as they stand, sorted."""
        return tuple(sorted({(pair.source_language, pair.target_language) for pair in self.pairs}))

    @cached_property
    def pivot(self) -> str | None:
        """The language that is in every pair, or None; of two that are, English or the source."""
        if not self.directions:
            return None
        common = set.intersection(*({source, target} for source, target in self.directions))
        first = self.directions[0]
        return next((language for language in ("eng", *first) if language in common), None)

    def select(self, language: str, split: str | None = None) -> tuple[SentencePair, ...]:
        """Return the pairs with a language on either side, of one split or of all, in the corpus's order.

        Raises:
            LanguageError: the corpus has no such language.
        """
        self._check(language)
        splits = SPLITS if split is None else (split,)
        return tuple(pair for s in splits for pair in self._index.get((language, s), ()))

    def into(self, language: str) -> Bitext:
        """Return the pairs of a language, turned so that it is what is translated into.

        Raises:
            LanguageError: the corpus has no such language.
        """
        self._check(language)
        return self.keep(p.turned() if p.source_language == language else p for p in self._all(language))

    def out_of(self, language: str) -> Bitext:
        """Return the pairs of a language, turned so that it is what is translated from.

        Raises:
            LanguageError: the corpus has no such language.
        """
        self._check(language)
        return self.keep(p.turned() if p.target_language == language else p for p in self._all(language))

    def restrict(self, languages: Iterable[str]) -> Bitext:
        """Return the pairs both of whose languages are among these; a pivot need not be named."""
        kept = {*languages, *([self.pivot] if self.pivot else [])}
        return self.keep(p for p in self.pairs if {p.source_language, p.target_language} <= kept)

    def keep(self, pairs: Iterable[SentencePair], notices: Iterable[str] = ()) -> Bitext:
        """Return the same corpus of other pairs, with further notices."""
        return dataclasses.replace(self, pairs=tuple(pairs), notices=(*self.notices, *notices))

    def count(self) -> Counter[tuple[str, str, str]]:
        """Return the number of pairs by source language, target language and split."""
        return Counter((p.source_language, p.target_language, p.split) for p in self.pairs)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what every pair says, independent of their order."""
        total = hashlib.sha256()
        for row in sorted("\x1f".join(_parts(pair)) for pair in self.pairs):
            total.update(row.encode("utf-8", "surrogatepass") + b"\x1e")
        return total.hexdigest()

    def _all(self, language: str) -> Iterator[SentencePair]:
        return (p for p in self.pairs if language in (p.source_language, p.target_language))

    def _check(self, language: str) -> None:
        if language not in self.languages:
            names = [f"{code} ({language_name(code)})" for code in self.languages]
            shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
            raise LanguageError(
                f"expected a language of {self.name!r} ({shown}), found {language!r}.",
                hint=suggestion(language, self.languages),
            )


def _parts(pair: SentencePair) -> list[str]:
    p = pair
    return [p.source_language, p.target_language, p.split, p.id, p.source, p.target]
