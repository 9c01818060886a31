"""A text file's lines, and which encoding it is in where that is not the expected one."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from metaglot.data.problems import Problems
from metaglot.errors import DataError, SettingsError, Where

_SAMPLE = 1 << 16
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHERS = "cp1251 (Cyrillic), cp1256 (Arabic), gb18030 (Chinese), shift_jis (Japanese) or euc_kr (Korean)"


def read_lines(path: Path, encoding: str, problems: Problems) -> Iterator[str]:
    """Yield a text file's lines with their ends, without a byte-order mark.

    Ends at the first NUL or undecodable byte, which goes to `problems`.
    """
    number = 0
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    try:
        with path.open(encoding=codec, newline="") as file:
            for number, line in enumerate(file, 1):
                if "\0" in line:
                    hint = f"The file may be {likely_encoding(path)}: pass encoding=… (`--encoding`)."
                    problems.add("expected text, found a NUL byte.", Where(path, number), hint)
                    return
                yield line
    except LookupError as error:
        raise SettingsError(
            f"expected the name of a text encoding, found {encoding!r}.",
            hint="Common ones are utf-8, utf-16, cp1252, cp1251, gb18030 and shift_jis.",
        ) from error
    except UnicodeError as error:
        problem, line_number, hint = wrong_encoding(path, encoding, str(error))
        problems.add(problem, Where(path, line_number), hint)
    except OSError as error:
        raise DataError(f"could not be read: {error.strerror or error}.", where=Where(path)) from error


def likely_encoding(path: Path) -> str:
    """Guess, from a sample, the encoding of a file that is not UTF-8."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    for mark, name in _MARKS.items():
        if sample.startswith(mark):
            return name
    if b"\0" in sample:
        odd = sample[1::2].count(0)
        return "utf-16-le" if odd >= sample[::2].count(0) else "utf-16-be"
    letters = [c for c in sample.decode("cp1252", "replace") if c.isalpha()]
    # Text in a Latin script is mostly ASCII; other scripts' bytes look like accented letters alone.
    if sum(c.isascii() for c in letters) * 2 >= len(letters):
        return "cp1252"
    return _OTHERS


def wrong_encoding(path: Path, encoding: str, reason: str) -> tuple[str, int | None, str]:
    """Say what is wrong with a file that `encoding` cannot decode.

    Returns:
        The fault in words, the number of the line that has it (where that can be known), a remedy.
    """
    hint = f"If it is in another encoding, pass encoding=… (`--encoding`): likely {likely_encoding(path)}."
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = f"0x{line[error.start]:02x}"
                return f"expected {encoding}, found the byte {byte} at byte {error.start + 1}.", number, hint
            except UnicodeError:
                break
    return f"expected {encoding}: {reason}.", None, hint
