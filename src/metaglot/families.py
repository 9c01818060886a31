"""Language families and their branches: which languages are kin.

A family is the largest group that is known to have a common ancestor (Indo-European, Atlantic-Congo,
Turkic), a branch one about as old as Germanic, Romance, Indic or Bantu: a WALS genus (Dryer 1989,
"Large linguistic areas and language sampling"). Branches are what to group languages of a corpus by:
a corpus's languages are often of two or three families in all, and half of Europe and India is one.

The table `families.tsv` says where it is from (Glottolog and WALS, both CC BY 4.0), and
`tools/make_families.py` makes it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

# A code of the house: ISO 639-3, script, region. "zha-village" is a custom one, and no Zhuang.
_CODE = re.compile(r"([a-z]{3})(?:_[A-Z][a-z]{3})?(?:_(?:[A-Z]{2}|[0-9]{3}))?")


def family(code: str) -> str | None:
    """Return the name of a language's family, or None where none is known.

    An isolate (Basque) is a family of its own; artificial languages count as one.

    Args:
        code: as `parse_language` gives it; a macrolanguage's (`swa`) will do, and a custom code has none.
    """
    place = _place(code)
    return place and place[0]


def branch(code: str) -> str | None:
    """Return the name of a language's branch, or None where no family is known.

    A creole is of the branch that most of its words come from. A family that has no branches, or a
    language of no known branch, is given by the family's name.

    Args:
        code: as for `family`.
    """
    place = _place(code)
    return place and place[1]


def _place(code: str) -> tuple[str, str] | None:
    found = _CODE.fullmatch(code)
    return _table().get(found[1]) if found else None


@lru_cache(maxsize=1)
def _table() -> dict[str, tuple[str, str]]:
    """ISO 639-3 code → family, branch."""
    text = resources.files("metaglot").joinpath("families.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return {code: (above, name) for above, name, codes in rows for code in codes.split()}
