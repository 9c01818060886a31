"""Items → corpus: codes for the languages' names, ids that are unique, parallel or not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

from metaglot.data.parallel import find_parallel
from metaglot.data.problems import Problems
from metaglot.data.rows import Intake, Item, Table
from metaglot.errors import DataError, LanguageError, Where
from metaglot.languages import custom_language, language_name, parse_language
from metaglot.progress import progress, silent
from metaglot.types import SPLITS, Corpus, Example

_MANY_TABLES = 20


def read_tables(tables: Sequence[Table], intake: Intake) -> list[Item]:
    """Read tables into items.

    Raises:
        DataError: rows are faulty (all of the tables' faults in one error), or there are none.
    """
    items: list[Item] = []
    with ExitStack() as shown:
        if len(tables) < _MANY_TABLES:
            shown.enter_context(silent())
        advance = shown.enter_context(progress("reading", len(tables)))
        for table in tables:
            items.extend(intake.items(table))
            advance(note=table.language)
    items = intake.read_tags(items)
    intake.problems.raise_any()
    if not items:
        wanted = f" of the split {intake.split!r}" if intake.split else ""
        met = f"; its splits are {', '.join(intake.skipped)}" if intake.skipped else ""
        raise DataError(
            f"expected rows{wanted}, found none{met}.",
            where=Where(tables[0].place if tables else None),
            hint=f"A split is called {', '.join(SPLITS)} (or validation, valid, val).",
        )
    return items


def make_corpus(
    name: str,
    items: Sequence[Item],
    *,
    kind: str = "classification",
    notices: Iterable[str] = (),
    parallel: bool | None = None,
    source: str,
) -> Corpus:
    """Make the corpus of some items.

    Args:
        name: the corpus's.
        items: its rows.
        kind: of the examples.
        notices: what the user should know of how they were found.
        parallel: whether an id names the same content in every language; `None` finds out.
        source: where they came from.

    Raises:
        DataError: an id stands twice in one split of one language.
    """
    told = list(notices)
    codes = language_codes(dict.fromkeys(item.language for item in items), told)
    ids = _unique_ids(items, codes, told)
    examples = tuple(
        Example(
            id=id_,
            text=item.content.text,
            label=item.content.label,
            language=codes[item.language],
            split=item.split,
            group=item.group,
            spans=item.content.spans,
            tokens=item.content.tokens,
            pair=item.content.pair,
        )
        for id_, item in zip(ids, items, strict=True)
    )
    if parallel is None:
        evidence = find_parallel(examples)
        parallel = evidence is not None
        if evidence is not None:
            told.append(
                f"The ids look parallel: {evidence}. They are kept apart between the languages learned "
                "from and those learned; parallel=False (`--no-parallel`) says that they are not."
            )
    return Corpus(name, examples, kind=kind, parallel=parallel, source=source, notices=tuple(told))


def language_codes(names: Iterable[str], notices: list[str]) -> dict[str, str]:
    """Return name → code for languages as they are written in some data.

    A name that no standard knows is its own code. Names of one code are told apart by their regions
    if they have different ones, and else are one language. `notices` is told of both.
    """
    codes: dict[str, str] = {}
    for name in names:
        try:
            codes[name] = parse_language(name)
        except LanguageError as error:
            codes[name] = custom_language(name)
            notices.append(f"No standard knows the language {name!r}: it is kept as it is. {error.hint}")
    by_code: defaultdict[str, list[str]] = defaultdict(list)
    for name, code in codes.items():
        by_code[code].append(name)
    for code, same in by_code.items():
        if len(same) == 1:
            continue
        regions = [_with_region(name, code) for name in same]
        if len(set(regions)) == len(same):
            codes.update(zip(same, regions, strict=True))
        else:
            notices.append(
                f"{' and '.join(repr(name) for name in same)} name one language, {language_name(code)} "
                f"({code}): they are read as one, and the ids of all but the first begin with their name."
            )
    return codes


def _with_region(name: str, code: str) -> str:
    try:
        return parse_language(name, region=True)
    except LanguageError:
        return code


def _unique_ids(items: Sequence[Item], codes: Mapping[str, str], notices: list[str]) -> list[str]:
    """Return the items' ids, each standing once in its language; one rule for all languages.

    What is added to an id is the same in every language, so that ids that name the same content in
    all of them still do.
    """
    ids = [item.id for item in items]
    if any(count > 1 for count in Counter((i.language, i.split, i.id) for i in items).values()):
        _check_numbered_by_label(items)
        ids = [f"{item.written_label}/{item.id}" for item in items]
        notices.append("The ids count anew within each label: the label was put before them.")
    first: dict[str, str] = {}
    for name, code in codes.items():
        first.setdefault(code, name)
    others = {name for name, code in codes.items() if first[code] != name}
    ids = [f"{i.language}/{id_}" if i.language in others else id_ for i, id_ in zip(items, ids, strict=True)]
    if len({(codes[i.language], id_) for i, id_ in zip(items, ids, strict=True)}) < len(items):
        ids = [f"{item.split}/{id_}" for item, id_ in zip(items, ids, strict=True)]
    return ids


def _check_numbered_by_label(items: Sequence[Item]) -> None:
    """Check that ids which repeat are numbers within labels, on the whole, and no slip.

    Raises:
        DataError: some ids stand twice in one split of one language.
    """
    parts: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        parts[item.language, item.split].append(item)
    problems = Problems()
    for part in parts.values():
        by_id: defaultdict[str, list[Item]] = defaultdict(list)
        for item in part:
            by_id[item.id].append(item)
        by_label = len({(item.written_label, item.id) for item in part}) == len(part)
        if by_label and (len(by_id) == len(part) or len(by_id) * 2 <= len(part)):
            continue
        for id_, (item, *again) in by_id.items():
            for other in again:
                there = "" if other.place == item.place else f" of {item.place}"
                problems.add(
                    f"expected an id of its own, found {id_!r}, which line {item.line}{there} has.",
                    Where(other.place, other.line, "id"),
                    "Remove one of the two, or number the rows anew: columns={'id': ''} (`--column id=`).",
                )
    problems.raise_any()
