"""CoNLL files → rows: a token a line, a blank line between sentences.

`.conll`, `.iob`, `.bio`: the token is the first column and its tag the last. `.conllu`: Universal
Dependencies' ten columns (https://universaldependencies.org/format.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from metaglot.data.encodings import read_lines
from metaglot.data.fields import Fault
from metaglot.data.problems import Problems
from metaglot.errors import Where

_DOCUMENT = "-DOCSTART-"
_COMMENT = re.compile(r"#\s.*=")
_META = re.compile(r"#\s*(\w+)\s*=\s?(.*)")
_WIDTH = 10
_COLUMNS = {"upos": 3, "xpos": 4, "deprel": 7}
_NUMBER = re.compile(r"(\d+)(?:([-.])(\d+))?")


class _Line(NamedTuple):
    number: int
    text: str


def read_conll(path: Path, encoding: str, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield a row for each sentence: `tokens`, and `tags` where the file has more than one column."""
    width = 0
    for sentence in _sentences(read_lines(path, encoding, problems)):
        rows: list[list[str]] = []
        for line in sentence:
            # Before the first token only: there may be a token "#" among the others.
            if not rows and _COMMENT.match(line.text):
                continue
            tabs = "\t" in line.text
            cells = line.text.split("\t") if tabs else [cell for cell in line.text.split(" ") if cell]
            if cells[0] == _DOCUMENT:
                continue
            width = width or len(cells)
            if len(cells) != width:
                problems.add(
                    f"expected {width} columns as in the first line, found {len(cells)}: {line.text[:40]!r}.",
                    Where(path, line.number),
                    "Columns are apart by tabs or by spaces, and sentences by an empty line.",
                )
                break
            rows.append(cells)
        else:
            if rows:
                found = {"tokens": [cells[0] for cells in rows]}
                yield sentence[0].number, found | ({"tags": [c[-1] for c in rows]} if width > 1 else {})


def read_conllu(path: Path, encoding: str, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield a row for each sentence: `text`, `tokens`, `upos`, `xpos`, `deprel`, and `sent_id` if there is.

    Tokens are the syntactic words. Where several stand for one word of the text (*du*, which is *de le*),
    that word is replaced by them, unless they make it up as they are (*cannot*: *can not*). Empty nodes are
    left out.
    """
    for lines in _sentences(read_lines(path, encoding, problems)):
        sentence, line = _Sentence(), lines[0]
        try:
            for line in lines:
                sentence.take(line.text)
            line = lines[0]
            if row := sentence.row():
                yield line.number, row
        except Fault as fault:
            problems.add(fault.problem, Where(path, line.number, fault.field or None), fault.hint)


class _Word(NamedTuple):
    """A word of the text, the syntactic words that it stands for, and whether a space is behind it."""

    form: str
    parts: list[str]
    spaced: bool


class _Sentence:
    """A sentence as its lines are taken up."""

    def __init__(self) -> None:
        self.meta: dict[str, str] = {}
        self.words: list[list[str]] = []
        self.surface: list[_Word] = []
        self._until = 0

    def take(self, line: str) -> None:
        """Take up a line.

        Raises:
            Fault: it is not as it has to be there.
        """
        if line.startswith("#"):
            if match := _META.match(line):
                self.meta[match[1]] = match[2].strip()
            return
        cells = line.split("\t")
        number = _NUMBER.fullmatch(cells[0])
        if len(cells) != _WIDTH or number is None:
            found = f"{len(cells)} that begin with {cells[0][:20]!r}"
            raise Fault(f"expected a number and {_WIDTH - 1} more columns apart by tabs, found {found}.", "")
        first, sign, last = number.groups()
        following = str(len(self.words) + 1)
        spaced = "SpaceAfter=No" not in cells[9].split("|")
        if sign == "-":
            if first != following or int(first) <= self._until or int(last) <= int(first):
                raise Fault(f"expected a range of words from {following} on, found {cells[0]!r}.", "ID")
            self._until = int(last)
            self.surface.append(_Word(cells[1], [], spaced))
        elif sign is None:
            if first != following:
                raise Fault(f"expected the word {following}, found {cells[0]!r}.", "ID")
            if not cells[1].strip():
                raise Fault(f"expected a token, found an empty one, {cells[1]!r}.", "FORM")
            self.words.append(cells)
            if len(self.words) <= self._until:
                self.surface[-1].parts.append(cells[1])
            else:
                self.surface.append(_Word(cells[1], [cells[1]], spaced))

    def row(self) -> dict[str, Any]:
        """Return what the sentence says; nothing where it has no words.

        Raises:
            Fault: its text does not have its words, or a range words that there are not.
        """
        if self._until > len(self.words):
            raise Fault(f"expected words up to {self._until}, found {len(self.words)}.", "ID")
        if not self.words:
            return {}
        row: dict[str, Any] = {"text": self._text(), "tokens": [cells[1] for cells in self.words]}
        for name, place in _COLUMNS.items():
            row[name] = ["" if cells[place] == "_" else cells[place] for cells in self.words]
        return row | ({"sent_id": self.meta["sent_id"]} if self.meta.get("sent_id") else {})

    def _text(self) -> str:
        """Return the text with the syntactic words in it."""
        joined = "".join(word.form + " " * word.spaced for word in self.surface).rstrip()
        whole = self.meta.get("text") or joined
        pieces, at = [], 0
        for word in self.surface:
            start = whole.find(word.form, at)
            if start < 0:
                raise Fault(
                    "expected '# text' to have the words of the sentence in their order, found "
                    f"{word.form[:40]!r} not in what is left of it, {whole[at : at + 40]!r}.",
                    "FORM",
                )
            whole_word = "".join(word.parts) == word.form
            pieces += [whole[at:start], word.form if whole_word else " ".join(word.parts)]
            at = start + len(word.form)
        return "".join([*pieces, whole[at:]])


def _sentences(lines: Iterable[str]) -> Iterator[list[_Line]]:
    """Yield the lines of each sentence, without their ends."""
    sentence: list[_Line] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            sentence.append(_Line(number, line.rstrip("\r\n")))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence
