"""Rows → pairs of sentences: every field checked, every fault named by file, line and field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from metaglot.bitext.columns import Columns, find_columns
from metaglot.bitext.files import PairTable
from metaglot.data.assemble import language_codes
from metaglot.data.fields import Fault, string, word
from metaglot.data.problems import Problems
from metaglot.data.rows import SPLIT_NAMES
from metaglot.errors import DataError, Where
from metaglot.progress import progress, silent

_PEEK = 100
_MANY_TABLES = 20


class Found(NamedTuple):
    """A pair with its languages as they are written."""

    source: str
    target: str
    languages: tuple[str, str]
    split: str
    id: str
    group: str
    note: str
    place: str | Path
    line: int


@dataclass
class PairIntake:
    """How rows become pairs, and what was met on the way.

    Attributes:
        mapping: field → column.
        languages: of source and target, where neither the data nor a name say them; they are a pair's order
            too where rows have both.
        split: keep this one alone; it is also that of rows that do not say.
        turned: whether the columns of tables without names stand the other way round than the files say.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, str] | None = None
    split: str | None = None
    turned: bool = False
    problems: Problems = field(default_factory=Problems)
    _empty: list[Where] = field(default_factory=list)
    _skipped: Counter[str] = field(default_factory=Counter)
    _numbers: Counter[str] = field(default_factory=Counter)

    def read(self, tables: Sequence[PairTable]) -> list[Found]:
        """Read tables into pairs.

        Raises:
            DataError: rows are faulty (all of the tables' faults in one error), or there are none.
        """
        found: list[Found] = []
        with ExitStack() as shown:
            if len(tables) < _MANY_TABLES:
                shown.enter_context(silent())
            advance = shown.enter_context(progress("reading", len(tables)))
            for table in tables:
                found += self._table(table)
                advance(note=" ".join(table.languages))
        self.problems.raise_any()
        if not found:
            wanted = f" of the split {self.split!r}" if self.split else ""
            raise DataError(
                f"expected sentence pairs{wanted}, found none.",
                where=Where(tables[0].place if tables else None),
            )
        return found

    def notices(self) -> list[str]:
        """Return what the user should know of the rows that were met."""
        told = []
        if self._skipped:
            names = ", ".join(f"{name!r} ({count:,} rows)" for name, count in self._skipped.items())
            told.append(f"Rows of splits that are not train, dev or test were left out: {names}.")
        if self._empty:
            told.append(
                f"{len(self._empty):,} pair(s) with an empty side were left out, the first being "
                f"{self._empty[0]}."
            )
        return told

    def _table(self, table: PairTable) -> Iterator[Found]:
        before = self.problems.total
        rows = iter(table.read(self.problems))
        head = list(islice(rows, _PEEK))
        if not head:
            if self.problems.total == before:
                self.problems.add(
                    "expected sentence pairs, found none: the file is empty.", Where(table.place)
                )
            return
        columns = find_columns([row for _, row in head], self.mapping, table.place)
        self._check_languages(table, columns)
        count, empty = 0, len(self._empty)
        for line, row in chain(head, rows):
            try:
                for pair in self._pairs(table, columns, line, row):
                    count += 1
                    yield pair
            except Fault as fault:
                self.problems.add(fault.problem, Where(table.place, line, fault.field), fault.hint)
        if not count and len(self._empty) > empty:
            where = Where(table.place, field=self._empty[empty].field)
            self.problems.add("expected sentences, found an empty column.", where)

    def _pairs(
        self, table: PairTable, columns: Columns, line: int, row: Mapping[str, Any]
    ) -> Iterator[Found]:
        split = self._split(table, columns, row)
        if split is None:
            return
        self._numbers[str(table.place)] += 1
        id_ = word(row, columns.id) if columns.id else f"{split}-{self._numbers[str(table.place)]}"
        group = word(row, columns.group) if columns.group and row.get(columns.group) else ""
        note = string(row, columns.note) if columns.note and row.get(columns.note) else ""
        for languages, (source, where), (target, other) in self._sentences(table, columns, row):
            if not source.strip() or not target.strip():
                self._empty.append(Where(table.place, line, where if not source.strip() else other))
                continue
            yield Found(source, target, languages, split, id_, group, note, table.place, line)

    def _sentences(
        self, table: PairTable, columns: Columns, row: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[str, str], tuple[str, str], tuple[str, str]]]:
        """Yield the two languages, and each sentence with the column it is from, of every pair of a row."""
        if columns.source:
            yield (
                self._named(table, columns, row),
                (string(row, columns.source), columns.source),
                (string(row, columns.target), columns.target),
            )
            return
        texts = (
            row.get(columns.translation)
            if columns.translation
            else {k: row.get(k) for k in columns.by_language}
        )
        if not isinstance(texts, Mapping):
            raise Fault(f"expected sentences by language, found {str(texts)[:40]!r}.", columns.translation)
        if columns.translation and "language" in texts and isinstance(texts["language"], list):
            texts = _variable(texts, columns.translation)
        said = {name: text for name, text in texts.items() if text is not None}
        if len(said) < 2:
            raise Fault(
                f"expected sentences in two languages or more, found {', '.join(map(repr, said)) or 'none'}.",
                columns.translation or columns.by_language[0],
            )
        first, others = _ordered(tuple(said), self.languages)
        for other in others:
            yield (first, other), (string(said, first), first), (string(said, other), other)

    def _check_languages(self, table: PairTable, columns: Columns) -> None:
        """Check that something says the languages of a table with a source and a target.

        Raises:
            DataError: nothing does.
        """
        for side, column, known in zip(
            ("source", "target"),
            (columns.source_language, columns.target_language),
            self._known(table),
            strict=True,
        ):
            if columns.source and not (column or known):
                raise DataError(
                    f"expected the language of the {side}, found no column for it and no name that says it.",
                    where=Where(table.place, field=f"{side}_language"),
                    hint="Name the file or its folder after the languages (en-sw.tsv), or pass "
                    "languages=('en', 'sw').",
                )

    def _known(self, table: PairTable) -> tuple[str, str]:
        source, target = table.languages[::-1] if self.turned else table.languages
        given = self.languages or ("", "")
        return source or given[0], target or given[1]

    def _named(self, table: PairTable, columns: Columns, row: Mapping[str, Any]) -> tuple[str, str]:
        source, target = self._known(table)
        return (
            word(row, columns.source_language) if columns.source_language else source,
            word(row, columns.target_language) if columns.target_language else target,
        )

    def _split(self, table: PairTable, columns: Columns, row: Mapping[str, Any]) -> str | None:
        if columns.split:
            written = word(row, columns.split)
            split = SPLIT_NAMES.get(written.casefold(), "")
            if not split:
                self._skipped[written] += 1
                return None
        else:
            split = table.split or self.split or "train"
        return split if self.split in (None, split) else None


@lru_cache
def _ordered(names: tuple[str, ...], wanted: tuple[str, str] | None) -> tuple[str, list[str]]:
    """Return which of a row's languages is translated, and into which: as wanted, or English, or the first.

    Raises:
        Fault: a language that is wanted is not there.
    """
    codes = language_codes(names, [])
    if wanted is None:
        first = next((name for name in names if codes[name].split("_")[0] == "eng"), names[0])
        return first, [name for name in names if name != first]
    chosen = []
    for name, code in language_codes(wanted, []).items():
        found = next((each for each in names if name == each or code == codes[each]), None)
        if found is None:
            raise Fault(f"expected the language {name!r}, found {', '.join(names)}.", name)
        chosen.append(found)
    return chosen[0], chosen[1:]


def _variable(texts: Mapping[str, Any], column: str) -> dict[str, Any]:
    """Return language → text of `{'language': […], 'translation': […]}`, of several the first."""
    names, sentences = texts["language"], texts.get("translation")
    if not isinstance(sentences, list) or len(sentences) != len(names):
        raise Fault("expected as many translations as languages.", column)
    return dict(reversed(list(zip(names, sentences, strict=True))))
