"""Byte-pair encoding over characters, by the package `tokenizers`: what `Vocabulary` is made with."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Merge = tuple[str, str]

# Words with the space before them, single digits, runs of signs, runs of spaces: no piece crosses them.
_WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
_BYTE_NAME = re.compile(r"<0x[0-9A-F]{2}>")
_LONGEST = 24


def byte_name(byte: int) -> str:
    """Return what `tokenizers` calls a byte: `<0x41>`."""
    return f"<0x{byte:02X}>"


def tokenizer(rows: dict[str, int], merges: Sequence[Merge]) -> Tokenizer:
    """Return a tokenizer of pieces and bytes, which changes nothing and adds nothing."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - heavy

    made = Tokenizer(models.BPE(vocab=rows, merges=list(merges), byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    return made


def frequent_characters(texts: Sequence[str], coverage: float, most: int) -> list[str]:
    """Return the most frequent characters that make up a share `coverage` of the texts, at most `most`."""
    count = Counter(char for text in texts for char in text)
    left, kept = coverage * count.total(), []
    for char in sorted(count, key=lambda char: (-count[char], char))[:most]:
        if left <= 0:
            break
        left -= count[char]
        kept.append(char)
    return sorted(kept)


def learn_merges(texts: Sequence[str], alphabet: Sequence[str], room: int) -> list[Merge]:
    """Return merges of characters of the alphabet, so that there are at most `room` pieces with it."""
    from tokenizers import trainers  # noqa: PLC0415 - heavy

    learning = tokenizer({}, ())
    trainer = trainers.BpeTrainer(
        vocab_size=room, min_frequency=2, show_progress=False, max_token_length=_LONGEST
    )
    # Characters outside of the alphabet part the words: they are spelt in bytes, which never merge.
    outside = re.compile(f"[^{re.escape(''.join(alphabet))}]+")
    learning.train_from_iterator((part for text in texts for part in outside.split(text)), trainer)
    known, merges = set(alphabet), []
    for a, b in json.loads(learning.to_str())["model"]["merges"]:
        # A piece that is called as a byte is would be taken for the byte.
        if a in known and b in known and not _BYTE_NAME.fullmatch(a + b):
            known.add(a + b)
            merges.append((a, b))
    return merges
