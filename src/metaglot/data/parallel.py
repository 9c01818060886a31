"""Whether ids name the same content in every language, told from the data.

Row numbers are shared by files that have nothing else in common, so shared ids prove nothing. The
lengths of translations do: they go together even after each label's mean is taken from them. In the
median pair of languages of real corpora the correlation of the logarithms of lengths over shared ids is
0.88 (SIB-200), 0.93 (XNLI), 0.90 (AfriXNLI), 0.81 (MTOP) and 0.98 (RELX) for translations, and 0.01
(Injongo), 0.00 (MasakhaNEWS) and 0.02 (Facebook's multilingual TOP) for ids that are counters; the
largest of any pair of these last is 0.30, the smallest of SIB-200's is 0.61.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np

from metaglot.languages import language_name
from metaglot.types import Example

_LEAST_CORRELATION = 0.5
# A chance correlation over n ids has the deviation 1/sqrt(n); many pairs of languages are tried.
_DEVIATIONS = 4.5
# Translators' and annotators' slips leave it at 0.75 for some pairs of RELX; chance has the labels' share.
_LEAST_AGREEMENT = 0.7
# Over a few ids that two languages happen to share, chance and drift go further.
_LEAST_SHARED = 0.5
_MOST_PAIRS = 500


def find_parallel(examples: Iterable[Example]) -> str | None:
    """Look for two languages in which the same ids have translations of one another.

    Args:
        examples: of any number of languages; ids stand once in a language.

    Returns:
        The evidence in words, or `None` if no pair of languages is parallel. Two languages have to
        share at least 21 ids for any to be found.
    """
    tables: dict[str, dict[str, tuple[str, int]]] = {}
    for example in examples:
        tables.setdefault(example.language, {})[example.id] = (example.label, len(example.text))
    pairs = list(combinations(sorted(tables), 2))
    if len(pairs) > _MOST_PAIRS:
        pairs = random.Random(0).sample(pairs, _MOST_PAIRS)
    for one, other in pairs:
        found = _correlation(tables[one], tables[other])
        if found is not None:
            correlation, shared = found
            return (
                f"the lengths of the {shared:,} texts whose ids {language_name(one)} and "
                f"{language_name(other)} share go together (correlation {correlation:.2f})"
            )
    return None


def _correlation(
    one: Mapping[str, tuple[str, int]], other: Mapping[str, tuple[str, int]]
) -> tuple[float, int] | None:
    """Return the correlation of lengths within labels, and over how many ids, if these are parallel."""
    shared = one.keys() & other.keys()
    agreed = [key for key in shared if one[key][0] == other[key][0]]
    least = max(_LEAST_CORRELATION, _DEVIATIONS / max(len(agreed), 1) ** 0.5)
    if len(shared) < _LEAST_SHARED * min(len(one), len(other)) or len(agreed) < _LEAST_AGREEMENT * len(
        shared
    ):
        return None
    if least >= 1:
        return None
    lengths = np.log([[one[key][1], other[key][1]] for key in agreed])
    _, labels = np.unique([one[key][0] for key in agreed], return_inverse=True)
    counts = np.bincount(labels)
    within = np.stack([x - (np.bincount(labels, x) / counts)[labels] for x in lengths.T])
    spread = np.sqrt((within**2).sum(axis=1)).prod()
    correlation = float(within[0] @ within[1] / spread) if spread > 1e-9 else 0.0
    return (correlation, len(agreed)) if correlation >= least else None
