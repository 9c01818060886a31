"""Pairs that were found → `Bitext`: codes for the languages' names, ids that are unique, parallel or not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from metaglot.bitext.intake import Found
from metaglot.bitext.pairs import Bitext, SentencePair
from metaglot.data.assemble import language_codes
from metaglot.data.problems import Problems
from metaglot.errors import Where

_ALIKE = 0.9


def make_bitext(
    name: str,
    found: Sequence[Found],
    *,
    parallel: bool | None = None,
    notices: Iterable[str] = (),
    licence: str = "",
    origin: str = "",
) -> Bitext:
    """Make the corpus of some pairs.

    Args:
        name: the corpus's.
        found: its pairs.
        parallel: whether an id names the same content in every language; `None` finds out.
        notices: what the user should know of how they were found.
        licence: of the sentences.
        origin: where they came from.

    Raises:
        DataError: both sides of a pair are in one language, or an id stands twice.
    """
    told = list(notices)
    codes = language_codes(dict.fromkeys(chain.from_iterable(pair.languages for pair in found)), told)
    problems = Problems()
    for each in found:
        if codes[each.languages[0]] == codes[each.languages[1]]:
            where = Where(each.place, each.line)
            problems.add(f"expected two languages, found {each.languages[0]!r} on both sides.", where)
    problems.raise_any()
    pairs = [
        SentencePair(
            id=id_,
            source=each.source,
            target=each.target,
            source_language=codes[each.languages[0]],
            target_language=codes[each.languages[1]],
            split=each.split,
            group=each.group,
            note=each.note,
        )
        for id_, each in zip(_unique(found, codes), found, strict=True)
    ]
    bitext = Bitext(name, tuple(pairs), False, licence, origin)
    known = _looks_parallel(bitext) if parallel is None else parallel
    return Bitext(name, tuple(pairs), known, licence, origin, tuple(told))


def _unique(found: Sequence[Found], codes: Mapping[str, str]) -> list[str]:
    """Return the pairs' ids, with their files' names before them where files of one language share ids.

    Raises:
        DataError: an id stands twice in one file.
    """

    def keys(ids: Iterable[str]) -> list[tuple[str, str, str, str]]:
        return [
            (codes[each.languages[0]], codes[each.languages[1]], each.split, id_)
            for each, id_ in zip(found, ids, strict=True)
        ]

    ids = [each.id for each in found]
    if len(set(keys(ids))) == len(found):
        return ids
    ids = [f"{Path(each.place).stem}/{each.id}" for each in found]
    problems = Problems()
    seen: dict[tuple[str, str, str, str], Found] = {}
    for key, each in zip(keys(ids), found, strict=True):
        first = seen.setdefault(key, each)
        if first is not each:
            there = "" if first.place == each.place else f" of {first.place}"
            problems.add(
                f"expected an id of its own, found {each.id!r}, which line {first.line}{there} has.",
                Where(each.place, each.line, "id"),
                "Remove one of the two, or number the rows anew: columns={'id': ''} (`--column id=`).",
            )
    problems.raise_any()
    return ids


def _looks_parallel(bitext: Bitext) -> bool:
    """Tell whether ids that several languages have go with the same sentence of the pivot, nearly always."""
    texts: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for pair in bitext.pairs:
        texts[pair.split, pair.id].append(
            pair.source if pair.source_language == bitext.pivot else pair.target
        )
    shared = [each for each in texts.values() if len(each) > 1]
    alike = sum(len(set(each)) == 1 for each in shared)
    return bool(bitext.pivot and shared) and alike >= _ALIKE * len(shared)
