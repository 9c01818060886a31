"""Meaning as a tree of intents and slots over the words of a text, in the brackets of TOP and MTOP.

    [IN:CREATE_CALL [SL:CONTACT [IN:GET_CONTACT [SL:TYPE_RELATION aunt ] ] ] ]

The grammar: the root is an intent; inside an intent stand slots and words, inside a slot intents and
words; every node but the root has a word. A tree is a tuple of spans, outer ones first (pre-order),
where a node covers the stretch from its first word to its last, and the root the whole text.

The brackets may hold all the text's words (TOP) or only those of slots (the "decoupled" form of MTOP),
so words are found in the text again: in the brackets' order if they can be, else, where there are
words of slots alone, in any order, since the translations of MTOP keep the slots in the order of English.
What a node covers must be one stretch: a slot of words that stand apart cannot be read.

Gupta et al., "Semantic parsing for task oriented dialog using hierarchical representations", EMNLP 2018.
Li et al., "MTOP: a comprehensive multilingual task-oriented semantic parsing benchmark", EACL 2021.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from metaglot.types import Span

if TYPE_CHECKING:
    from rich.tree import Tree

INTENT, SLOT = "IN:", "SL:"
DEEPEST = 100
"""So many nodes may stand inside one another; in MTOP it is six."""

_NO_BRACKETS = str.maketrans("[]", "  ")
_PIECES = re.compile(r"\[[^\s\[\]]*|\]|[^\s\[\]]+")


@dataclass
class _Leaf:
    """Words that stand together in the brackets, and where the text has them."""

    words: str
    at: int
    start: int = -1
    end: int = -1


@dataclass
class _Node:
    label: str
    at: int
    children: list[_Node | _Leaf] = field(default_factory=list)

    def leaves(self) -> Iterator[_Leaf]:
        for child in self.children:
            if isinstance(child, _Leaf):
                yield child
            else:
                yield from child.leaves()

    def nodes(self) -> Iterator[_Node]:
        """Return the nodes below the root, outer ones first."""
        for child in self.children:
            if isinstance(child, _Node):
                yield child
                yield from child.nodes()

    def span(self) -> Span:
        leaves = list(self.leaves())
        return Span(min(leaf.start for leaf in leaves), max(leaf.end for leaf in leaves), self.label)


def read_tree(text: str, brackets: str) -> tuple[Span, ...]:
    """Return the nodes of a tree in brackets as spans of the text, outer ones first.

    Words are compared without spaces, so that brackets and text may be cut into words differently. Of
    several places the leftmost are taken among those that cut the fewest words of the text.

    Raises:
        ValueError: the brackets are no tree of the grammar, or the text has not their words; the message
            says where in the brackets.
    """
    root = _parse(brackets)
    leaves = list(root.leaves())
    places = _Places(text)
    if fault := places.align(leaves):
        every = [root, *root.nodes()]
        if any(
            isinstance(c, _Leaf) for node in every for c in node.children if node.label.startswith(INTENT)
        ):
            raise ValueError(fault)
        if fault := places.scatter(leaves):
            raise ValueError(fault)
    # In the text's order; of two that cover the same, the sort keeps the outer one first.
    below = sorted((node.span() for node in root.nodes()), key=lambda span: (span.start, -span.end))
    spans = (Span(0, len(text), root.label), *below)
    if fault := well_formed(spans):
        raise ValueError(f"{fault[:-1]} in the order of the text.")
    return spans


def write_tree(text: str, spans: Sequence[Span]) -> str:
    """Return a tree in decoupled brackets, in the text's order: the words of slots alone.

    An intent below the root without a slot of its own keeps its words too: else nothing would say where
    it stands. Brackets that the text itself has among those words are left out.

    Raises:
        ValueError: the spans are no tree of the grammar.
    """
    children = _children(spans)

    def pieces(number: int) -> Iterator[str]:
        span, at = spans[number], spans[number].start
        yield f"[{span.label}"
        for child in (*children[number], None):
            until = span.end if child is None else spans[child].start
            if span.label.startswith(SLOT) or (number and not children[number]):
                yield from text[at:until].translate(_NO_BRACKETS).split()
            if child is not None:
                yield from pieces(child)
                at = spans[child].end
        yield "]"

    return " ".join(pieces(0))


def draw_tree(text: str, spans: Sequence[Span]) -> Tree:
    """Return a tree to print with rich: labels, and beside each slot without an intent its words.

    Raises:
        ValueError: the spans are no tree of the grammar.
    """
    from rich.text import Text  # noqa: PLC0415 - only who draws needs it
    from rich.tree import Tree  # noqa: PLC0415

    children = _children(spans)
    branches: list[Tree] = []
    for number, span in enumerate(spans):
        line = Text(span.label, style="bold" if span.label.startswith(INTENT) else "cyan")
        if number and not children[number]:
            line.append("  " + text[span.start : span.end], style="default")
        parent = next((p for p in range(number) if number in children[p]), None)
        branches.append(Tree(line) if parent is None else branches[parent].add(line))
    return branches[0]


def well_formed(spans: Sequence[Span]) -> str:
    """Return what is wrong with spans that should be a tree of the grammar; empty where nothing is."""
    return next(_faults(spans), "")


def _faults(spans: Sequence[Span]) -> Iterator[str]:
    if not spans:
        yield "expected a tree, found no span."
    for span in spans:
        yield from _label_faults(span.label)
    path = list(spans[:1])
    for span in path:
        if not span.label.startswith(INTENT):
            yield f"expected an intent at the root, found the slot {span.label!r}."
    for before, span in pairwise(spans):
        stretch = f"{span.label!r} at {span.start} to {span.end}"
        if span.start >= span.end:
            yield f"expected a stretch with characters, found {stretch}."
        if (before.start, -before.end) > (span.start, -span.end):
            yield f"expected spans in the order of the text, outer ones first, found {stretch} too late."
        while len(path) > 1 and path[-1].end <= span.start:
            path.pop()
        if span.end > path[-1].end:
            yield f"expected spans inside one another or apart, found {stretch} across {path[-1].label!r}."
        yield from _alternation_faults(path[-1].label, span.label)
        path.append(span)
        if len(path) > DEEPEST:
            yield f"expected at most {DEEPEST} nodes inside one another, found more at {stretch}."


def _children(spans: Sequence[Span]) -> list[list[int]]:
    """Return for each node the places of its children.

    Raises:
        ValueError: the spans are no tree of the grammar.
    """
    if fault := well_formed(spans):
        raise ValueError(fault)
    found: list[list[int]] = [[] for _ in spans]
    path = [0]
    for number in range(1, len(spans)):
        while len(path) > 1 and spans[path[-1]].end <= spans[number].start:
            path.pop()
        found[path[-1]].append(number)
        path.append(number)
    return found


def _parse(brackets: str) -> _Node:
    """Return the tree in brackets, its words not found in the text yet."""
    top = _Node("", 0)
    path = [top]
    for piece in _PIECES.finditer(brackets):
        at, string, parent = piece.start(), piece.group(), path[-1]
        if string == "]":
            _close(path, at)
        elif string.startswith("["):
            faults = chain(_label_faults(string[1:]), _alternation_faults(parent.label, string[1:]))
            if fault := next(faults, ""):
                raise ValueError(f"{fault[:-1]} at character {at}.")
            if parent is top and top.children:
                raise ValueError(f"expected one root, found a second, {string[1:]!r}, at character {at}.")
            path.append(_Node(string[1:], at))
            if len(path) > DEEPEST + 1:
                raise ValueError(f"expected at most {DEEPEST} brackets inside one another at character {at}.")
            parent.children.append(path[-1])
        elif parent is top:
            raise ValueError(f"expected words inside brackets, found {string!r} at character {at}.")
        elif parent.children and isinstance(parent.children[-1], _Leaf):
            parent.children[-1].words += " " + string
        else:
            parent.children.append(_Leaf(string, at))
    if len(path) > 1:
        raise ValueError(f"expected a ']' for {path[-1].label!r} at character {path[-1].at}, found none.")
    root = next(top.nodes(), None)
    if root is None:
        raise ValueError("expected a tree such as '[IN:… [SL:… word ] ]', found no bracket.")
    return root


def _close(path: list[_Node], at: int) -> None:
    """Close the innermost node of a path from the top."""
    if len(path) == 1:
        raise ValueError(f"expected a '[' for each ']', found none for that at character {at}.")
    node = path.pop()
    if len(path) > 1 and not any(node.leaves()):
        raise ValueError(f"expected a word inside {node.label!r}, found none at character {node.at}.")


class _Places:
    """A text without its spaces, where words are looked for."""

    def __init__(self, text: str) -> None:
        self.at = [place for place, character in enumerate(text) if not character.isspace()]
        self.dense = "".join(text[place] for place in self.at)
        # Whether a word begins or ends before each character.
        self.edges = [
            not (
                0 < i < len(self.at)
                and self.at[i] == self.at[i - 1] + 1
                and self.dense[i - 1 : i + 1].isalnum()
            )
            for i in range(len(self.at) + 1)
        ]

    def find(self, leaf: _Leaf) -> Iterator[tuple[int, int, int]]:
        """Return where a leaf's words stand: how many words that cuts, start and end."""
        words = "".join(leaf.words.split())
        start = self.dense.find(words)
        while start >= 0:
            end = start + len(words)
            yield (not self.edges[start]) + (not self.edges[end]), start, end
            start = self.dense.find(words, start + 1)

    def put(self, leaf: _Leaf, start: int, end: int) -> None:
        leaf.start, leaf.end = self.at[start], self.at[end - 1] + 1

    def align(self, leaves: Sequence[_Leaf]) -> str:
        """Put leaves in their order; return what is wrong, empty where nothing is."""
        # Of each leaf: its start → words cut so far, its end, the start of the leaf before.
        table: list[dict[int, tuple[int, int, int]]] = []
        for leaf in leaves:
            row: dict[int, tuple[int, int, int]] = {}
            ends = sorted((end, cut, start) for start, (cut, end, _) in table[-1].items()) if table else []
            best, passed = (0, -1) if not table else None, 0
            for cut, start, end in self.find(leaf):
                while passed < len(ends) and ends[passed][0] <= start:
                    best = min(best or ends[passed][1:], ends[passed][1:])
                    passed += 1
                if best is not None:
                    row[start] = (best[0] + cut, end, best[1])
            if not row:
                return self.missing(leaf, "the order of the text")
            table.append(row)
        start = min(table[-1], key=lambda s: (table[-1][s][0], s)) if table else -1
        for leaf, row in zip(reversed(leaves), reversed(table), strict=True):
            _, end, before = row[start]
            self.put(leaf, start, end)
            start = before
        return ""

    def scatter(self, leaves: Sequence[_Leaf]) -> str:
        """Put leaves anywhere, the longest first; return what is wrong, empty where nothing is."""
        free = [True] * len(self.at)
        for leaf in sorted(leaves, key=lambda leaf: -len(leaf.words)):
            found = min((f for f in self.find(leaf) if all(free[f[1] : f[2]])), default=None)
            if found is None:
                return self.missing(leaf, "a place of their own")
            _, start, end = found
            free[start:end] = [False] * (end - start)
            self.put(leaf, start, end)
        return ""

    def missing(self, leaf: _Leaf, wanted: str) -> str:
        """Return why words have no place."""
        words = leaf.words.split()
        if "".join(words) in self.dense:
            fault = f"expected words in {wanted}, found {leaf.words!r}"
        elif all(word in self.dense for word in words):
            fault = f"expected words that stand together in the text, found {leaf.words!r}"
        else:
            fault = f"expected words of the text, found {leaf.words!r}"
        return f"{fault} at character {leaf.at}."


def _label_faults(label: str) -> Iterator[str]:
    if not label:
        yield "expected a label after '[', found none."
    elif not label.startswith((INTENT, SLOT)) or len(label) == len(INTENT):
        yield f"expected a label that begins with 'IN:' or 'SL:', found {label!r}."


def _alternation_faults(parent: str, child: str) -> Iterator[str]:
    if not parent and child.startswith(SLOT):
        yield f"expected an intent at the root, found the slot {child!r}."
    elif parent[: len(INTENT)] == child[: len(INTENT)]:
        inside, found = ("slots", "intent") if parent.startswith(INTENT) else ("intents", "slot")
        yield f"expected {inside} inside {parent!r}, found the {found} {child!r}."
