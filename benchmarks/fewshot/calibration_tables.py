"""The tables of the page on calibration, from its result file.

`calibration-spread`, `calibration-temperature`, `calibration-precision`, `calibration-sets` and
`calibration-scope`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.markers import fill, markdown

Row = dict[str, Any]


def filled(text: str, found: Mapping[str, Any]) -> str:
    """Return a page's text with the tables made anew."""
    parts = found["parts"]
    tables: dict[str, Callable[[], str]] = {
        "calibration-spread": lambda: spread_table(parts),
        "calibration-temperature": lambda: temperature_table(parts),
        "calibration-precision": lambda: precision_table(parts),
        "calibration-sets": lambda: sets_table(parts),
        "calibration-scope": lambda: scope_table(parts),
    }
    return fill(text, tables)


def spread_table(parts: Mapping[str, Sequence[Row]]) -> str:
    """The root mean square of the best log T over source languages, corpora × shots."""
    rows = [
        [f"{corpus}, {found[0]['languages']} languages", *(f"{row['spread']:.2f}" for row in found)]
        for corpus, found in _of(parts, "sources")
    ]
    return markdown(["best log T of source languages", *_heads(parts, "sources")], rows)


def temperature_table(parts: Mapping[str, Sequence[Row]]) -> str:
    """Expected calibration error before → after, methods × shots."""
    rows = []
    for corpus, found in _of(parts, "known"):
        shots = _shots(found)
        for method in dict.fromkeys(row["method"] for row in found):
            cells = []
            for k in shots:
                row = _one(found, method=method, shots=k)
                error = "calibration_error"
                cells.append(f"{_percent(row[f'{error} before'])} → {_percent(row[f'{error} after'])}")
            rows.append([f"{corpus}, {method}", *cells])
    return markdown(["ECE, %", *_heads(parts, "known")], rows)


def precision_table(parts: Mapping[str, Sequence[Row]]) -> str:
    """What became of promises of precision, by `auto`."""
    rows = []
    for corpus, found in _of(parts, "known"):
        for row in (row for row in found if row["method"] == "auto"):
            for precision in (0.9, 0.95):
                cells = [_percent(row[f"promised {precision}"])]
                for word in ("promised", "believed"):
                    cells += [
                        _percent(row.get(f"{name} {precision} {word}"))
                        for name in ("sure", "right", "broken")
                    ]
                cells.append(_percent(row.get(f"broken {precision} naive")))
                rows.append([f"{corpus}, k = {row['shots']}, {precision:.0%}", *cells])
    return markdown(
        ["%", "promised", "sure", "right", "broken", "else: sure", "right", "below", "untested: broken"],
        rows,
    )


def sets_table(parts: Mapping[str, Sequence[Row]]) -> str:
    """Label sets for a coverage of 90%: how often they hold the true label, and how many they hold."""
    rows = [
        [
            f"{corpus}, {method}",
            *(
                f"{_percent(row['covered 0.9'])} ({row['labels 0.9']:.1f})"
                for row in found
                if row["method"] == method
            ),
        ]
        for corpus, found in _of(parts, "known")
        for method in dict.fromkeys(row["method"] for row in found)
    ]
    return markdown(["covered, % (labels)", *_heads(parts, "known")], rows)


def scope_table(parts: Mapping[str, Sequence[Row]]) -> str:
    """AUROC and FPR@95 of every score; of the one that is used, what its threshold lets through."""
    rows = []
    for corpus, found in _of(parts, "left out"):
        for score in dict.fromkeys(row["score"] for row in found):
            cells = [
                f"{_percent(row['auroc'])} / {_percent(row['fpr95'], 0)}"
                for row in found
                if row["score"] == score
            ]
            rows.append([f"{corpus}, {score}", *cells])
        ours = [row for row in found if row["score"] == "largest logit"]
        cells = [
            f"{_percent(row.get('in scope'), 0)} / {_percent(row.get('let through'), 0)}" for row in ours
        ]
        rows.append([f"{corpus}, in scope: known / unknown", *cells])
    return markdown(["AUROC / FPR@95, %", *_heads(parts, "left out")], rows)


def _of(parts: Mapping[str, Sequence[Row]], what: str) -> list[tuple[str, Sequence[Row]]]:
    return [(place.split(":")[0], rows) for place, rows in parts.items() if place.endswith(what)]


def _shots(rows: Sequence[Row]) -> list[int]:
    return list(dict.fromkeys(row["shots"] for row in rows))


def _heads(parts: Mapping[str, Sequence[Row]], what: str) -> list[str]:
    return [f"k = {k}" for k in _shots(_of(parts, what)[0][1])]


def _one(rows: Sequence[Row], **wanted: Any) -> Row:
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"
