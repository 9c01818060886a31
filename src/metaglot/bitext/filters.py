"""What is left out of a bitext before it is learned from, and a count and examples of each reason."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from statistics import median
from textwrap import shorten
from typing import Any, TypeAlias

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from metaglot.bitext.pairs import Bitext, SentencePair
from metaglot.bitext.scripts import scripts_in, share_in, usual_scripts
from metaglot.data.inspect import normalized
from metaglot.errors import SettingsError

Test: TypeAlias = Callable[[SentencePair], bool]

_EXAMPLES = 3
_SHORT = 10  # characters that are added to both lengths: of two words' ratio nothing follows
_AHEAD = {"train": ("dev", "test"), "dev": ("test",), "test": ()}
"""Split → the splits whose sentences it may not have."""


@dataclass(frozen=True)
class Filters:
    """What is left out. A number of 0 and a False switch a filter off.

    Attributes:
        max_length: characters of either side.
        max_ratio: how many times longer or shorter a translation may be, against what is usual between its
            two languages here (the median), 10 characters being added to both.
        min_script: share of a side's letters that are of the scripts its language is written in.
        identical: pairs whose sides are the same text.
        duplicates: pairs that stand before in the same split, with the same languages.
        leaked: pairs of train with a sentence of dev or test, of dev with one of test: whatever the language
            on the other side is.

    Texts are the same that differ in case, punctuation and space alone.
    """

    max_length: int = 1000
    max_ratio: float = 4.0
    min_script: float = 0.3
    identical: bool = True
    duplicates: bool = True
    leaked: bool = True

    def __post_init__(self) -> None:
        if self.max_length < 0:
            raise SettingsError(f"expected max_length of at least 0, found {self.max_length}.")
        if self.max_ratio and not self.max_ratio >= 1:
            raise SettingsError(f"expected max_ratio of at least 1, or 0 for none, found {self.max_ratio}.")
        if not 0 <= self.min_script <= 1:
            raise SettingsError(f"expected min_script from 0 to 1, found {self.min_script}.")


@dataclass
class Removed:
    """What one filter left out: by direction, and the first few pairs."""

    by_direction: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[SentencePair] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of pairs."""
        return sum(self.by_direction.values())

    def add(self, pair: SentencePair) -> None:
        """Count a pair."""
        self.by_direction[pair.source_language, pair.target_language] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(pair)


@dataclass(frozen=True)
class FilterReport:
    """What `clean` left out.

    Attributes:
        name: the corpus's.
        before: its pairs.
        removed: filter's name → what it left out; a pair counts for the first filter that it fails.
        scripts: code → the scripts that a language was taken to be written in, where they are not its
            usual ones.
    """

    name: str
    before: int
    removed: Mapping[str, Removed]
    scripts: Mapping[str, tuple[str, ...]]

    @property
    def after(self) -> int:
        """The number of pairs that are left."""
        return self.before - sum(removed.count for removed in self.removed.values())

    @property
    def summary(self) -> str:
        """What was left out, in a sentence; empty where nothing was."""
        counts = [f"{name} {removed.count:,}" for name, removed in self.removed.items() if removed.count]
        left = self.before - self.after
        return f"{left:,} of {self.before:,} pairs were left out: {', '.join(counts)}." if left else ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "scripts": {code: list(scripts) for code, scripts in self.scripts.items()},
            "removed": {
                name: {
                    "count": removed.count,
                    "by_direction": {"-".join(both): n for both, n in removed.by_direction.most_common()},
                    "examples": [asdict(pair) for pair in removed.examples],
                }
                for name, removed in self.removed.items()
            },
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text.assemble(
            (self.name, "bold"), f": {self.after:,} of {self.before:,} pairs are left after filtering."
        )
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("left out for")
        table.add_column("pairs", justify="right", no_wrap=True)
        table.add_column("most in", overflow="fold")
        table.add_column("such as", overflow="fold")
        for name, removed in self.removed.items():
            most = ", ".join(f"{a}-{b} {n:,}" for (a, b), n in removed.by_direction.most_common(3))
            shown = (f"{shorten(p.source, 30)!r} ~ {shorten(p.target, 30)!r}" for p in removed.examples)
            table.add_row(name, f"{removed.count:,}" if removed.count else "–", most, Text("\n".join(shown)))
        yield table
        for code, scripts in self.scripts.items():
            yield Text(f"{code} is written in {' and '.join(scripts)} here, which is not its usual script.")


def clean(bitext: Bitext, filters: Filters | None = None) -> tuple[Bitext, FilterReport]:
    """Leave out of a bitext what would spoil learning or measuring.

    Args:
        bitext: any.
        filters: what; the defaults if left out.

    Returns:
        The pairs that are left, in their order, and what was left out. That of test is never less for what
        stands in train: it is train that gives way.
    """
    settings = filters or Filters()
    scripts = _scripts(bitext) if settings.min_script else {}
    plain = cache(normalized)
    alone = _tests_of_one(bitext, settings, scripts, plain)
    verdicts = [next((name for name, is_faulty in alone.items() if is_faulty(p)), "") for p in bitext.pairs]
    good = [pair for pair, verdict in zip(bitext.pairs, verdicts, strict=True) if not verdict]
    against = _tests_of_all(good, settings, plain)
    removed = {name: Removed() for name in (*alone, *against)}
    kept = []
    for pair, verdict in zip(bitext.pairs, verdicts, strict=True):
        name = verdict or next((name for name, is_faulty in against.items() if is_faulty(pair)), "")
        if name:
            removed[name].add(pair)
        else:
            kept.append(pair)
    odd = {code: tuple(sorted(each)) for code, each in scripts.items() if each != usual_scripts(code)}
    report = FilterReport(bitext.name, len(bitext.pairs), removed, odd)
    notices = [f"{report.before - report.after:,} of {report.before:,} pairs were filtered out."]
    return bitext.keep(kept, notices if report.after < report.before else ()), report


def _tests_of_one(
    bitext: Bitext,
    settings: Filters,
    scripts: Mapping[str, frozenset[str]],
    plain: Callable[[str], str],
) -> dict[str, Test]:
    """Return the filters that look at one pair alone and are on, in the order in which they are asked."""
    tests: dict[str, Test] = {"empty": lambda pair: not pair.source.strip() or not pair.target.strip()}
    if settings.identical:
        tests["identical"] = lambda pair: plain(pair.source) == plain(pair.target)
    if settings.max_length:
        tests["too long"] = lambda pair: max(len(pair.source), len(pair.target)) > settings.max_length
    if settings.max_ratio:
        tests["length ratio"] = partial(_unequal, _usual_ratios(bitext), math.log(settings.max_ratio))
    if settings.min_script:

        @cache
        def share(text: str, code: str) -> float:
            return share_in(text, scripts[code]) if scripts[code] else 1.0

        tests["wrong script"] = lambda pair: (
            share(pair.source, pair.source_language) < settings.min_script
            or share(pair.target, pair.target_language) < settings.min_script
        )
    return tests


def _tests_of_all(
    good: Sequence[SentencePair], settings: Filters, plain: Callable[[str], str]
) -> dict[str, Test]:
    """Return the filters that compare a pair with the others, those that are good by themselves."""
    tests: dict[str, Test] = {}
    if settings.leaked:
        ahead = _sentences(good, plain)
        tests["leaked"] = lambda pair: any(
            side in ahead[split] for split in _AHEAD[pair.split] for side in _sides(pair, plain)
        )
    if settings.duplicates:
        tests["duplicate"] = partial(_seen_before, set(), plain)
    return tests


def _sides(pair: SentencePair, plain: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    yield pair.source_language, plain(pair.source)
    yield pair.target_language, plain(pair.target)


def _sentences(pairs: Iterable[SentencePair], plain: Callable[[str], str]) -> dict[str, set[tuple[str, str]]]:
    """Return split → the sentences that stand in it, each with its language."""
    found: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for pair in pairs:
        if pair.split != "train":
            found[pair.split].update(_sides(pair, plain))
    return {"dev": found["dev"], "test": found["test"]}


def _seen_before(
    seen: set[tuple[str, tuple[str, str], tuple[str, str]]], plain: Callable[[str], str], pair: SentencePair
) -> bool:
    source, target = _sides(pair, plain)
    key = (pair.split, source, target)
    if key in seen:
        return True
    seen.add(key)
    return False


def _ratio(pair: SentencePair) -> float:
    return math.log((len(pair.target) + _SHORT) / (len(pair.source) + _SHORT))


def _usual_ratios(bitext: Bitext) -> dict[tuple[str, str], float]:
    """Return direction → the median logarithm of its pairs' length ratios."""
    ratios: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in bitext.pairs:
        ratios[pair.source_language, pair.target_language].append(_ratio(pair))
    return {direction: median(each) for direction, each in ratios.items()}


def _unequal(usual: Mapping[tuple[str, str], float], limit: float, pair: SentencePair) -> bool:
    return abs(_ratio(pair) - usual[pair.source_language, pair.target_language]) > limit


def _scripts(bitext: Bitext) -> dict[str, frozenset[str]]:
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for pair in bitext.pairs:
        texts[pair.source_language].append(pair.source)
        texts[pair.target_language].append(pair.target)
    return {code: scripts_in(code, _spread(each)) for code, each in sorted(texts.items())}


def _spread(texts: Sequence[str]) -> Sequence[str]:
    """Return texts from all over a long list, for what is first may be of one kind."""
    return texts[:: max(1, len(texts) // 2000)]
