"""Which encoding a file is in, for the message that says it is not the expected one."""

from __future__ import annotations

import codecs
from pathlib import Path

_SAMPLE = 1 << 16
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHERS = "cp1251 (Cyrillic), cp1256 (Arabic), gb18030 (Chinese), shift_jis (Japanese) or euc_kr (Korean)"


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
