"""What a program fills in, or a browser reads, and no translator may change: `%(name)s`, `{0}`, `<b>`.

A model is not to be trusted with them. So they are *hidden* before it sees a text, as *slots* that it only
has to put in their places (`⟨0⟩ of ⟨1⟩`), and *restored* in its draft; and no draft is used that has not
*kept* them all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_PRINTF = (
    r"%(?:\([^()\n]*\)|[0-9]+\$)?[#0+'-]*(?:[0-9]+|\*)?(?:\.(?:[0-9]+|\*))?(?:hh|h|ll|l|L|q|j|z|t)?"
    r"[diouxXeEfFgGcrsaAp%@]"
)
# What ends an address in running text, of any language.
_NO_URL = r"\s<>\"'{}()⟨⟩“”„‘’«»…。，、；：！？（）「」『』।"
# No blank among printf's flags ("% d"): "100% of" is text. No blank within braces: "{see below}" is text.
_KINDS = {
    "slot": r"⟨[0-9]{1,9}⟩",  # of the text's own, so that every slot of a hidden text is one of ours
    "url": rf"(?:https?|ftp)://[^{_NO_URL}]*[^{_NO_URL}.,;:!?]",
    "template": r"\{\{[^{}\n]*\}\}|\{%[^{}\n]*%\}|[$%]\{[^{}\n]*\}",
    "brace": r"\{[^{}\s]*(?:\{[^{}\s]*\}[^{}\s]*)*\}",
    "printf": _PRINTF,
    "tag": r"</?[A-Za-z][^<>]*>|<!--(?:(?!--)[^<>])*-->",
    "entity": r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});",
    "space": r"\A\s+|(?<!\s)\s+\Z|(?<![^\S\n])[^\S\n]*\n\s*",
}
_ANY = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()))
_SLOT = re.compile(_KINDS["slot"])
# Filled in by their order, and so not to be put in another: "%s", "%5.2f", "{}", "{:d}".
_ORDERED = re.compile(r"%(?!\(|[0-9]+\$|%|\{).*|\{(?:[:!].*)?\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Hidden:
    """A text with slots, and what stands for them: slot `⟨i⟩` for `slots[i]`."""

    text: str
    slots: tuple[str, ...]


def find(text: str) -> Iterator[tuple[str, str]]:
    """Yield the placeholders of a text in their order, each with its kind.

    The kinds: `printf` (Python's and C's `%`, `%%` too), `brace` (Python's `{}`), `template` (`{{ }}`,
    `{% %}`, `${}`, `%{}`), `tag` and `entity` of HTML, `url`, `space` (line breaks, and what stands at the
    text's ends), and `slot`, for what only looks like one of ours.
    """
    for match in _ANY.finditer(text):
        yield match[0], str(match.lastgroup)


def hide(text: str, slots: Sequence[str] = ()) -> Hidden:
    """Put slots for a text's placeholders, numbered from 0 in their order.

    Args:
        text: any text.
        slots: those of the text that this one is a translation of: a placeholder that they have gets the
            number that it has there, and others are counted on from their end.

    Returns:
        What `restore` makes the same text of.
    """
    free = dict(enumerate(slots))
    known = list(slots)

    def slot(match: re.Match[str]) -> str:
        number = next((i for i, each in free.items() if each == match[0]), None)
        if number is None:
            number = len(known)
            known.append(match[0])
        else:
            del free[number]
        return f"⟨{number}⟩"

    hidden = _ANY.sub(slot, text)
    return Hidden(hidden, tuple(known))


def restore(text: str, slots: Sequence[str]) -> str:
    """Put the placeholders back for the slots of a text; a slot of no number that there is stays."""

    def placeholder(match: re.Match[str]) -> str:
        number = int(match[0][1:-1])
        return slots[number] if number < len(slots) else match[0]

    return _SLOT.sub(placeholder, text)


def faults(source: str, draft: str) -> tuple[str, ...]:
    """Tell which of a text's placeholders its translation has not kept, a clause each.

    All of them have to be there as often as in the source, in any order; but those that are filled in by
    their order, in that one. Line breaks within may differ, space at the ends may not. Where `%` or braces
    are a program's, no others may stand beside them.
    """
    here, there = Counter(_fixed(source)), Counter(_fixed(draft))
    found = [f"{text!r} is missing" for text in (here - there).elements()]
    found += [f"{text!r} is not in the source" for text in (there - here).elements()]
    if not found and _ordered(source) != _ordered(draft):
        order = ", ".join(map(repr, _ordered(source)))
        found.append(f"the order of {order} has changed, by which they are filled in")
    for name, at in (("begins", 0), ("ends", 1)):
        space, other = _ends(source)[at], _ends(draft)[at]
        if space != other:
            found.append(f"it {name} with {other!r} where the source does with {space!r}")
    kinds = {kind for _, kind in find(source)}
    for sign, kind in (("%", "printf"), ("{", "brace"), ("}", "brace")):
        if kind in kinds and without(draft).count(sign) > without(source).count(sign):
            found.append(f"there is a {sign!r} which is no placeholder")
    return tuple(found)


def kept(source: str, draft: str) -> bool:
    """Tell whether a translation has all of the source's placeholders and no others."""
    return not faults(source, draft)


def with_ends(source: str, draft: str) -> str:
    """Return a translation with the space that the source begins and ends with; an empty one is empty."""
    before, after = _ends(source)
    return before + draft.strip() + after if draft.strip() else ""


def _ends(text: str) -> tuple[str, str]:
    bare = text.strip()
    return (text[: text.index(bare)], text[text.index(bare) + len(bare) :]) if bare else (text, "")


def _fixed(text: str) -> Iterator[str]:
    return (found for found, kind in find(text) if kind != "space")


def _ordered(text: str) -> list[str]:
    return [found for found, kind in find(text) if kind in {"printf", "brace"} and _ORDERED.fullmatch(found)]


def without(text: str) -> str:
    """Return a text without its placeholders."""
    return _ANY.sub("", text)
