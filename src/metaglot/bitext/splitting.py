"""Which split something belongs to: a function of what it is and of a seed, the same in every run.

So a message of a parallel corpus is in the same split in all languages, whichever of them are loaded, and
another version of the corpus moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from metaglot.errors import SettingsError
from metaglot.storage import text_hash
from metaglot.types import SPLITS

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
"""Split → its share of what is divided."""


def place(key: str, seed: int) -> float:
    """Return where a key stands between 0 and 1: uniform over keys, and independent between seeds."""
    return int(text_hash("split", str(seed), key)[:13], 16) / 16**13


def split_of(key: str, seed: int = 0, shares: Mapping[str, float] = SHARES) -> str:
    """Return the split of what has this key; the shares are met on the average."""
    at, end = place(key, seed), 0.0
    for split in SPLITS:
        end += shares.get(split, 0.0)
        if at < end:
            return split
    return "train"


def deal(keys: Iterable[str], seed: int = 0, shares: Mapping[str, float] = SHARES) -> dict[str, str]:
    """Divide some keys so that the shares are met; each split that has one gets a key while there are enough.

    The order is a function of key and seed, so that few keys more or fewer move few others.

    Returns:
        Key → split.
    """
    order = sorted(set(keys), key=lambda key: place(key, seed))
    wanted = [split for split in SPLITS if shares.get(split, 0) > 0]
    found: dict[str, str] = {}
    start, end = 0, 0.0
    for number, split in enumerate(wanted):
        end += shares[split]
        left = len(wanted) - number - 1
        stop = len(order) if not left else max(round(end * len(order)), start + 1)
        stop = max(min(stop, len(order) - left), min(start + 1, len(order)))
        found.update(dict.fromkeys(order[start:stop], split))
        start = stop
    return found


def check_shares(shares: Mapping[str, float]) -> None:
    """Check that shares are those of splits, and sum up to one.

    Raises:
        SettingsError: they do not.
    """
    if not set(shares) <= set(SPLITS) or min(shares.values(), default=-1) < 0:
        raise SettingsError(f"expected shares of {', '.join(SPLITS)} from 0 to 1, found {dict(shares)}.")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise SettingsError(f"expected shares that sum up to 1, found a sum of {sum(shares.values()):g}.")
