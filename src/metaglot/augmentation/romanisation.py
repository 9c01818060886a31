"""Any script in Latin letters, by uroman (Hermjakob, May & Knight 2018).

This project uses the universal romanizer software 'uroman' written by Ulf Hermjakob, USC Information
Sciences Institute (2015-2020).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from metaglot.augmentation.writing import Writing
from metaglot.errors import MissingExtraError


def romanise(text: str, chance: np.random.Generator, writing: Writing, strength: float = 1.0) -> str:
    """The whole text in plain Latin letters, whatever its script; needs the extra `romanise`.

    `strength` is the chance of the text. What a letter becomes may depend on the language.

    Raises:
        MissingExtraError: uroman is not installed.
    """
    # Before the die is cast, so that what is missing is said by the first text already.
    tool = _uroman()
    if chance.random() >= strength:
        return text
    return str(tool.romanize_string(text, lcode=writing.language.partition("_")[0]))


@cache
def _uroman() -> Any:
    """Return uroman, whose tables take some seconds to read."""
    try:
        from uroman import Uroman  # type: ignore[import-untyped] # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise MissingExtraError("uroman", "romanise", "Romanising texts") from error
    return Uroman()
