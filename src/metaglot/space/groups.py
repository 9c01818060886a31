"""Groups of languages: families, branches, or the user's own.

A learner that knows groups learns what the tasks of one have in common; a new language of a group that
the sources have starts from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metaglot.errors import LanguageError, SettingsError, suggestion
from metaglot.families import branch, family
from metaglot.languages import custom_language, language_name, parse_language

_RULES: dict[str, Callable[[str], str | None]] = {"branch": branch, "family": family, "none": lambda _: None}


@dataclass(frozen=True)
class Groups:
    """Which groups the sources are of, and which of them a language is of.

    Attributes:
        by: `"branch"`, `"family"`, `"none"`, or language code → name of its group.
        names: the groups of the sources, sorted.
    """

    by: str | Mapping[str, str] = "none"
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, sources: Iterable[str], by: str | Mapping[str, str]) -> Groups:
        """Return the groups of source languages.

        Args:
            sources: the codes of the source languages.
            by: `"branch"`, `"family"`, `"none"`, or language → name of its group, where a language is
                named by its code or in words and one that is not named is of no group.

        Raises:
            SettingsError: there is no such rule, or one language is given two groups.
            LanguageError: a name is that of no language, and looks like a misspelt source.
        """
        if isinstance(by, str):
            if by not in _RULES:
                raise SettingsError(
                    f"expected groups by {', '.join(_RULES)} or a table of them, found {by!r}.",
                    hint=suggestion(by, _RULES),
                )
        else:
            by = _by_code(by, sources := tuple(sources))
        groups = cls(by)
        return cls(by, tuple(sorted({name for code in sources if (name := groups.name(code)) is not None})))

    def name(self, language: str) -> str | None:
        """Return the name of a language's group, whether the sources have it or not, or None."""
        if isinstance(self.by, str):
            return _RULES[self.by](language)
        return self.by.get(language) or self.by.get(language.partition("_")[0])

    def number(self, language: str) -> int:
        """Return the place of a language's group in `names`, or −1: the sources have none of it."""
        name = self.name(language)
        return self.names.index(name) if name in self.names else -1

    def as_dict(self) -> dict[str, Any]:
        """Return the groups as plain values."""
        return {"by": self.by if isinstance(self.by, str) else dict(self.by), "names": list(self.names)}


def _by_code(by: Mapping[str, str], sources: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for written, group in by.items():
        code = _code(written, sources)
        if found.setdefault(code, group) != group:
            raise SettingsError(
                f"expected one group for {language_name(code)}, found both {found[code]!r} and {group!r}."
            )
    return found


def _code(written: str, sources: tuple[str, ...]) -> str:
    if written in sources:
        return written
    try:
        return parse_language(written, region=True)
    except LanguageError as error:
        names = {language_name(code): code for code in sources}
        if near := suggestion(written, [*sources, *names]):
            raise LanguageError(
                f"groups: expected a language, found {written!r}, which no standard knows.", hint=near
            ) from error
        return custom_language(written)  # a language to come, which no standard knows either
