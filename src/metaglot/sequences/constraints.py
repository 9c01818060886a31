"""What a decoded text must hold: tokens that are allowed next, given those so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from metaglot.errors import SettingsError
from metaglot.sequences.vocabulary import END

if TYPE_CHECKING:
    from torch import Tensor


class Constraint(Protocol):
    """Which tokens may come next."""

    def least(self, row: int) -> int:
        """Return how many tokens row `row` of the batch needs at least, its end not counted."""
        ...

    def allowed(self, row: int, ids: Sequence[int], room: int) -> Tensor | None:
        """Return True at the tokens that may follow, `[V]`; None if all may.

        At least one token must be allowed, and none that is banned from decoding altogether counts.

        Args:
            row: of the batch.
            ids: the tokens so far, those that the row began with not counted.
            room: how many tokens may yet follow, this one and the end counted.
        """
        ...


class RequireTokens:
    """Reserved tokens occur exactly as often as is required, and no others of them.

    The end is not allowed before all are out, and where there is no more room than they need they are
    all that is allowed: so the constraint holds of every text, the unfinished ones included.

    Args:
        required: for every row the tokens that must occur, each as often as it is listed.
        reserved: all the tokens that occur only where they are required (a vocabulary's slots).
        size: V.
        banned: tokens that are never allowed.

    Raises:
        SettingsError: a token is required and not reserved, or out of range.
    """

    def __init__(
        self,
        required: Sequence[Sequence[int]],
        reserved: Iterable[int],
        size: int,
        banned: Iterable[int] = (),
    ) -> None:
        self.reserved = frozenset(reserved)
        strange = sorted({i for ids in required for i in ids} - self.reserved)
        out = [i for i in self.reserved if not 0 <= i < size]
        if strange or out or END in self.reserved or size <= END:
            raise SettingsError(
                f"expected required tokens among the reserved ones, those from 0 to {size - 1} and without "
                f"the end, found {strange[:5]} required and {sorted(self.reserved)[:5]} … reserved."
            )
        self._required = [Counter(ids) for ids in required]
        self._free = torch.ones(size, dtype=torch.bool)
        self._free[[*self.reserved, *banned]] = False

    @classmethod
    def of_sources(
        cls,
        sources: Iterable[Iterable[int]],
        reserved: Iterable[int],
        size: int,
        banned: Iterable[int] = (),
    ) -> RequireTokens:
        """Return the constraint that the reserved tokens of sources occur as often as they do there."""
        reserved = frozenset(reserved)
        return cls([[i for i in ids if i in reserved] for ids in sources], reserved, size, banned)

    def least(self, row: int) -> int:
        """Return how many tokens are required of a row."""
        return self._required[row].total()

    def allowed(self, row: int, ids: Sequence[int], room: int) -> Tensor | None:
        """Return True at the tokens that may follow, `[V]`."""
        missing = self._required[row] - Counter(i for i in ids if i in self.reserved)
        mask = torch.zeros_like(self._free) if room <= missing.total() else self._free.clone()
        if missing:
            mask[END] = False
            mask[list(missing)] = True
        return mask
