"""The Bible by verse (Christodouloupoulos & Steedman 2015, "A massively parallel corpus"), as TSV files.

A folder of `<Name>.tsv` with a verse's id (`b.MAT.1.1`) and its text on each line, and `iso639.json`, which
says each name's language.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from metaglot.bitext.splitting import SHARES, deal
from metaglot.data.assemble import language_codes
from metaglot.data.encodings import read_lines
from metaglot.data.problems import Problems
from metaglot.errors import DataError, Where
from metaglot.languages import language_name

INDEX = "iso639.json"
LICENCE = "CC0-1.0"


def is_verses(folder: Path) -> bool:
    """Tell whether a folder is of this layout."""
    return (folder / INDEX).is_file()


def chapter(verse: str) -> str:
    """Return the chapter that a verse is of: what is kept on one side of a split."""
    return verse.rpartition(".")[0]


def split_chapters(
    texts: Mapping[str, Iterable[str]], seed: int, shares: Mapping[str, float] = SHARES
) -> dict[str, str]:
    """Return chapter → split for the verses of all languages together."""
    return deal({chapter(verse) for verses in texts.values() for verse in verses}, seed, shares)


def read_verses(folder: Path, notices: list[str]) -> dict[str, dict[str, str]]:
    """Read language → verse → text, each language's verses in the order of its file.

    Of several files in one language the one with the most verses is read, and `notices` is told.

    Raises:
        DataError: a file cannot be read, or has a line that is no verse.
    """
    names = _index(folder)
    problems = Problems()
    found: dict[str, tuple[str, dict[str, str]]] = {}
    codes = language_codes(sorted(set(names.values())), notices)
    empty: Counter[str] = Counter()
    for path in sorted(folder.glob("*.tsv")):
        if path.stem not in names:
            problems.add(
                f"expected the language of {path.stem!r} in {INDEX}, found none.",
                Where(folder / INDEX, field=path.stem),
                f'Add it: "{path.stem}": its ISO 639-3 code.',
            )
            continue
        code = codes[names[path.stem]]
        verses = _verses(path, problems, empty)
        other = found.get(code)
        if other is None or len(verses) > len(other[1]):
            found[code] = (path.name, verses)
        if other is not None:
            kept, left = (other[0], path.name) if found[code] is other else (path.name, other[0])
            notices.append(f"Of {language_name(code)} ({code}), {kept} is read and {left} left out.")
    problems.raise_any()
    if not found:
        raise DataError(
            f"expected verses, files such as {next(iter(names), 'Name')}.tsv, found none.",
            where=Where(folder),
        )
    if empty:
        shown = ", ".join(f"{name} {count:,}" for name, count in empty.items())
        notices.append(f"Verses without a text were left out: {shown}.")
    return {code: verses for code, (_, verses) in sorted(found.items())}


def _index(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"expected names and languages, as JSON: {error}.", where=Where(path)) from error
    if not isinstance(index, dict) or not all(isinstance(value, str) and value for value in index.values()):
        raise DataError('expected an object such as {"Swahili-NT": "swh"}.', where=Where(path))
    return index


def _verses(path: Path, problems: Problems, empty: Counter[str]) -> dict[str, str]:
    verses: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, "utf-8", problems), 1):
        id_, tab, text = line.rstrip("\r\n").partition("\t")
        if not tab or id_.count(".") < 2:
            if line.strip():
                problems.add(
                    f"expected a verse's id (b.MAT.1.1), a tab and its text, found {line.strip()[:40]!r}.",
                    Where(path, number),
                )
        elif id_ in verses:
            problems.add(f"expected a verse once, found {id_!r} again.", Where(path, number, "verse_id"))
        elif text.strip():
            verses[id_] = text.strip()
        else:
            empty[path.stem] += 1
    return verses
