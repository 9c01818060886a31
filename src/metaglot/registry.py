"""Look-up by name.

A registry is a literal dictionary in a package's `__init__.py`, from name to `"module:attribute"`,
so that one file shows all there is and listing the names imports nothing heavy. Third parties add
to it by an entry point of the group `metaglot.<what>`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from metaglot.errors import UnknownNameError, suggestion


class Registry(Mapping[str, Any]):
    """Name → object, imported when it is first asked for.

    Args:
        what: the singular noun used in messages and, in plural, as the entry-point group.
        own: the built-in entries, name → `"module:attribute"`.
        plural: of `what`, where an `s` does not make it.
    """

    def __init__(self, what: str, own: Mapping[str, str], *, plural: str = "") -> None:
        self.what = what
        self._targets = dict(own)
        for point in entry_points(group=f"metaglot.{plural or what + 's'}"):
            self._targets.setdefault(point.name, point.value)

    def __getitem__(self, name: str) -> Any:
        if name not in self._targets:
            raise UnknownNameError(
                f"expected a {self.what} ({', '.join(sorted(self._targets))}), found {name!r}.",
                hint=suggestion(name, self._targets),
            )
        module, _, attribute = self._targets[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def describe(self) -> dict[str, str]:
        """Return name → the first line of what it names has for a docstring."""
        return {name: (self[name].__doc__ or "").strip().partition("\n")[0] for name in self}
