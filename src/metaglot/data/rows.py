"""Rows → items: every field checked, every fault named by file, line and field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from metaglot.data.columns import USUAL, Columns, find_columns, require
from metaglot.data.contents import Content, content_of, has_entities, kind_of
from metaglot.data.fields import Fault, word
from metaglot.data.problems import Problems
from metaglot.data.readers import Row
from metaglot.data.tags import scheme_of, spans_by_tags
from metaglot.errors import DataError, SettingsError, Where

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev", "development": "dev",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""What a split is called → its name here."""

_PEEK = 100


@dataclass(frozen=True)
class Table:
    """Rows from one place, and what the place's name says of them.

    `read` is called once, with where faults go.
    """

    place: str | Path
    read: Callable[[Problems], Iterable[Row]]
    language: str = ""
    split: str = ""


class Item(NamedTuple):
    """One row, checked; its language is as written and its id may be shared with other rows.

    `written_label` is the label as the row has it, for ids that count within labels; `tags_column` is where
    the content's tags stand, for messages.
    """

    language: str
    split: str
    id: str
    group: str
    content: Content
    place: str | Path
    line: int
    written_label: str = ""
    tags_column: str = ""


@dataclass
class Intake:
    """How rows become items, and what was met on the way.

    Attributes:
        mapping: field → column.
        language: of rows whose table and columns do not say; `None` if they have to.
        split: keep this one alone; it is also that of rows that do not say.
        kind: of the examples; `None` where the first table is to say it.
        mend: whether spans that overlap and I- without B- are mended and rows that do not fit the kind left
            out; `notices` counts them.
        problems: the faults.
        skipped: split's name as written → number of rows left out for having no known split.
        unsplit: whether some rows did not say their split.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None
    split: str | None = None
    kind: str | None = None
    mend: bool = False
    problems: Problems = field(default_factory=Problems)
    skipped: Counter[str] = field(default_factory=Counter)
    unsplit: bool = False
    _left_out: list[str] = field(default_factory=list)
    _told: list[str] = field(default_factory=list)
    _numbers: Counter[tuple[str, str]] = field(default_factory=Counter)

    def items(self, table: Table) -> Iterator[Item]:
        """Yield a table's items; faulty rows go to `problems` instead.

        Raises:
            DataError: a column is missing.
            SettingsError: both the data and an argument say the language.
        """
        before = self.problems.total
        rows = iter(table.read(self.problems))
        head = list(islice(rows, _PEEK))
        if not head:
            if self.problems.total == before:
                self.problems.add("expected rows, found none: the file is empty.", Where(table.place))
            return
        columns = self._columns(table, [row for _, row in head])
        self._check_language(table, columns)
        for line, row in chain(head, rows):
            try:
                item = self._item(table, columns, line, row)
            except Fault as fault:
                where = Where(table.place, line, fault.field)
                if self.mend and fault.unfit:
                    self._left_out.append(f"{where}: {fault.problem}")
                else:
                    self.problems.add(fault.problem, where, fault.hint)
            else:
                if item is not None:
                    yield item

    def notices(self) -> list[str]:
        """Return what the user should know of the rows that were met."""
        told = []
        if self.skipped:
            names = ", ".join(f"{name!r} ({count:,} rows)" for name, count in self.skipped.items())
            told.append(f"Rows of splits that are not train, dev or test were left out: {names}.")
        if self.unsplit and self.split is None:
            told.append("Rows that do not say their split count as train.")
        if self._left_out:
            told.append(f"{len(self._left_out):,} row(s) were left out, the first being {self._left_out[0]}")
        return told + list(dict.fromkeys(self._told))

    def read_tags(self, items: Sequence[Item]) -> list[Item]:
        """Return items with the spans that their tags mean, by the scheme of all of them together.

        Tags that are not of the scheme go to `problems`.
        """
        scheme, notice = scheme_of([item.content.tags for item in items if item.content.tags])
        if notice:
            self._told.append(notice)
        dropped = sum(item.content.mended for item in items)
        begun = 0
        found = []
        for item in items:
            text, tags, tokens = item.content.text, item.content.tags, item.content.tokens
            if not tags:
                found.append(item)
                continue
            try:
                spans, mended = spans_by_tags(tags, tokens, scheme, item.tags_column, text, mend=self.mend)
            except Fault as fault:
                self.problems.add(fault.problem, Where(item.place, item.line, fault.field), fault.hint)
                continue
            begun += mended
            found.append(item._replace(content=item.content._replace(spans=spans)))
        if dropped:
            self._told.append(f"{dropped:,} span(s) inside of longer ones, or across them, were dropped.")
        if begun:
            self._told.append(f"{begun:,} tag(s) that went on with no span were taken to begin one.")
        return found

    def _columns(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> Columns:
        """Return a table's columns; the first table's kind is that of all, where none was given."""
        names = list(dict.fromkeys(chain(*rows)))
        columns = find_columns(names, self.mapping, table.place)
        if self.kind is None:
            self.kind = kind_of(columns, rows, self.mapping)
            spans = columns.spans and any(row.get(columns.spans) for row in rows)
            if self.kind == "classification" and (spans or (columns.tokens and columns.tags)):
                self._told.append(
                    "Texts have both labels and spans: their labels are learned. kind='tagging' (`--kind "
                    "tagging`) learns the spans, kind='frames' (`--kind frames`) both."
                )
        folded = {name.casefold(): name for name in names}
        others = [folded[name] for name in USUAL["tags"] if name in folded and folded[name] != columns.tags]
        if others and columns.tokens and "tags" not in self.mapping and self.kind in {"tagging", "frames"}:
            self._told.append(
                f"The tags are those of the column {columns.tags!r}; columns={{'tags': {others[0]!r}}} "
                f"(`--column tags={others[0]}`) takes others."
            )
        if self.kind == "relations" and not has_entities(columns, rows):
            raise DataError(
                "expected two entities, which relations needs: marked in the text as <e1>…</e1> and "
                "<e2>…</e2>, or columns e1 and e2 that say where they are. Found neither in the first "
                f"{len(rows)} rows.",
                where=Where(table.place),
                hint="A place is {'start': …, 'end': …} or [start, end] in characters.",
            )
        return require(columns, self.kind, names, table.place)

    def _check_language(self, table: Table, columns: Columns) -> None:
        if self.language is not None and (columns.language or table.language):
            said = f"the column {columns.language!r}" if columns.language else f"its name {table.language!r}"
            raise SettingsError(
                f"expected one source of the language, found two: language={self.language!r} and {said} "
                f"of {table.place}.",
                hint="Leave language=… out, or map the column away: columns={'language': ''}.",
            )
        if self.language is None and not (columns.language or table.language):
            raise DataError(
                "expected a language, found no column for it (language, lang, locale) and no name that "
                "says it.",
                where=Where(table.place),
                hint="Map a column: columns={'language': …} (`--column language=…`), or pass language=… "
                "in Python.",
            )

    def _item(self, table: Table, columns: Columns, line: int, row: Mapping[str, Any]) -> Item | None:
        split = self._split(table, columns, row)
        if split is None:
            return None
        language = word(row, columns.language) if columns.language else self.language or table.language
        content = content_of(row, columns, self.kind or "classification", mend=self.mend)
        self._numbers[language, split] += 1
        return Item(
            language=language,
            split=split,
            id=word(row, columns.id) if columns.id else str(self._numbers[language, split]),
            group=word(row, columns.group) if columns.group else "",
            content=content,
            place=table.place,
            line=line,
            written_label=str(row.get(columns.label, "")).strip(),
            tags_column=columns.tags,
        )

    def _split(self, table: Table, columns: Columns, row: Mapping[str, Any]) -> str | None:
        if columns.split:
            written = word(row, columns.split)
            split = SPLIT_NAMES.get(written.casefold())
            if split is None:
                self.skipped[written] += 1
                return None
        elif table.split:
            split = table.split
        else:
            self.unsplit = True
            split = self.split or "train"
        return split if self.split in (None, split) else None
