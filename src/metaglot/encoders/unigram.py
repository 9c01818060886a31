"""A SentencePiece unigram tokenizer, built from its parts for the `tokenizers` library."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

METASPACE = "▁"
LEAF = 1 << 31
Trie: TypeAlias = "dict[int, Any]"
"""Byte → the trie below it, and 0 → the place of the value of the key that ends here."""


def unigram_tokenizer(
    pieces: Sequence[str],
    scores: Sequence[float],
    replacements: Mapping[str, str],
    *,
    bos: int,
    eos: int,
    pad: int,
    unk: int,
    mask: int,
) -> Tokenizer:
    """Return the tokenizer `<s> pieces </s>` over normalised text.

    Normalisation replaces single characters and then collapses runs of spaces; offsets stay those
    of the original text. A character outside the vocabulary is one unknown token each.

    Args:
        pieces: the vocabulary; a token's number is its place.
        scores: the pieces' log-probabilities.
        replacements: character → what stands for it.
        bos: the number of the token that begins a text.
        eos: the number of the token that ends a text.
        pad: the number of the padding token.
        unk: the number of the token for unknown characters.
        mask: the number of the token that masked language modelling predicts behind.
    """
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=unk))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(precompiled_charsmap(replacements)),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(METASPACE, prepend_scheme="always", split=True),
            # The unigram model of `tokenizers` fuses neighbouring unknown characters into one token.
            # Kept apart, a text in a script outside the vocabulary at least shows its length.
            pre_tokenizers.Split(Regex(_outside(set().union(*pieces))), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(METASPACE, prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[bos]} $A {pieces[eos]}",
        pair=f"{pieces[bos]} $A {pieces[eos]} {pieces[eos]} $B {pieces[eos]}",
        special_tokens=[(pieces[bos], bos), (pieces[eos], eos)],
    )
    tokenizer.add_special_tokens([AddedToken(pieces[i], special=True) for i in (bos, pad, eos, unk)])
    tokenizer.add_special_tokens([AddedToken(pieces[mask], lstrip=True, special=True)])
    return tokenizer


def precompiled_charsmap(replacements: Mapping[str, str]) -> bytes:
    r"""Return SentencePiece's binary form of a character map.

    It is the size of a double-array trie in bytes (uint32), the trie over the keys' UTF-8 bytes
    (uint32 units), then the values, each ended by a NUL, to which the trie's leaves point.

    A unit holds a byte's label (bits 0–7), whether a key ends here (bit 8), and the exclusive or of
    its own place and of its children's base (bits 10–30); a child with label b stands at base ^ b,
    and the leaf, with bit 31 set and the value's place in the other bits, at the base itself.

    Raises:
        ValueError: a key is empty or has a NUL, or a value has one.
    """
    if any(not key or "\0" in key + value for key, value in replacements.items()):
        raise ValueError("keys must not be empty, and neither keys nor values may have NULs")
    values = bytearray()
    trie: Trie = {}
    for key, value in replacements.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = len(values)
        values += value.encode() + b"\0"
    units = _double_array(trie)
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(values)


def _double_array(trie: Trie) -> list[int]:
    """Lay a trie out: a block of 256 units for each node with bytes below it, leaves in the holes."""
    units = {0: 0}
    inner: list[tuple[int, Trie]] = [(0, trie)]
    leaves: list[tuple[int, Trie]] = []
    for number, (place, node) in enumerate(inner):
        base = 256 * (number + 1)
        units[place] |= (place ^ base) << 10 | (0 in node) << 8
        for label, child in node.items():
            units[base ^ label] = label or LEAF | child
            if label:
                (inner if child.keys() - {0} else leaves).append((base ^ label, child))
    # Two nodes with one base would take each other's children for their own.
    free = (i for i in itertools.count(1) if i not in units and i % 256)
    for (place, node), base in zip(leaves, free, strict=False):
        units[place] |= (place ^ base) << 10 | 1 << 8
        units[base] = LEAF | node[0]
    size = -(-(max(units) + 1) // 256) * 256  # any byte from any base must stay inside
    return [units.get(i, 0) for i in range(size)]


def _outside(characters: set[str]) -> str:
    """Return a regular expression for one character that is none of these."""
    points = sorted(map(ord, characters))
    ranges: list[tuple[int, int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1] = (ranges[-1][0], point)
        else:
            ranges.append((point, point))
    return "[^" + "".join(rf"\x{{{a:x}}}-\x{{{b:x}}}" for a, b in ranges) + "]"
