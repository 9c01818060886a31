"""Sentence templates → sentences whose slots keep their places.

A template is what `hassil` parses: `turn (on|off) [the] {name} <in> {area}`, with alternatives,
optional parts, permutations `(a;b)`, rules `<in>` and lists `{area}`. `hassil.sample` forgets where
the lists' values went, so the parsed expression is walked here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hassil import expression as ast
from hassil.parse_expression import parse_sentence

from metaglot.types import Span

_DEPTH = 40
_WORDS_SHARE = 0.25
_NOT_AFTER_WORDS = "%°％"
_TOKEN = re.compile(r"\{\}|[^\s{}]+")


class TemplateError(Exception):
    """A template cannot be read: its syntax, or a rule or list that is not there."""


class Unnatural(Exception):  # noqa: N818 - a draw to be thrown away, not an error
    """A draw that nobody would write ("fifty%")."""


@dataclass
class Grammar:
    """The rules and lists that one language's templates refer to.

    Attributes:
        rules: name → template.
        lists: name → `{"values": [...]}`, `{"range": {...}}` or `{"wildcard": true}`.
        fillers: name → values of the lists that the grammar leaves to its user; they win over `lists`.
        spaced: whether the language writes spaces between words.
        spell: number → word, or None where numbers are always written in digits.
    """

    rules: Mapping[str, str]
    lists: Mapping[str, Mapping[str, Any]]
    fillers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    spaced: bool = True
    spell: Callable[[int], str] | None = None
    _parsed: dict[str, ast.Expression] = field(default_factory=dict, repr=False)

    def parse(self, template: str) -> ast.Expression:
        """Return the parsed template.

        Raises:
            TemplateError: `hassil` cannot parse it.
        """
        if template not in self._parsed:
            try:
                self._parsed[template] = parse_sentence(template).expression
            except Exception as error:  # hassil raises ParseError, AssertionError and ValueError alike
                raise TemplateError(f"{template!r}: {error}") from error
        return self._parsed[template]

    def rule(self, name: str) -> ast.Expression:
        """Return the parsed rule.

        Raises:
            TemplateError: there is no such rule.
        """
        if name not in self.rules:
            raise TemplateError(f"there is no rule <{name}>")
        return self.parse(self.rules[name])

    def within(
        self, rules: Mapping[str, str], lists: Mapping[str, Mapping[str, Any]], names: Sequence[str]
    ) -> Grammar:
        """Return the grammar of a block with rules and lists of its own; `names` fill its `{name}`."""
        return replace(
            self,
            rules={**self.rules, **rules},
            lists={**self.lists, **lists},
            fillers={**self.fillers, "name": names},
        )

    def draw(self, template: ast.Expression, rng: random.Random) -> tuple[str, tuple[Span, ...]]:
        """Return one random sentence of `template` and the spans of its slots.

        Optional parts are kept with probability one half; alternatives, orders and list values are
        uniform.

        Raises:
            TemplateError: a rule or a list is missing, or rules call each other in a circle.
            Unnatural: this draw should be thrown away.
        """
        sentence = _Sentence(self, rng)
        sentence.add(template, 0)
        return _trim("".join(sentence.parts), sentence.spans)

    def branches(self, node: ast.Expression, depth: int = 0) -> list[ast.Expression]:
        """Return the templates that `node` is the sum of, split at its first choice that is not optional.

        A choice may stand in a rule. A template without one, or with a rule that is not there, is
        returned alone.
        """
        match node:
            case ast.RuleReference() if node.rule_name in self.rules and depth < _DEPTH:
                parts = self.branches(self.rule(node.rule_name), depth + 1)
                return parts if len(parts) > 1 else [node]
            case ast.Alternative() if not node.is_optional and len(node.items) > 1:
                return list(node.items)
            case ast.Sequence():
                for at, item in enumerate(node.items):
                    parts = self.branches(item, depth + 1)
                    if len(parts) > 1:
                        before, after = node.items[:at], node.items[at + 1 :]
                        return [ast.Sequence(items=[*before, part, *after]) for part in parts]
        return [node]


class _Sentence:
    """A sentence while it is being drawn."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self.grammar = grammar
        self.rng = rng
        self.parts: list[str] = []
        self.spans: list[Span] = []
        self.length = 0
        self.spelt_end = -1

    def write(self, text: str) -> None:
        """Append `text`, with no second space after a first and none at the start.

        hassil has made every run of white space one space, so no other doubles arise.
        """
        if not self.parts or self.parts[-1][-1] == " ":
            text = text.lstrip()
        if not text:
            return
        if self.length == self.spelt_end and text[0] in _NOT_AFTER_WORDS:
            raise Unnatural
        self.parts.append(text)
        self.length += len(text)

    def add(self, node: ast.Expression, depth: int) -> None:
        if depth > _DEPTH:
            raise TemplateError("rules call each other in a circle")
        depth += 1
        match node:
            case ast.TextChunk():
                self.write(node.text)
            case ast.Alternative(is_optional=True):
                if self.rng.random() < 0.5:
                    self.add(self.rng.choice(node.items[:-1]), depth)  # the last one is empty
            case ast.Alternative():
                self.add(self.rng.choice(node.items), depth)
            case ast.Group():
                for item in self.order(node):
                    self.add(item, depth)
            case ast.RuleReference():
                self.add(self.grammar.rule(node.rule_name), depth)
            case ast.ListReference():
                start = self.length
                value = self.value(node, depth)
                self.spans.append(Span(start, self.length, node.slot_name, value))
            case _:
                raise TemplateError(f"hassil has a new kind of expression, {type(node).__name__}")

    def order(self, group: ast.Group) -> list[ast.Expression]:
        """Return a group's parts in the order to be written: random for a permutation."""
        if not isinstance(group, ast.Permutation):
            return list(group.items)
        items: list[Any] = self.rng.sample(group.items, len(group.items))
        if self.grammar.spaced:
            return items
        # hassil puts a space on either side of each part, which Thai or Chinese has not
        return [ast.Sequence(items=item.items[1:-1]) for item in items]

    def value(self, node: ast.ListReference, depth: int) -> str:
        """Write a value of a list; return what it stands for, empty where that is what is written."""
        name = node.list_name
        if bounds := node.get_inline_range():
            return str(self.number(*bounds, digits=True, words=False))
        if name in self.grammar.fillers:
            self.write(self.rng.choice(self.grammar.fillers[name]))
            return ""
        if name not in self.grammar.lists:
            raise TemplateError(f"there is no list {{{name}}}")
        if values := self.grammar.lists[name].get("values"):
            value = self.rng.choice(values)
            if not isinstance(value, dict):
                value = {"in": value}
            self.add(self.grammar.parse(str(value["in"])), depth)
            return _meant(value.get("out"))
        if limits := self.grammar.lists[name].get("range"):
            # Of a `multiplier` (−1 to turn down by) the stretch says nothing: the words around it do.
            number = self.number(
                int(limits["from"]),
                int(limits["to"]),
                int(limits.get("step", 1)),
                digits=limits.get("digits", True),
                words=limits.get("words", True),
            )
            return str(number)
        raise TemplateError(f"the list {{{name}}} has neither values nor a range, and no fillers")

    def number(self, first: int, last: int, step: int, *, digits: bool, words: bool) -> int:
        number = self.rng.randrange(first, last + 1, step)
        spell = self.grammar.spell if words else None
        if spell is None or (digits and self.rng.random() >= _WORDS_SHARE):
            self.write(str(number))
            return number
        if self.parts and self.parts[-1][-1] in _NOT_AFTER_WORDS:
            raise Unnatural
        self.write(spell(number))
        self.spelt_end = self.length
        return number


def _meant(out: Any) -> str:
    """Return what a list says that a value stands for, as a text: of several things all."""
    if out is None:
        return ""
    return ", ".join(map(str, out)) if isinstance(out, list) else str(out)


def _trim(text: str, spans: Sequence[Span]) -> tuple[str, tuple[Span, ...]]:
    """Return `text` without a space at its end, and `spans` without any at theirs; empty ones are dropped.

    A value that is what the text says goes too.
    """
    trimmed = []
    for span in spans:
        written = text[span.start : span.end]
        start = span.start + len(written) - len(written.lstrip())
        end = span.start + len(written.rstrip())
        if start < end:
            value = "" if span.value == text[start:end] else span.value
            trimmed.append(Span(start, end, span.label, value))
    return text.rstrip(), tuple(sorted(trimmed, key=lambda s: (s.start, -s.end, s.label)))


def skeleton(node: ast.Expression) -> str:
    """Return the words that every sentence of a template has, in no order, its choices counting as one word.

    Optional parts and the names of lists are left out, so templates with one skeleton are wordings of
    one another: `turn on [the] {name}`, `[please] turn {area} on`.
    """
    return " ".join(sorted(_TOKEN.findall(_bare(node))))


def _bare(node: ast.Expression) -> str:
    bare = ""
    match node:
        case ast.TextChunk():
            bare = str(node.text).casefold()
        case ast.ListReference():
            bare = "{}"
        case ast.RuleReference():
            bare = f"<{node.rule_name}>"
        case ast.Alternative(is_optional=True):
            bare = " "
        case ast.Alternative():
            bare = "|".join(sorted({"_".join(_bare(item).split()) for item in node.items}))
        case ast.Permutation():
            bare = " ".join(_bare(item) for item in node.items)
        case ast.Group():
            bare = "".join(_bare(item) for item in node.items)
    return bare
