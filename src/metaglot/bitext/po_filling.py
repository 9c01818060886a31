"""Fill a catalogue's gaps with drafts, marked fuzzy for a translator to look at.

The file is not written anew: the lines of the gaps are replaced, and every other byte of it stays, so that
a reviewer sees what was added and nothing else.
"""

from __future__ import annotations

import io
import re
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from metaglot.bitext.placeholders import faults, with_ends
from metaglot.bitext.po import Message, messages, polib_of, read_po, untranslated
from metaglot.errors import DataError, SettingsError, StorageError, Where
from metaglot.storage import atomic_file

_WIDTH = 79  # of a line, as gettext's own tools wrap them
_EMPTY = re.compile(r'msgstr(?:\[\d\])?\s+""')


@dataclass(frozen=True)
class Refused:
    """A draft that was not written, and why."""

    message: Message
    draft: str
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Filled:
    """What was done with a catalogue.

    Attributes:
        path: the file that was written.
        translated: entries that had a translation, and were not touched.
        filled: entries that got a draft.
        empty: entries that are still without one.
        partly: entries with some plural forms translated and some not, which were not touched either.
        refused: drafts that were not written.
    """

    path: Path
    translated: int
    filled: int
    empty: int
    partly: int
    refused: tuple[Refused, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {**asdict(self), "path": str(self.path)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(
            f"{self.path}: {self.filled:,} of {self.filled + self.empty:,} gaps filled with drafts, marked "
            f"fuzzy; {self.translated:,} translations were there and are as they were."
        )
        if self.partly:
            yield Text(f"{self.partly:,} entries have only some of their plural forms, and were left so.")
        for refused in self.refused[:10]:
            source = textwrap.shorten(refused.message.source, 60, placeholder=" …")
            yield Text(f"• line {refused.message.line}, {source!r}: {'; '.join(refused.faults)}")
        if len(self.refused) > 10:
            yield Text(f"… and {len(self.refused) - 10:,} more drafts were refused")


def gaps(path: str | Path) -> tuple[Message, ...]:
    """Return what a catalogue has no translation of: every plural form of an entry by itself.

    An entry counts where it has no text at all; obsolete ones do not.

    Raises:
        DataError: the file cannot be read.
        MissingExtraError: polib is not installed.
    """
    path = Path(path)
    found = (group for entry, group in messages(read_po(path), path) if untranslated(entry))
    return tuple(message for group in found for message in group)


def fill(
    path: str | Path,
    translate: Callable[[Sequence[Message]], Sequence[str]],
    *,
    output: str | Path | None = None,
) -> Filled:
    """Fill the gaps of a catalogue with drafts, marked fuzzy.

    A draft gets the source's line breaks and spaces at its ends. It is refused, and reported, where it has
    not kept the source's placeholders (`placeholders.faults`) or has a character that no catalogue can
    have; of an entry with plural forms, all have to be good. An empty draft leaves its gap.

    Args:
        path: the catalogue.
        translate: the gaps → a draft for each; called once, and not where there is none.
        output: where to write it instead of in its own place; the file is whole there or not at all.

    Raises:
        DataError: the catalogue cannot be read, or its encoding lacks a draft's character.
        SettingsError: there are more or fewer drafts than gaps.
        StorageError: the file could not be written.
        MissingExtraError: polib is not installed.
    """
    path = Path(path)
    target = Path(output) if output is not None else path
    catalogue = read_po(path)
    entries = list(messages(catalogue, path))
    open_ = [(entry, group) for entry, group in entries if untranslated(entry)]
    partly = sum(not untranslated(e) and not all(m.target for m in group) for e, group in entries)
    wanted = [message for _, group in open_ for message in group]
    drafts = list(translate(wanted)) if wanted else []
    if len(drafts) != len(wanted):
        raise SettingsError(f"expected {len(wanted)} drafts, one for each gap, found {len(drafts)}.")
    by_message = iter(zip(wanted, drafts, strict=True))
    written: dict[int, tuple[Any, list[str]]] = {}
    refused = []
    for entry, group in open_:
        pairs = [
            (m, with_ends(m.source, d) if m.source.strip() else "")
            for m, d in (next(by_message) for _ in group)
        ]
        bad = [Refused(m, d, found) for m, d in pairs if d and (found := _faults(m.source, d))]
        refused += bad
        if not bad and all(draft for _, draft in pairs):
            written[entry.linenum] = (entry, [draft for _, draft in pairs])
    _write(path, target, catalogue, written)
    return Filled(
        path=target,
        translated=len(entries) - len(open_) - partly,
        filled=len(written),
        empty=len(open_) - len(written),
        partly=partly,
        refused=tuple(refused),
    )


def _faults(source: str, draft: str) -> tuple[str, ...]:
    found = faults(source, draft)
    odd = sorted(
        {c for c in draft if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t"} - {*source}
    )
    return (*found, *(f"U+{ord(character):04X} is no character of a text" for character in odd))


def _write(path: Path, target: Path, catalogue: Any, written: Mapping[int, tuple[Any, list[str]]]) -> None:
    """Write the catalogue with these entries filled, and read it back before it takes its place."""
    if not written and target == path:
        return
    raw = path.read_bytes()
    # Only "\n" and "\r" end a line of a catalogue, not all that str.splitlines() takes for one.
    lines = list(io.StringIO(raw.decode(catalogue.encoding), newline=""))
    # From the end, so that what comes before keeps its number.
    for line, (entry, drafts) in sorted(written.items(), reverse=True):
        _splice(lines, max(line - 1, 0), entry, drafts, path)
    text = "".join(lines)
    try:
        data = text.encode(catalogue.encoding) if written else raw
    except UnicodeEncodeError as error:
        raise DataError(
            f"expected drafts in the catalogue's encoding, {catalogue.encoding}, found "
            f"{text[error.start : error.end]!r}, which it lacks. Nothing was written.",
            where=Where(path, field="Content-Type"),
            hint="Convert it first: msgconv --to-code=UTF-8.",
        ) from error
    with atomic_file(target) as beside:
        beside.write_bytes(data)
        _check(catalogue, read_po(beside), written, path)


def _splice(lines: list[str], start: int, entry: Any, drafts: Sequence[str], path: Path) -> None:
    """Put drafts for the empty `msgstr` lines of the entry that begins at a line, and the mark `fuzzy`."""
    at = start
    while at < len(lines) and not re.match(r'msgid\s+"', lines[at].strip()):
        at += 1
    head = at
    while at < len(lines) and not lines[at].strip().startswith("msgstr"):
        at += 1
    first = at
    while at < len(lines) and (_EMPTY.fullmatch(lines[at].strip()) or lines[at].strip() == '""'):
        at += 1
    if first == at:
        raise DataError("expected an empty msgstr, found another layout.", where=Where(path, first + 1))
    end = lines[head][len(lines[head].rstrip("\r\n")) :]
    keywords = [f"msgstr[{form}]" for form in range(len(drafts))] if entry.msgid_plural else ["msgstr"]
    new = [line for word, draft in zip(keywords, drafts, strict=True) for line in _quoted(word, draft)]
    last = lines[at - 1]
    lines[first:at] = [line + end for line in new]
    if last == last.rstrip("\r\n"):  # the file ends without a line break, and goes on doing so
        lines[first + len(new) - 1] = new[-1]
    if "fuzzy" not in entry.flags:
        _mark(lines, start, head, end)


def _mark(lines: list[str], start: int, head: int, end: str) -> None:
    """Mark the entry fuzzy whose comments begin at `start` and whose `msgid` is at `head`."""
    for at in range(start, head):
        if re.match(r"\s*#,\s*\S", lines[at]):
            lines[at] = re.sub(r"#,\s*", "#, fuzzy, ", lines[at], count=1)
            return
    at = head
    while at > start and re.match(r'\s*(?:#\||msgctxt\b|")', lines[at - 1]):
        at -= 1
    lines.insert(at, f"#, fuzzy{end}")


def _quoted(keyword: str, text: str) -> list[str]:
    escape = polib_of("Writing a catalogue").escape
    whole = f'{keyword} "{escape(text)}"'
    if len(whole) <= _WIDTH and "\n" not in text[:-1]:
        return [whole]
    wrap = textwrap.TextWrapper(
        _WIDTH - 2,
        expand_tabs=False,
        replace_whitespace=False,
        drop_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    parts = [piece for line in re.findall(r"[^\n]*\n|[^\n]+", text) for piece in wrap.wrap(line)]
    return [f'{keyword} ""', *(f'"{escape(part)}"' for part in parts)]


def _check(before: Any, after: Any, written: Mapping[int, tuple[Any, list[str]]], path: Path) -> None:
    """Check that a catalogue says what it said, and the drafts.

    Raises:
        StorageError: it does not.
    """
    same = len(before) == len(after)
    for entry, other in zip(before, after, strict=False):
        _, drafts = written.get(entry.linenum, (None, None))
        said, says = _said(entry), _said(other)
        if drafts is not None:
            now = [other.msgstr_plural[i] for i in sorted(other.msgstr_plural)] or [other.msgstr]
            said, says = (said[0], drafts, {*entry.flags, "fuzzy"}), (says[0], now, says[2])
        if said != says or not same:
            raise StorageError(
                "could not fill the catalogue: read back, an entry is not as meant. Nothing was written.",
                where=Where(path, entry.linenum),
                hint="msgcat FILE -o FILE writes it in gettext's usual layout, which can be filled.",
            )


def _said(entry: Any) -> tuple[Any, Any, set[str]]:
    """What an entry is and what it says: the parts that filling may not change, and those it may."""
    own = (entry.msgid, entry.msgctxt, entry.msgid_plural, entry.obsolete, entry.comment, entry.tcomment)
    said = [entry.msgstr_plural[i] for i in sorted(entry.msgstr_plural)] or [entry.msgstr]
    return (*own, tuple(entry.occurrences), entry.previous_msgid), said, set(entry.flags)
