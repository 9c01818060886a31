"""Language codes and names → one code for one language.

The code is ISO 639-3, with a script where it is not the language's usual one (`uzn_Arab`) or where
two are usual (`zho_Hans`, `srp_Latn`), and with a region only on request (`por_BR`). Names and tags
are read by `langcodes` with the CLDR's data (`language_data`).
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import langcodes
from langcodes import tag_parser
from langcodes.data_dicts import NORMALIZED_MACROLANGUAGES

from metaglot.errors import LanguageError

# Written in two scripts by large communities: the script is part of the code even where it is the
# more usual one, if the input named it.
_TWO_SCRIPTS = {"zho", "srp", "yue"}
# The macrolanguage's code is what people write; the individual's ("ekk", "cmn") is not.
_KEPT_MACRO = {"ekk": "et", "cmn": "zh"}


@lru_cache
def _default_individual() -> dict[str, str]:
    """Macrolanguage → the individual language that the CLDR takes it for (sw → swh)."""
    count = Counter(NORMALIZED_MACROLANGUAGES.values())
    return {
        macro: individual
        for individual, macro in NORMALIZED_MACROLANGUAGES.items()
        if len(individual) == 3 and count[macro] == 1 and individual not in _KEPT_MACRO
    }


@lru_cache(maxsize=4096)
def parse_language(text: str, *, region: bool = False) -> str:
    """Return the code of the language that `text` names.

    `text` may be an ISO 639-1, -2 or -3 code, a BCP-47 tag with hyphens or underscores, a name in
    English or in the language itself, or a treebank's folder name (`af_Afrikaans-AfriBooms`).

    Args:
        text: the code or name.
        region: keep a region that the tag names (`pt-BR` → `por_BR`).

    Raises:
        LanguageError: no standard knows `text`; the message suggests what was meant.
    """
    cleaned = text.strip()
    tag = _as_tag(cleaned) or _as_name(cleaned) or _as_tag(re.split(r"[_-]", cleaned)[0])
    if tag is None or (tag.language or "") in {"und", "mul", "mis", "zxx"}:
        raise LanguageError(
            f"expected a language code or name, found {text!r}, which no standard knows.",
            hint=_suggest(cleaned),
        )
    return _code(tag, region)


def custom_language(text: str) -> str:
    """Return a usable code for a language that no standard knows: its own name, cleaned."""
    return re.sub(r"[^\w]+", "-", text.strip().casefold()).strip("-_") or "unnamed"


@lru_cache(maxsize=4096)
def language_name(code: str) -> str:
    """Return the English name of a code, or the code itself where it has none."""
    try:
        tag = langcodes.get(code)
        name = tag.display_name() if tag.is_valid() else code
    except tag_parser.LanguageTagError:
        return code
    return code if name.startswith("Unknown language") else name.removesuffix(" (individual language)")


def _as_tag(text: str) -> langcodes.Language | None:
    try:
        tag, literal = langcodes.get(text, normalize=True), langcodes.get(text, normalize=False)
    except (tag_parser.LanguageTagError, ValueError):
        return None
    if tag.territory and not literal.territory and literal.is_valid():
        tag = literal  # "prs" (Dari) normalises to Persian of Afghanistan: two languages, not one
    private = (tag.language or "x-").startswith("x-")
    return tag if not private and tag.is_valid() else None


def _find(text: str) -> langcodes.Language | None:
    """The language whose name is like `text`, or None."""
    if not text.isprintable():  # the trie under it takes control characters for its own, and fails
        return None
    try:
        return langcodes.find(text)
    except LookupError:
        return None


def _as_name(text: str) -> langcodes.Language | None:
    tag = _find(text)
    if tag is None:
        return None
    # find() is fuzzy ("nosuch" gives Nuosu): only a name that is really the language's own counts.
    names = {tag.display_name().casefold(), tag.autonym().casefold()}
    return tag if text.casefold() in names else None


def _code(tag: langcodes.Language, region: bool) -> str:
    short = tag.language or "und"
    short = _KEPT_MACRO.get(short, short)
    base = _default_individual().get(short) or (
        short if len(short) == 3 else langcodes.get(short).to_alpha3()
    )
    code = base
    usual = langcodes.get(short).maximize().script
    script = tag.script
    if script is None and base in _TWO_SCRIPTS and tag.territory:
        script = tag.maximize().script
    if script is not None and (script != usual or base in _TWO_SCRIPTS):
        code += f"_{script}"
    if region and tag.territory:
        code += f"_{tag.territory}"
    return code


def _suggest(text: str) -> str:
    found = _find(text)
    if found is not None:
        return f"Did you mean {found.display_name()} ({_code(found, False)})?"
    near = [f"{code} ({language_name(code)})" for code in _near_codes(text)[:3]]
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return "Give an ISO 639-3 code such as 'swh', or a name such as 'Swahili'."


def _near_codes(text: str) -> list[str]:
    """Codes one edit away from `text` that name a language."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    word = text.casefold()[:4]
    edits = {word[:i] + c + word[i + 1 :] for i in range(len(word)) for c in letters}
    edits |= {word[:i] + word[i + 1 :] for i in range(len(word))}
    edits |= {word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    found = {}
    for edit in sorted(edits):
        tag = _as_tag(edit) if 2 <= len(edit) <= 3 else None
        if tag is not None and tag.speaking_population() > 100_000:
            found[_code(tag, False)] = tag.speaking_population()
    return sorted(found, key=lambda code: -found[code])
