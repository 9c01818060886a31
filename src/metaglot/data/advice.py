"""What in a corpus will mislead a model or its evaluation, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations

from metaglot.data.inspection import LONG, SPANS, LanguageReport, counted, noun

_SHOWN = 5


def warnings(
    kind: str,
    labels: Mapping[str, int],
    languages: Mapping[str, LanguageReport],
    similar: Iterable[tuple[str, str]],
    mixed_ids: int,
) -> Iterable[str]:
    """Yield what its user should know of a corpus, a sentence for each kind of trouble.

    Args:
        kind: of the examples.
        labels: label → number of examples, or of spans.
        languages: code → its report.
        similar: what `similar_labels` gave.
        mixed_ids: ids of a parallel corpus on both sides of the split.
    """
    reports = list(languages.values())
    of_spans = kind in SPANS
    for one, other in similar:
        yield (
            f"The labels {one!r} ({counted(labels[one], noun(kind))}) and {other!r} ({labels[other]:,}) may "
            "be one and the same: correct the misspelt one."
        )
    if mixed_ids:
        yield (
            f"In this parallel corpus {counted(mixed_ids, 'id')} can be found in train in one language and "
            "in dev or test in another, so a model is tested on translations of what it was trained on."
        )
    yield from _about(
        [(r, f"{r.leaks + r.near_leaks:,}") for r in reports if r.leaks + r.near_leaks],
        "Texts of dev or test stand in train too, but for case and punctuation, so scores will be too good",
    )
    yield from _about(
        [
            (r, f"{sum(r.duplicates.values()):,}")
            for r in reports
            if 20 * sum(r.duplicates.values()) > r.n_examples
        ],
        "More than 5% of the texts stand in their split more than once",
    )
    yield from _about(
        [(r, f"{r.contradictions:,}") for r in reports if r.contradictions],
        "The same text stands with different labels",
    )
    yield from _about(
        [(r, next(iter(r.labels))) for r in reports if len(r.labels) == 1 and not of_spans],
        "All examples have one label, so there is nothing to learn",
    )
    yield from _about(
        [(r, f"{r.n_examples:,}") for r in reports if not r.labels],
        "No example has a span, so there is nothing to learn",
    )
    yield from _about(
        [(r, f"{r.overlaps:,}") for r in reports if r.overlaps],
        f"Examples have spans that overlap, of which {kind} can learn and predict one alone",
    )
    yield from _about(
        [(r, f"{len(r.missing_labels)} of {len(labels)}") for r in reports if r.missing_labels],
        "Labels that other languages have are missing",
    )
    counts = {r.code: sorted(sum(by_split.values()) for by_split in r.labels.values()) for r in reports}
    yield from _about(
        [
            (r, f"{counts[r.code][-1]:,} to {counts[r.code][0]:,}")
            for r in reports
            if not of_spans and counts[r.code][-1] > 20 * counts[r.code][0]
        ],
        "The commonest label has more than 20 times the examples of the rarest",
    )
    yield from _about(
        [
            (r, f"{r.n_strange:,}, e.g. id {r.strange[0].id} in {r.strange[0].script}")
            for r in reports
            if r.n_strange
        ],
        "Texts are written in another script than the language's others",
    )
    yield from _about(
        [(r, f"{r.long_texts:,}") for r in reports if r.long_texts],
        f"Texts have more than {LONG:,} characters, of which encoders read the beginning alone",
    )


def _about(found: Sequence[tuple[LanguageReport, str]], what: str) -> Iterable[str]:
    """Yield one sentence on all the languages that have some trouble, the first few by name."""
    if found:
        named = ", ".join(f"{report.name} ({detail})" for report, detail in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more languages" if len(found) > _SHOWN else ""
        yield f"{what}: {named}{more}."


def similar_labels(counts: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    """Yield pairs of labels of which the first may be a misspelling of the second.

    They differ in case, spaces or punctuation alone; or by one letter, where the first is at least
    twenty times rarer.
    """
    folded = {label: "".join(c for c in label.casefold() if c.isalnum()) or label for label in counts}
    for one, other in combinations(sorted(counts, key=lambda label: (counts[label], label)), 2):
        rare = counts[one] * 20 <= counts[other]
        if folded[one] == folded[other] or (rare and _one_letter_apart(folded[one], folded[other])):
            yield one, other


def _one_letter_apart(one: str, other: str) -> bool:
    if min(len(one), len(other)) < 5 or abs(len(one) - len(other)) > 1:
        return False
    if any(c.isdigit() for c in one + other):
        return False  # topic1 and topic2 are two
    if len(one) == len(other) and sorted(one) == sorted(other):
        return sum(a != b for a, b in zip(one, other, strict=True)) == 2
    equal = sum(
        block.size for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    )
    return equal >= max(len(one), len(other)) - 1
