"""One language's sentences for a smart home: groups of templates, sentences of each, and their splits.

Needs `hassil`, so `home_assistant` imports it when it is used. What a group is, and why splits keep
groups whole, is told there.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from hassil.expression import Expression
from hassil.numbers import get_rbnf_engine

from metaglot.data.templates import Grammar, TemplateError, Unnatural, skeleton
from metaglot.errors import DataError, Where
from metaglot.storage import text_hash
from metaglot.types import SPLITS, Example, Span

_SHARES = {"test": 0.3, "dev": 0.1, "train": 0.6}
# What an evaluation with 16 shots needs: of some shuffles, the first one that gives it is taken.
_ENOUGH = {"train": 16, "test": 5}
_SHUFFLES = 32
# An intent with fewer groups than this has its templates split at their choices.
_FEW_GROUPS = 10
# Sentences are drawn for this many times what is kept, as some are dropped; so many tries for each.
_SURPLUS = 3
_TRIES = 4
_MOST_FAILURES = 0.2
_UNSPACED = {"ja", "th"}  # and the languages whose files say so themselves
_INVISIBLE = str.maketrans("", "", "\u00ad\u200b")  # marks where a number word may be broken
# Home Assistant's kinds of device, by the list of names that suits them.
_DOMAINS = {
    "binary_sensor": "sensor",
    "button": "scene",
    "input_boolean": "switch",
    "input_button": "scene",
    "script": "scene",
}
_ANY_DOMAIN = ("light", "switch", "fan", "cover", "media_player")


@dataclass(frozen=True)
class Part:
    """One language's share of the corpus, and what there is to tell of it."""

    language: str
    examples: tuple[Example, ...]
    templates: int
    skipped: tuple[str, ...]
    own_lists: bool


_Template: TypeAlias = tuple[Expression, Grammar]


@dataclass
class _Group:
    """Templates with one skeleton, and sentences drawn from them: comparison key → text and spans."""

    id: str
    templates: list[_Template] = field(default_factory=list)
    pool: dict[str, tuple[str, tuple[Span, ...]]] = field(default_factory=dict)


class _Comparable(dict[int, int | None]):
    """A table for `str.translate` without spaces, punctuation, symbols and control characters."""

    def __missing__(self, point: int) -> int | None:
        self[point] = None if unicodedata.category(chr(point))[0] in "ZPSC" else point
        return self[point]


_comparable = _Comparable()


def comparable(text: str) -> str:
    """Return what two splits never share: `text` without case, spaces, punctuation and symbols."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_comparable)


def build(code: str, path: Path, per_intent: int, seed: int) -> Part:
    """Return the sentences of the language `code`, whose templates are in `path`.

    Raises:
        DataError: the file is not what the package is known to have.
    """
    lists = _lists()
    words = lists.get(path.stem, lists["en"])
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        grammar = Grammar(
            rules=data.get("expansion_rules", {}),
            lists=data.get("lists", {}),
            fillers={name: values for name, values in words.items() if name != "name"},
            spaced=not data.get("settings", {}).get("ignore_whitespace") and path.stem not in _UNSPACED,
            spell=_speller(path.stem),
        )
        skipped: list[str] = []
        count = 0
        intents: dict[str, list[_Group]] = {}
        for intent, found in sorted(data["intents"].items()):
            templates = _templates(found["data"], grammar, words["name"], skipped)
            count += sum(len(block["sentences"]) for block in found["data"])
            intents[intent] = _groups(f"{code}:{intent}", templates)
            rng = random.Random(f"{seed}|{path.stem}|{intent}")
            for group in intents[intent]:
                skipped += _fill(group, rng, 1 + _SURPLUS * per_intent // len(intents[intent]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _changed(f"expected intents with blocks of sentences, found {error!r}.", path) from error
    if len(skipped) > _MOST_FAILURES * count:
        raise _changed(f"{len(skipped)} of {count} templates cannot be read, first: {skipped[0]}.", path)
    _drop_ambiguous(intents)
    examples = [
        example
        for intent, groups in intents.items()
        for example in _examples(code, intent, groups, per_intent, f"{seed}|{path.stem}|{intent}|split")
    ]
    return Part(code, tuple(examples), count, tuple(skipped), path.stem in lists)


def _changed(problem: str, path: Path) -> DataError:
    return DataError(
        problem,
        where=Where(path),
        hint="The package's format has changed; metaglot was made for home-assistant-intents 2026.10.27.",
    )


@cache
def _lists() -> dict[str, Any]:
    text = resources.files("metaglot.data").joinpath("home_assistant_lists.json").read_text("utf-8")
    lists: dict[str, Any] = json.loads(text)
    return lists


def _speller(locale: str) -> Callable[[int], str] | None:
    """Return number → word, or None where the Unicode CLDR has no rules for the language."""
    try:
        engine = get_rbnf_engine(locale)
        engine.format_number(1)  # a language may have an engine without rules
    except ValueError:
        return None
    return cache(lambda number: engine.format_number(number).text.translate(_INVISIBLE))


def _names(block: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of the kinds of device that a block of sentences is for."""
    wanted = block.get("requires_context", {}).get("domain") or block.get("slots", {}).get("domain")
    domains = [wanted] if isinstance(wanted, str) else wanted or _ANY_DOMAIN
    kinds = dict.fromkeys(_DOMAINS.get(domain, domain) for domain in domains)
    return [name for kind in kinds for name in names.get(kind, ())] or list(names["switch"])


def _templates(
    blocks: Iterable[Mapping[str, Any]],
    grammar: Grammar,
    names: Mapping[str, Sequence[str]],
    failures: list[str],
) -> list[_Template]:
    """Return an intent's templates, each with its block's grammar; `failures` gets the unreadable ones."""
    templates = []
    for block in blocks:
        own = grammar.within(block.get("expansion_rules", {}), block.get("lists", {}), _names(block, names))
        for text in block["sentences"]:
            try:
                templates.append((grammar.parse(text), own))
            except TemplateError as error:
                failures.append(str(error))
    return templates


def _groups(prefix: str, templates: Sequence[_Template]) -> list[_Group]:
    """Return the templates by their skeletons, split at their choices while that gives few groups."""
    while True:
        groups: dict[str, _Group] = {}
        for expression, grammar in templates:
            bones = skeleton(expression)
            group = groups.setdefault(bones, _Group(f"{prefix}:{text_hash(bones)[:12]}"))
            group.templates.append((expression, grammar))
        finer = [(part, own) for whole, own in templates for part in own.branches(whole)]
        if len(groups) >= _FEW_GROUPS or len(finer) == len(templates):
            return sorted(groups.values(), key=lambda group: group.id)
        templates = finer


def _fill(group: _Group, rng: random.Random, size: int) -> list[str]:
    """Draw up to `size` sentences into the group's pool; return why templates cannot be drawn from."""
    failures = []
    usable = rng.sample(group.templates, len(group.templates))
    for turn in range(_TRIES * size):
        if len(group.pool) >= size or not usable:
            break
        at = turn % len(usable)
        expression, grammar = usable[at]
        try:
            text, spans = grammar.draw(expression, rng)
        except Unnatural:
            continue
        except TemplateError as error:
            failures.append(str(error))
            del usable[at]
            continue
        if key := comparable(text):
            group.pool.setdefault(key, (text, spans))
    return failures


def _drop_ambiguous(intents: Mapping[str, Sequence[_Group]]) -> None:
    """Remove the sentences that two intents can say."""
    owners: dict[str, set[str]] = defaultdict(set)
    for intent, groups in intents.items():
        for group in groups:
            for key in group.pool:
                owners[key].add(intent)
    for groups in intents.values():
        for group in groups:
            group.pool = {key: row for key, row in group.pool.items() if len(owners[key]) == 1}


# ---------------------------------------------------------------------------------------------- split


def _examples(code: str, intent: str, groups: Sequence[_Group], per_intent: int, seed: str) -> list[Example]:
    """Return an intent's examples, or none where its groups cannot give both train and test sentences.

    Of some shuffles of the groups, the first that gives enough of each split is taken, or the best.
    """
    rng = random.Random(seed)
    quota = {split: round(share * per_intent) for split, share in _SHARES.items()}
    filled = [group for group in groups if group.pool]
    best: dict[str, list[tuple[_Group, str]]] = {}
    best_score = 0.0
    for _ in range(_SHUFFLES):
        drawn = _deal(rng.sample(filled, len(filled)), quota)
        score = min(len(drawn[split]) / min(least, quota[split]) for split, least in _ENOUGH.items())
        if score > best_score:
            best, best_score = drawn, score
        if score >= 1:
            break
    return [
        Example(
            id=f"{code}:{intent}:{text_hash(group.pool[key][0])[:12]}",
            text=group.pool[key][0],
            label=intent,
            language=code,
            split=split,
            group=group.id,
            spans=group.pool[key][1],
        )
        for split in SPLITS
        for group, key in best.get(split, ())
    ]


def _deal(groups: Sequence[_Group], quota: Mapping[str, int]) -> dict[str, list[tuple[_Group, str]]]:
    """Deal groups to splits in the order given, then take sentences from each split's groups in turn."""
    tests = max(1, round(_SHARES["test"] * len(groups)))
    devs = max(1, round(_SHARES["dev"] * len(groups))) if len(groups) > 3 else 0
    hands = {"test": groups[:tests], "dev": groups[tests : tests + devs], "train": groups[tests + devs :]}
    taken: set[str] = set()
    dealt: dict[str, list[tuple[_Group, str]]] = {}
    for split, hand in hands.items():
        rows = [[(group, key) for key in group.pool if key not in taken] for group in hand]
        rounds = max(map(len, rows), default=0)
        turns = [row[turn] for turn in range(rounds) for row in rows if turn < len(row)]
        unique = list({key: (group, key) for group, key in reversed(turns)}.values())[::-1]
        dealt[split] = unique[: quota[split]]
        # every sentence that a split's groups can say is its own, drawn or not
        taken |= {key for group in hand for key in group.pool}
    return dealt
