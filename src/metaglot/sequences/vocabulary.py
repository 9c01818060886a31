"""Texts ↔ numbers: subwords with bytes below them, so that nothing is ever out of vocabulary.

Subwords are learned by byte-pair encoding over characters (Sennrich, Haddow & Birch 2016, "Neural machine
translation of rare words with subword units", algorithm 1), and characters without a row of their own are
spelt in the bytes of UTF-8. Not Unigram, for three reasons: the same texts give the same merges each time,
where the Unigram trainer of `tokenizers` gives other scores each time; the alphabet has a limit, so that a
character that was seen twice takes no row; and Unigram takes plain text such as `<0x41>` for a byte.

There is no normalisation: `decode(encode(text))` is `text`, whatever its composition, spaces and controls.

    0 padding · 1 begin · 2 end · slots · language tags · 256 bytes · pieces

Slots stand for strings that are kept whole, such as the placeholder `%(name)s`: what the strings are is said
with each text, so that no text can be taken for a slot. Tags without a language are spare rows: a language
that is added takes the next, and no row of a trained model moves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from metaglot.errors import ArtifactError, DataError, LanguageError, SettingsError, Where, suggestion
from metaglot.sequences.byte_pairs import Merge, byte_name, frequent_characters, learn_merges, tokenizer
from metaglot.storage import text_hash, write_json

PADDING, BEGIN, END = range(3)
_FIRST_SLOT = END + 1
_BYTES = 256
_FORMAT = 1


class Vocabulary:
    """Subwords, bytes, slots and language tags.

    Made by `train`, by `of_bytes` or by `load`.

    Args:
        alphabet: the characters that have rows of their own.
        merges: pairs of pieces, in the order in which they are joined.
        languages: those that have tags, in the order of their rows.
        n_tags: rows for languages, spare ones included.
        n_slots: rows for strings that are kept whole.

    Attributes:
        languages: those that have tags.
        slots: the numbers of the slots.
        tags: the numbers of the languages' tags, spare ones included.
        unsayable: what is never a part of a text: padding, begin, tags and slots.

    Raises:
        SettingsError: there are more languages than tags, or the pieces contradict one another.
    """

    def __init__(
        self,
        alphabet: Sequence[str],
        merges: Sequence[Merge],
        languages: Sequence[str] = (),
        *,
        n_tags: int = 64,
        n_slots: int = 32,
    ) -> None:
        if len(set(languages)) != len(languages) or len(languages) > n_tags or n_slots < 0:
            raise SettingsError(
                f"expected at most {n_tags} different languages and n_slots ≥ 0, "
                f"found {len(languages)} ({len(set(languages))} different) and {n_slots}.",
                hint="Reserve more rows with n_tags.",
            )
        self.alphabet, self.merges = tuple(alphabet), tuple(merges)
        self.languages = tuple(languages)
        self.slots = range(_FIRST_SLOT, _FIRST_SLOT + n_slots)
        self.tags = range(self.slots.stop, self.slots.stop + n_tags)
        self.unsayable = (PADDING, BEGIN, *self.slots, *self.tags)
        names = list(map(byte_name, range(_BYTES)))
        pieces = [*self.alphabet, *("".join(pair) for pair in self.merges)]
        pieces = list(dict.fromkeys(pieces))  # two merges may make one piece
        rows = {name: self.tags.stop + i for i, name in enumerate([*names, *pieces])}
        if len(rows) != _BYTES + len(pieces) or any(a not in rows or b not in rows for a, b in self.merges):
            raise SettingsError("expected merges of known pieces, and none named like a byte.")
        self._meanings = [b""] * self.tags.stop + [bytes([byte]) for byte in range(_BYTES)]
        self._meanings += [piece.encode() for piece in pieces]
        self._tokenizer = tokenizer(rows, self.merges)

    def __len__(self) -> int:
        return len(self._meanings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """A hash of all there is in it."""
        return text_hash(json.dumps(self._content()))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        size: int = 8000,
        languages: Sequence[str] = (),
        *,
        n_tags: int = 64,
        n_slots: int = 32,
        coverage: float = 0.9995,
    ) -> Vocabulary:
        """Learn subwords from texts.

        Args:
            texts: as many of each language as it shall count for.
            size: rows at most, all special ones included.
            languages: those that have tags.
            n_tags: rows for languages, spare ones included.
            n_slots: rows for strings that are kept whole.
            coverage: the share of all characters that shall be of the alphabet, by their frequency; the
                rest is spelt in bytes. The alphabet takes at most half of the pieces.

        Raises:
            DataError: there is no text, or it is not Unicode.
            SettingsError: `size` is too small, or an option is out of its range.
        """
        room = size - _FIRST_SLOT - n_slots - n_tags - _BYTES
        if room < 2 or not 0 < coverage <= 1:
            raise SettingsError(
                f"expected a size above {size - room + 1} (special rows and bytes) and 0 < coverage ≤ 1, "
                f"found {size} and {coverage}."
            )
        texts = [_unicode(text, place) for place, text in enumerate(texts)]
        if not any(texts):
            raise DataError("expected texts to learn a vocabulary from, found none.")
        alphabet = frequent_characters(texts, coverage, room // 2)
        merges = learn_merges(texts, alphabet, room)
        return cls(alphabet, merges, languages, n_tags=n_tags, n_slots=n_slots)

    @classmethod
    def of_bytes(cls, languages: Sequence[str] = (), *, n_tags: int = 64, n_slots: int = 32) -> Vocabulary:
        """Return the vocabulary of bytes alone: every text is its UTF-8."""
        return cls((), (), languages, n_tags=n_tags, n_slots=n_slots)

    def with_languages(self, languages: Iterable[str]) -> Vocabulary:
        """Return the same vocabulary with tags for further languages, in spare rows.

        Raises:
            SettingsError: there are not as many spare rows.
        """
        known = dict.fromkeys([*self.languages, *languages])
        return Vocabulary(
            self.alphabet, self.merges, tuple(known), n_tags=len(self.tags), n_slots=len(self.slots)
        )

    def tag(self, language: str) -> int:
        """Return the number of a language's tag.

        Raises:
            LanguageError: the language has none.
        """
        if language not in self.languages:
            raise LanguageError(
                f"expected a language that has a tag ({', '.join(self.languages) or 'there is none'}), "
                f"found {language!r}.",
                hint=suggestion(language, self.languages) or "Add it by with_languages.",
            )
        return self.tags[self.languages.index(language)]

    def encode(
        self,
        texts: Sequence[str],
        language: str | None = None,
        *,
        kept: Sequence[Sequence[str]] | None = None,
        framed: bool = True,
    ) -> list[list[int]]:
        """Return the numbers of texts: the language's tag, or begin; the text; end.

        Args:
            texts: any Unicode texts.
            language: all the texts'.
            kept: for every text the strings that are kept whole: string j becomes slot j. Where several
                begin at one place the longest counts.
            framed: whether there are a tag or begin, and an end.

        Raises:
            DataError: a text is not Unicode, or has more kept strings than there are slots.
            LanguageError: the language has no tag.
        """
        first = [BEGIN if language is None else self.tag(language)] if framed else []
        last = [END] if framed else []
        cut = [
            _cut(_unicode(text, place), () if kept is None else kept[place], len(self.slots), place)
            for place, text in enumerate(texts)
        ]
        plain = iter(self._plain([part for parts in cut for part in parts if isinstance(part, str)]))
        found = []
        for parts in cut:
            inner = [next(plain) if isinstance(part, str) else [self.slots[part]] for part in parts]
            found.append([*first, *(number for piece in inner for number in piece), *last])
        return found

    def decode(self, ids: Iterable[int], kept: Sequence[str] = ()) -> str:
        """Return the text that numbers stand for; padding, begin, end and tags stand for none.

        Bytes that are no UTF-8, which a model may well write, become U+FFFD; a slot without a string in
        `kept` becomes `⟨j⟩`.

        Raises:
            DataError: a number is out of range.
        """
        strings = {
            slot: (kept[j] if j < len(kept) else f"⟨{j}⟩").encode() for j, slot in enumerate(self.slots)
        }
        return b"".join(strings.get(i) or self._meaning(i) for i in ids).decode("utf-8", "replace")

    def bytes_of(self, ids: Iterable[int]) -> int:
        """Return how many bytes of UTF-8 numbers stand for: what bits per byte are divided by.

        Special rows stand for none, slots among them.

        Raises:
            DataError: a number is out of range.
        """
        return sum(len(self._meaning(i)) for i in ids)

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON.

        Raises:
            StorageError: it could not be written; an older file is as it was.
        """
        write_json(path, self._content())

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a vocabulary that `save` wrote.

        Raises:
            ArtifactError: there is no such file, or it is damaged or something else.
        """
        try:
            content = {"format": None} | json.loads(path.read_text(encoding="utf-8"))
            merges = [(str(a), str(b)) for a, b in content["merges"]]
            sizes = {name: int(content[name]) for name in ("n_tags", "n_slots")}
            found = cls(list(map(str, content["alphabet"])), merges, content["languages"], **sizes)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SettingsError) as error:
            raise ArtifactError(
                f"expected a vocabulary, found a damaged file or another: {type(error).__name__}: {error}.",
                where=Where(path),
                hint="Restore it from a copy, or train it again.",
            ) from error
        if content["format"] != _FORMAT:
            raise ArtifactError(
                f"expected a vocabulary of format {_FORMAT}, found {content['format']!r}.",
                where=Where(path),
                hint="Read it with the version of metaglot that wrote it.",
            )
        return found

    def _content(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "languages": list(self.languages),
            "n_tags": len(self.tags),
            "n_slots": len(self.slots),
            "alphabet": list(self.alphabet),
            "merges": [list(pair) for pair in self.merges],
        }

    def _plain(self, texts: list[str]) -> list[list[int]]:
        if not self.alphabet:  # the tokenizer would look for each character before it spells it
            return [[self.tags.stop + byte for byte in text.encode()] for text in texts]
        return [encoded.ids for encoded in self._tokenizer.encode_batch_fast(texts)]

    def _meaning(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise DataError(f"expected numbers from 0 to {len(self) - 1}, found {number}.")
        return self._meanings[number]


def _cut(text: str, kept: Sequence[str], n_slots: int, place: int) -> list[str | int]:
    """A text as stretches of plain text and, between them, the places of kept strings."""
    if len(kept) > n_slots or len(set(kept)) != len(kept) or "" in kept:
        raise DataError(
            f"expected at most {n_slots} different strings to keep whole, none of them empty, "
            f"found {list(kept)} for text {place}."
        )
    places = {string: j for j, string in enumerate(kept)}
    pattern = "|".join(map(re.escape, sorted(kept, key=len, reverse=True)))
    parts = re.split(f"({pattern})", text) if kept else [text]
    return [places[part] if i % 2 else part for i, part in enumerate(parts)]


def _unicode(text: str, place: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"expected Unicode, found half of a surrogate pair at character {error.start} of text {place}.",
            hint="Read the file in the encoding that it was written in.",
        ) from error
    return text
