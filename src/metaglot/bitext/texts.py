"""Running text in many languages: what language models learn from."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from metaglot.bitext.columns import language_of
from metaglot.bitext.splitting import SHARES, check_shares, deal, place
from metaglot.bitext.verses import LICENCE, chapter, is_verses, read_verses, split_chapters
from metaglot.data.assemble import language_codes
from metaglot.data.encodings import read_lines
from metaglot.data.files import existing
from metaglot.data.inspect import normalized
from metaglot.data.problems import Problems
from metaglot.data.rows import SPLIT_NAMES
from metaglot.errors import DataError, LanguageError, SettingsError, Where, suggestion
from metaglot.progress import progress
from metaglot.storage import text_hash
from metaglot.types import SPLITS

_BLOCKS = 50
_LAYOUT = "Expected <language>.txt, <language>/*.txt or <language>/{train,dev,test}.txt."


@dataclass(frozen=True, slots=True)
class Line:
    """A line of running text, or a verse. Its id is its own within the language; a verse's, in all."""

    id: str
    text: str
    language: str
    split: str = "train"


@dataclass(frozen=True)
class Texts:
    """Running text in many languages, line by line, in the order in which it was written.

    `parallel` says that one id names the same content in every language.
    """

    name: str
    lines: tuple[Line, ...]
    parallel: bool = False
    licence: str = ""
    origin: str = ""
    notices: tuple[str, ...] = ()
    _index: dict[tuple[str, str], list[Line]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for line in self.lines:
            self._index.setdefault((line.language, line.split), []).append(line)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages that have text, sorted."""
        return tuple(sorted({language for language, _ in self._index}))

    def select(self, language: str, split: str | None = None) -> tuple[Line, ...]:
        """Return a language's lines, of one split or of all, in their order.

        Raises:
            LanguageError: there is no text in the language.
        """
        if language not in self.languages:
            raise LanguageError(
                f"expected a language of {self.name!r} ({', '.join(self.languages)}), found {language!r}.",
                hint=suggestion(language, self.languages),
            )
        splits = SPLITS if split is None else (split,)
        return tuple(line for s in splits for line in self._index.get((language, s), ()))

    def size(self, language: str, split: str | None = None) -> int:
        """Return how many bytes of UTF-8 a language has, with a line break behind each line.

        Raises:
            LanguageError: there is no text in the language.
        """
        return sum(map(_size, self.select(language, split)))

    def take(self, language: str, kilobytes: float, seed: int = 0, *, split: str = "train") -> str:
        """Return a stretch of text of one language: what a model is adapted on.

        It is of whole lines that follow each other from a place that the seed draws (behind the last line
        comes the first), as many as there is room for. Stretches of one seed are nested: that of 4 kilobytes
        begins with that of 1. Of a first line that is longer than all there is room for, the words that fit.

        Args:
            language: the code.
            kilobytes: how much, of 1,024 bytes of UTF-8 each, line breaks included; never more.
            seed: of the draw.
            split: that it is taken from.

        Raises:
            LanguageError: there is no text in the language.
            SettingsError: there is not as much, or nothing is asked for.
        """
        room = int(kilobytes * 1024)
        lines, size = self.select(language, split), self.size(language, split)
        if not 0 < room <= size:
            raise SettingsError(
                f"expected more than 0 and at most {size / 1024:.1f} kilobytes, which {language} has of "
                f"{split} in {self.name!r}, found {kilobytes:g}."
            )
        start = int(place(f"{language} {split}", seed) * len(lines))
        taken: list[str] = []
        for line in (*lines[start:], *lines[:start]):
            room -= _size(line)
            if room < 0:
                if not taken:
                    taken.append(_cut(line.text, room + _size(line) - 1))
                break
            taken.append(line.text)
        return "".join(f"{text}\n" for text in taken)

    def restrict(self, languages: Iterable[str]) -> Texts:
        """Return the texts in these languages alone."""
        keep = set(languages)
        lines = tuple(line for line in self.lines if line.language in keep)
        return Texts(self.name, lines, self.parallel, self.licence, self.origin, self.notices)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what every line says; of each language and split, their order counts."""
        total = hashlib.sha256()
        for key in sorted(self._index):
            texts = [part for line in self._index[key] for part in (line.id, line.text)]
            total.update(text_hash(*key, *texts).encode())
        return total.hexdigest()


def load_texts(
    spec: str | Path,
    *,
    language: str | None = None,
    seed: int = 0,
    shares: Mapping[str, float] = SHARES,
    encoding: str = "utf-8",
) -> Texts:
    """Load running text and divide it into train, dev and test.

    Files named after splits are these splits. Other text is cut into 50 blocks of lines that follow each
    other, of which a seed deals the shares; of files with as many lines they are the same blocks, so that
    lines that go in step in two languages are on the same side. The Bible is divided by chapters. Lines of
    train that stand in dev or test of their language as well are left out.

    Args:
        spec: a `.txt` file; a folder of `<language>.txt`, `<language>/*.txt` or
            `<language>/{train,dev,test}.txt`; or one of Bible verses (`verses`), `bible-corpus:FOLDER` too.
        language: of a single file that is not named after it.
        seed: of the splits.
        shares: split → its share of the blocks.
        encoding: of the files.

    Raises:
        DataError: the text cannot be read, or is too little to be divided.
        SettingsError: the shares do not sum up to one.
    """
    check_shares(shares)
    name = str(spec).removeprefix("bible-corpus:")
    path = existing(name)
    notices: list[str] = []
    if path.is_dir() and is_verses(path):
        verses = read_verses(path, notices)
        splits = split_chapters(verses, seed, shares)
        lines = [
            Line(id_, text, code, splits[chapter(id_)])
            for code, texts in verses.items()
            for id_, text in texts.items()
        ]
        return _make(Texts(path.name, tuple(lines), True, LICENCE, name), notices)
    if str(spec) != name:
        raise DataError(f"expected {'iso639.json'} and verses, found no such file.", where=Where(path))
    found = _read(_files(path, language), encoding, notices)
    return _make(Texts(path.stem, tuple(_divided(found, seed, shares)), False, "", name), notices)


def _files(path: Path, language: str | None) -> dict[str, list[tuple[Path, str]]]:
    """Return language, as it is written → its files, each with the split that its name says."""
    if path.is_file():
        if path.suffix.lower() != ".txt":
            raise DataError(f"expected a .txt file or a folder, found {path.name}.", where=Where(path))
        found = {language or path.stem: [(path, "")]}
    elif language is not None:
        raise SettingsError("language is for a single file; a folder's files are named after theirs.")
    else:
        texts = sorted(p for p in path.rglob("*.txt") if p.is_file() and p.name[0] not in "._")
        found = {}
        for file in texts:
            alone = file.parent == path
            split = "" if alone else SPLIT_NAMES.get(file.stem.casefold(), "")
            name = file.stem if alone else file.relative_to(path).parts[0]
            found.setdefault(name, []).append((file, split))
    strangers = [name for name in found if language_of(name) is None]
    if not found or strangers:
        named = f"names that are no language's: {', '.join(strangers[:5])}" if strangers else "no .txt file"
        raise DataError(f"expected text by language, found {named}.", where=Where(path), hint=_LAYOUT)
    for name, files in found.items():
        if len({bool(split) for _, split in files}) > 1:
            stranger = next(file for file, split in files if not split)
            raise DataError(
                f"expected each file of {name!r} to be named after a split, as some are, found "
                f"{stranger.name}.",
                where=Where(stranger),
                hint=_LAYOUT,
            )
    return found


def _read(
    files: Mapping[str, Sequence[tuple[Path, str]]], encoding: str, notices: list[str]
) -> dict[str, list[tuple[str, str, str]]]:
    """Return code → the lines of its files: id, text, split; the last two are empty where there is none."""
    codes = language_codes(files, notices)
    problems = Problems()
    found: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    with progress("reading", len(files)) as advance:
        for name, parts in files.items():
            for path, split in parts:
                for number, line in enumerate(read_lines(path, encoding, problems), 1):
                    found[codes[name]].append((f"{path.stem}:{number}", line.strip(), split))
            advance(note=name)
    problems.raise_any()
    for code, lines in found.items():
        count = Counter(split for _, text, split in lines if text)
        if count[""] < len(SPLITS) and not any(count[split] for split in SPLITS):
            raise DataError(
                f"expected at least {len(SPLITS)} lines of text in {code}, to be divided, found {count['']}.",
                where=Where(files[next(name for name in files if codes[name] == code)][0][0]),
            )
    if not found:
        raise DataError("expected text, found empty files.", where=Where(next(iter(files.values()))[0][0]))
    return dict(found)


def _divided(
    found: Mapping[str, Sequence[tuple[str, str, str]]], seed: int, shares: Mapping[str, float]
) -> Iterable[Line]:
    for code, lines in found.items():
        blocks = min(_BLOCKS, len(lines))
        splits = deal(map(str, range(blocks)), seed, shares)
        for number, (id_, text, split) in enumerate(lines):
            if text:
                yield Line(id_, text, code, split or splits[str(number * blocks // len(lines))])


def _make(texts: Texts, notices: Sequence[str]) -> Texts:
    """Leave out what stands on two sides of a split, train giving way; and add the notices."""
    ahead: dict[tuple[str, str], set[str]] = defaultdict(set)
    plain = [normalized(line.text) for line in texts.lines]
    for line, same in zip(texts.lines, plain, strict=True):
        if line.split != "train":
            ahead[line.language, line.split].add(same)
    kept = []
    for line, same in zip(texts.lines, plain, strict=True):
        others = SPLITS[SPLITS.index(line.split) + 1 :]
        if not any(same in ahead[line.language, split] for split in others):
            kept.append(line)
    told = list(notices)
    if gone := len(texts.lines) - len(kept):
        told.append(f"{gone:,} line(s) that stand in dev or test too were left out of the splits before.")
    return Texts(texts.name, tuple(kept), texts.parallel, texts.licence, texts.origin, tuple(told))


def _size(line: Line) -> int:
    return len(line.text.encode()) + 1


def _cut(text: str, room: int) -> str:
    """Return the beginning of a text that has room in so many bytes: of whole words, if there are any."""
    cut = text.encode()[:room].decode(errors="ignore")
    return re.sub(r"\s+\S*\Z", "", cut) if re.search(r"\S\s", cut) else cut
