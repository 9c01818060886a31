"""Gettext's catalogues (`.po`): what is translated, what is not, and what each plural form is for."""

from __future__ import annotations

import gettext
import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from metaglot.bitext.placeholders import find
from metaglot.data.encodings import wrong_encoding
from metaglot.errors import DataError, MissingExtraError, Where

# Every language's rule shows all of its forms in these numbers (the CLDR's need 1,000,000).
_NUMBERS = (*range(201), 1000, 1_000_000)
_RULE = re.compile(r"\s*nplurals\s*=\s*([1-9])\s*;\s*plural\s*=\s*([^;]+?)\s*;?\s*", re.DOTALL)
_LINE = re.compile(r"\(line (\d+)\)(?:: (.*))?")


@dataclass(frozen=True, slots=True)
class Message:
    """One text of a program, and its translation.

    Attributes:
        source: the text to translate: `msgid`, or `msgid_plural` for what only a plural form says.
        target: its translation; empty where there is none.
        context: `msgctxt`, which tells apart what is written alike.
        msgid: the entry's own text, whichever of its two is translated here.
        form: which plural form; `None` for an entry that has none.
        numbers: what the form is for, as examples in ascending order.
        forms: how many plural forms the entry has; 0 for none.
        comment: the programmers' to the translators.
        line: of the file, where the entry begins.
    """

    source: str
    target: str
    context: str
    msgid: str
    form: int | None
    numbers: tuple[int, ...]
    forms: int
    comment: str
    line: int

    @property
    def note(self) -> str:
        """What the source does not say: its context, and the numbers that a plural form is for."""
        parts = [self.context] if self.context else []
        if self.form is not None:
            shown = ", ".join(map(str, self.numbers[:4])) + (" …" if len(self.numbers) > 4 else "")
            parts.append(f"plural form {self.form + 1} of {self.forms}, for {shown or 'no number'}")
        return "; ".join(parts)


def read_po(path: Path) -> Any:
    """Read a catalogue with polib.

    Returns:
        A `polib.POFile`.

    Raises:
        DataError: it cannot be read, or is no catalogue.
        MissingExtraError: polib is not installed.
    """
    polib = polib_of(f"Reading {path.name}")
    if not path.is_file():
        raise DataError("expected a .po file, found none.", where=Where(path))
    try:
        return polib.pofile(str(path))
    except UnicodeDecodeError as error:
        problem, line, _ = wrong_encoding(path, error.encoding, str(error))
        raise DataError(
            problem,
            where=Where(path, line),
            hint="Correct the charset of its Content-Type header, or convert it: msgconv --to-code=UTF-8.",
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise DataError(f"could not be read: {error.strerror}.", where=Where(path)) from error
        place = _LINE.search(str(error))
        cause = (place and place[2]) or "what has no place there"
        raise DataError(
            f"expected a gettext catalogue, found {cause}.",
            where=Where(path, int(place[1]) if place else None),
            hint="Look at the line and the one before it; msgfmt -c finds such faults too.",
        ) from error


def polib_of(purpose: str) -> Any:
    """Return the module polib.

    Raises:
        MissingExtraError: it is not installed; `purpose` begins the message.
    """
    try:
        return importlib.import_module("polib")
    except ImportError as error:
        raise MissingExtraError("polib", "translate", purpose) from error


def plural_numbers(catalogue: Any, path: Path) -> tuple[tuple[int, ...], ...]:
    """Return for each plural form of a catalogue's language the numbers that it is for, as examples.

    Args:
        catalogue: as `read_po` returns it.
        path: its file, for messages.

    Raises:
        DataError: the header has no rule for plurals, or one that is not to be followed.
    """
    header = catalogue.metadata.get("Plural-Forms", "")
    rule = _RULE.fullmatch(header)
    hint = "For example, for English: Plural-Forms: nplurals=2; plural=(n != 1);"
    where = Where(path, field="Plural-Forms")
    if rule is None:
        raise DataError(f"expected the language's plural forms, found {header!r}.", where=where, hint=hint)
    try:
        return _numbers(int(rule[1]), rule[2])
    except (ValueError, ArithmeticError, IndexError, RecursionError) as error:
        raise DataError(
            f"expected a rule for {rule[1]} plural forms, found {rule[2]!r}: {error}.", where=where, hint=hint
        ) from error


@lru_cache
def _numbers(count: int, rule: str) -> tuple[tuple[int, ...], ...]:
    forms: list[list[int]] = [[] for _ in range(count)]
    which = gettext.c2py(rule)  # parses C, and nothing but plurals
    for number in _NUMBERS:
        forms[which(number)].append(number)
    return tuple(map(tuple, forms))


def messages(catalogue: Any, path: Path) -> Iterator[tuple[Any, list[Message]]]:
    """Yield a catalogue's entries that are in use, each with its messages: one, or one for each plural form.

    A form for the number one alone translates `msgid`, any other `msgid_plural`; a form that is for one
    and for other numbers (Russian's for 1, 21, 31) only translates `msgid` where that says the number too.
    Forms beyond those of the header's rule, which catalogues do have, are for no number and left out.

    Args:
        catalogue: as `read_po` returns it.
        path: its file, for messages.

    Raises:
        DataError: there are plural forms, and no rule for them in the header.
    """
    rule: tuple[tuple[int, ...], ...] | None = None
    for entry in catalogue:
        if entry.obsolete:
            continue
        if not entry.msgid_plural:
            yield entry, [_message(entry, entry.msgid, entry.msgstr)]
            continue
        rule = rule or plural_numbers(catalogue, path)
        yield entry, _forms(entry, rule)


def untranslated(entry: Any) -> bool:
    """Tell whether an entry has no translation, of no plural form either."""
    return not entry.obsolete and not entry.msgstr and not any(entry.msgstr_plural.values())


def _forms(entry: Any, rule: Sequence[tuple[int, ...]]) -> list[Message]:
    alike = _names(entry.msgid) == _names(entry.msgid_plural)
    found = []
    for form, numbers in enumerate(rule):
        singular = len(rule) > 1 and (numbers == (1,) or (1 in numbers and alike))
        source = entry.msgid if singular else entry.msgid_plural
        found.append(_message(entry, source, entry.msgstr_plural.get(form, ""), form, numbers, len(rule)))
    return found


def _message(
    entry: Any,
    source: str,
    target: str,
    form: int | None = None,
    numbers: tuple[int, ...] = (),
    forms: int = 0,
) -> Message:
    return Message(
        source=source,
        target=target,
        context=entry.msgctxt or "",
        msgid=entry.msgid,
        form=form,
        numbers=numbers,
        forms=forms,
        comment=entry.comment,
        line=entry.linenum,
    )


def _names(text: str) -> list[str]:
    return sorted(found for found, kind in find(text) if kind != "space")
