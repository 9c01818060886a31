"""Translation memories (TMX 1.4): `<tu>`s of `<tuv xml:lang="…"><seg>…</seg></tuv>`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from metaglot.data.problems import Problems
from metaglot.data.readers import Row
from metaglot.errors import DataError, Where

_CHUNK = 1 << 16
_CODES = {"bpt", "ept", "ph", "it", "ut"}
"""Elements inside of a segment that hold a program's markup, and no text."""


class _Refused(Exception):  # noqa: N818 - it is told to the user as a DataError
    """A document that declares entities: they can stand for gigabytes, or for other files."""


class _Units:
    """Collects units while a document is parsed."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self.parser = parser
        self.found: list[Row] = []
        self._unit: dict[str, str] = {}
        self._line, self._id, self._language = 0, "", ""
        self._text: list[str] | None = None
        self._inside = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "tu":
            self._unit, self._line = {}, self.parser.CurrentLineNumber
            self._id = attributes.get("tuid", "")
        elif name == "tuv":
            self._language = attributes.get("xml:lang", attributes.get("lang", ""))
        elif name == "seg":
            self._text = []
        elif name in _CODES:
            self._inside += 1

    def text(self, data: str) -> None:
        if self._text is not None and not self._inside:
            self._text.append(data)

    def end(self, name: str) -> None:
        if name == "seg" and self._text is not None:
            self._unit.setdefault(self._language, "".join(self._text))
            self._text = None
        elif name == "tu":
            row: dict[str, object] = {"translation": self._unit}
            if self._id:
                row["id"] = self._id
            self.found.append((self._line, row))
        elif name in _CODES:
            self._inside -= 1


def read_tmx(path: Path, encoding: str, problems: Problems) -> Iterator[Row]:
    """Yield the units of a translation memory, as `{'translation': {language: segment}}`.

    Of two segments in one language, the first counts. `encoding` is not asked: XML says its own.
    """
    del encoding
    parser = expat.ParserCreate()
    units = _Units(parser)
    parser.StartElementHandler = units.start
    parser.EndElementHandler = units.end
    parser.CharacterDataHandler = units.text
    parser.EntityDeclHandler = _refuse
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                parser.Parse(chunk, False)
                yield from units.found
                units.found.clear()
            parser.Parse(b"", True)
            yield from units.found
    except expat.ExpatError as error:
        problems.add(
            f"expected a translation memory (TMX), found a fault: {expat.errors.messages[error.code]}.",
            Where(path, error.lineno),
        )
    except _Refused:
        problems.add(
            "expected a translation memory (TMX), found declarations of entities, which are not read.",
            Where(path, parser.CurrentLineNumber),
            "Remove the <!ENTITY …> declarations.",
        )
    except OSError as error:
        raise DataError(f"could not be read: {error.strerror or error}.", where=Where(path)) from error


def _refuse(*declaration: object) -> None:
    raise _Refused
