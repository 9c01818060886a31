"""Errors that say what was expected, what was found, where, and what to do.

Every fault that a user can cause is a `MetaglotError`. The command line prints it in one
piece and exits with code 2; in Python it is an ordinary exception. Anything else that
escapes is a bug of metaglot.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Where:
    """A place in the user's data: a file, and where they are known its line and field."""

    file: str | Path | None = None
    line: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        parts = [] if self.file is None else [str(self.file)]
        if self.line is not None:
            parts.append(f"line {self.line}")
        if self.field is not None:
            parts.append(f"field {self.field!r}")
        return ", ".join(parts)


class MetaglotError(Exception):
    """A fault that its reader can mend.

    `problem` says what was expected and what was found, `where` the place, `hint` the remedy.
    """

    def __init__(self, problem: str, *, where: Where | None = None, hint: str = "") -> None:
        self.problem = problem
        self.where = where
        self.hint = hint
        place = f"{where}: " if where is not None and str(where) else ""
        super().__init__(place + problem + (f"\n{hint}" if hint else ""))


class DataError(MetaglotError):
    """The user's data cannot be read or do not fit the task."""


class SettingsError(MetaglotError):
    """An option, a recipe or a combination of parts makes no sense."""


class UnknownNameError(SettingsError):
    """A name that is not registered."""


class LanguageError(MetaglotError):
    """A language code or name that no standard knows."""


class EncoderError(MetaglotError):
    """An encoder is missing, broken or of an unknown format."""


class ArtifactError(MetaglotError):
    """A saved model is incomplete, damaged, or does not fit what it is asked to do."""


class StorageError(MetaglotError):
    """A file could not be written: no space, no permission."""


class TrainingError(MetaglotError):
    """Training diverged or cannot start."""


class MissingExtraError(MetaglotError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed.",
            hint=f"Install it with: pip install 'metaglot[{extra}]'",
        )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'?" for the known names nearest to `name`, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if not near:
        folded = {k.casefold(): k for k in known}
        near = [folded[name.casefold()]] if name.casefold() in folded else []
    return f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
