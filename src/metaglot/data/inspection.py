"""What `inspect` finds in a corpus, and how it looks on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from metaglot.types import SPLITS

LONG = 2000
"""Characters beyond which encoders of 512 tokens cut a text."""

FLAT = frozenset(("tagging", "frames"))
"""The kinds whose spans lie apart from one another."""

SPANS = FLAT | {"parsing"}
"""The kinds whose labels are those of spans, a frame's intent beside them."""


@dataclass(frozen=True)
class Strange:
    """An example whose text is written in another script than its language's others."""

    id: str
    split: str
    script: str
    text: str


@dataclass(frozen=True)
class LanguageReport:
    """One language of a corpus.

    Attributes:
        code: its code.
        name: its English name.
        branch: the branch of languages that it is of, or None where none is known.
        splits: split → number of examples.
        labels: label → split → number of examples; of kinds in `SPANS`, of spans.
        missing_labels: labels that other languages have.
        median_length: of the texts, in characters.
        p95_length: the length that 95% of the texts do not exceed.
        max_length: of the longest.
        long_texts: how many have more than 2,000 characters.
        scripts: script → share of the letters.
        strange: examples in another script, the first few.
        n_strange: how many there are.
        duplicates: split → examples whose text stood in the same split before.
        contradictions: texts that stand with more than one label.
        leaks: examples of dev or test whose text stands in train, as it is.
        near_leaks: those that stand there but for case, spaces and punctuation.
        overlaps: examples with spans that overlap, of a kind whose spans lie apart.
    """

    code: str
    name: str
    branch: str | None
    splits: dict[str, int]
    labels: dict[str, dict[str, int]]
    missing_labels: tuple[str, ...]
    median_length: float
    p95_length: float
    max_length: int
    long_texts: int
    scripts: dict[str, float]
    strange: tuple[Strange, ...]
    n_strange: int
    duplicates: dict[str, int]
    contradictions: int
    leaks: int
    near_leaks: int
    overlaps: int = 0

    @property
    def n_examples(self) -> int:
        """Number of examples, of all splits."""
        return sum(self.splits.values())

    @property
    def script(self) -> str:
        """The most used script, or an empty string where there are no letters."""
        return next(iter(self.scripts), "")


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    Attributes:
        name: the corpus's.
        kind: what is predicted.
        n_examples: of all languages and splits.
        labels: label → number of examples; of kinds in `SPANS`, of spans.
        languages: code → its report.
        parallel: whether an id names the same content in every language.
        shared_ids: ids that more than one language has.
        mixed_ids: of a parallel corpus, ids that stand in train in one place and in dev or test in another.
        similar_labels: pairs of labels that may be one, misspelt; the rarer first.
        notices: what was noted when the corpus was loaded.
        warnings: what will mislead, a sentence each.
    """

    name: str
    kind: str
    n_examples: int
    labels: dict[str, int]
    languages: dict[str, LanguageReport]
    parallel: bool
    shared_ids: int
    mixed_ids: int
    similar_labels: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)


def render(inspection: Inspection) -> RenderableType:
    """Lay an inspection out for a terminal: languages, labels, notices and warnings."""
    head = Text.assemble(
        (inspection.name, "bold"),
        f": {inspection.n_examples:,} examples, {counted(len(inspection.languages), 'language')}, "
        f"{counted(len(inspection.labels), 'label')}; ",
        "" if inspection.kind == "classification" else f"{inspection.kind}; ",
        "parallel" if inspection.parallel else "not parallel",
        f" ({inspection.shared_ids:,} ids are shared by languages)" if inspection.parallel else "",
    )
    parts: list[RenderableType] = [
        head,
        _language_table(inspection),
        Text(f"Branches: {_branches(inspection)}."),
        _label_table(inspection),
    ]
    parts += _bullets("Notices", "cyan", inspection.notices)
    parts += _bullets("Warnings", "yellow", inspection.warnings)
    return Group(*parts)


def _language_table(inspection: Inspection) -> Table:
    headings = ("code", *SPLITS, "labels", "length", "script", "twice", "leaked")
    rows = [
        (
            escape(report.code),
            *(_count(report.splits.get(split, 0)) for split in SPLITS),
            _count(len(report.labels)),
            f"{report.median_length:,.0f} {report.p95_length:,.0f} {report.max_length:,}",
            ", ".join(script for script, share in report.scripts.items() if share >= 0.05),
            _count(sum(report.duplicates.values())),
            _count(report.leaks + report.near_leaks),
        )
        for report in inspection.languages.values()
    ]
    table = Table(box=None, title="Languages", title_justify="left", pad_edge=False)
    for place, heading in enumerate(headings):
        if heading == "script":
            table.add_column(heading, overflow="fold")
        else:  # a number cut short would be another number
            width = max(len(row[place]) for row in [headings, *rows])
            justify: Literal["left", "right"] = "left" if heading == "code" else "right"
            table.add_column(heading, justify=justify, no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*row)
    table.caption = (
        "length: characters (median, 95th percentile, longest); twice: repeated texts; "
        "leaked: texts of dev or test that stand in train too."
    )
    table.caption_justify = "left"
    return table


def _branches(inspection: Inspection) -> str:
    """How many languages are of each branch: which have kin to learn from, once they are held out."""
    count = Counter(report.branch or "unknown" for report in inspection.languages.values())
    return ", ".join(f"{name} {number}" for name, number in count.most_common())


def _label_table(inspection: Inspection) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Labels", title_justify="left")
    table.add_column("label", overflow="fold")
    for heading in (noun(inspection.kind) + "s", "languages", "fewest", "most"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, total in inspection.labels.items():
        each = [sum(r.labels[label].values()) for r in inspection.languages.values() if label in r.labels]
        table.add_row(escape(label), f"{total:,}", f"{len(each):,}", f"{min(each):,}", f"{max(each):,}")
    table.caption = "Fewest and most: of the languages that have the label."
    table.caption_justify = "left"
    return table


def _bullets(title: str, style: str, sentences: Iterable[str]) -> list[RenderableType]:
    lines = [Text(f"• {sentence}") for sentence in sentences]
    return [Text(title, style=f"bold {style}"), *lines, Text()] if lines else []


def noun(kind: str) -> str:
    """Return what labels are counted by."""
    return "occurrence" if kind == "frames" else "span" if kind in SPANS else "example"


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: `1 example`, `2,000 examples`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _count(count: int) -> str:
    return f"{count:,}" if count else "–"
