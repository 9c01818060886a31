"""The tables and plots of the documentation, from the result files.

For a corpus C there are `fewshot-C` (every method at every k), `fewshot-C-languages` (each language at
k = 8, or 10 sentences), `fewshot-C-harm` (where the default learner is significantly worse than zero-shot),
`fewshot-C-calibration`, `fewshot-C-METRIC` for the other metrics of a corpus's kind, and
`fewshot-sib200-groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.fewshot import sib
from benchmarks.fewshot.corpora import CORPORA
from benchmarks.fewshot.results import Row, metric_of, read_rows, records_of
from benchmarks.markers import ROOT, fill, markdown, percent
from metaglot.errors import DataError, Where
from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.evaluation.report import UNITS, Report
from metaglot.languages import language_name

RESULTS = ROOT / "benchmarks" / "results" / "fewshot"
ASSETS = ROOT / "docs" / "assets"
LEARNER = "auto"
REFERENCE = "zero-shot"
SHOTS = (8, 10)
"""The k of the tables by language: examples per label, or sentences."""


class Results:
    """The result lines of one corpus and one encoder.

    Attributes:
        whole: those of the methods that were judged on every language with every draw.
        partial: method → its lines, where it was judged on some languages alone.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        by_method: dict[str, list[Row]] = {}
        for row in rows:
            by_method.setdefault(row["method"], []).append(row)
        most = max(by_method.values(), key=_size)
        self.whole = [row for found in by_method.values() if _size(found) == _size(most) for row in found]
        self.partial = {name: found for name, found in by_method.items() if _size(found) != _size(most)}

    def report(self, metric: str | None = None, languages: Sequence[str] | None = None) -> Report:
        """Return the methods judged on every language, summed up over all languages or some."""
        chosen = [row for row in self.whole if languages is None or row["language"] in languages]
        by_example = all(int(k) == size for row in chosen for k, size in row["examples"].items())
        return Report(records_of(chosen, metric), metric, UNITS["example" if by_example else "label"])


def load(*places: Path) -> dict[str, dict[str, Results]]:
    """Return corpus → encoder → results, of some result files, or of all that folders have.

    Raises:
        DataError: there are no results, or a file is damaged.
    """
    files = [file for p in places for file in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p])]
    rows = read_rows(files)
    if not rows:
        raise DataError(
            "expected result files (*.jsonl) with a line at least, found none.",
            where=Where(places[0] if places else None),
            hint="Make some with: python -m benchmarks.fewshot run --help",
        )
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row["corpus"], {}).setdefault(row["encoder"], []).append(row)
    return {corpus: {name: Results(r) for name, r in found[corpus].items()} for corpus in sorted(found)}


def tables(results: Mapping[str, Mapping[str, Results]]) -> dict[str, Callable[[], str]]:
    """Return name → maker of every table that there are results for."""
    made: dict[str, Callable[[], str]] = {}
    for corpus, encoders in results.items():
        for name, table in (
            ("", methods_table),
            ("-languages", languages_table),
            ("-harm", harm_table),
            ("-calibration", calibration_table),
            *([("-groups", groups_table)] if corpus == "sib200" else []),
        ):
            made[f"fewshot-{corpus}{name}"] = partial(_by_encoder, encoders, table)
        for metric in _others(encoders):
            table = partial(metric_table, metric=metric)
            made[f"fewshot-{corpus}-{metric.replace('_', '-')}"] = partial(_by_encoder, encoders, table)
    return made


def filled(page: Path, folder: Path = RESULTS) -> str:
    """Return a page's text with every few-shot table made anew.

    Raises:
        DataError: the page has a place for a table that there are no results for.
    """
    text = page.read_text(encoding="utf-8")
    if "<!-- fewshot-" not in text:
        return text
    made = tables(load(folder))
    for corpus in CORPORA:
        if f"<!-- fewshot-{corpus}" in text and f"fewshot-{corpus}" not in made:
            raise DataError(
                f"expected results of {corpus!r} for {page.name}, found none.", where=Where(folder)
            )
    return fill(text, made)


def plots(results: Mapping[str, Mapping[str, Results]], folder: Path = ASSETS) -> list[Path]:
    """Draw a plot for every corpus and encoder; return the files."""
    made = []
    for corpus, encoders in results.items():
        for number, found in enumerate(encoders.values()):
            path = folder / f"fewshot-{corpus}{f'-{number + 1}' if number else ''}.png"
            found.report().plot(path)
            made.append(path)
    return made


def methods_table(results: Results) -> str:
    """Every method at every k, and the default learner less the best baseline, chosen in hindsight."""
    report = results.report()
    rows = _method_rows(report)
    if LEARNER in report.learners:
        found = [report.against_best(LEARNER, k) for k in report.shots]
        named = [f"*{d.baseline}*" if d else "–" for d in found]
        shown = [
            f"{100 * d.cell.mean:+.1f} ({100 * d.cell.low:+.1f} to {100 * d.cell.high:+.1f})" if d else "–"
            for d in found
        ]
        rows += [["best baseline", *named], [f"`{LEARNER}` less it", *shown]]
    text = markdown(_head("method", report), rows)
    return text + "".join(f"\n{_partial(results, name)}" for name in results.partial)


def languages_table(results: Results) -> str:
    """Each language at k = 8, or 10 sentences: zero-shot, the best baseline over languages, the learner."""
    report = results.report()
    shots = next((k for k in SHOTS if k in report.shots), max(report.shots))
    best = report.against_best(LEARNER, shots)
    if best is None:
        return f"*No results of `{LEARNER}` beside a baseline at k = {shots}.*\n"
    methods = tuple(dict.fromkeys((REFERENCE, best.baseline, LEARNER)))
    values = [report.values(method, shots) for method in methods]
    rows = []
    for place, code in enumerate(report.languages):
        means = [None if v is None else float(v[place].mean()) for v in values]
        gain = "–" if means[0] is None else f"{100 * (means[-1] - means[0]):+.1f}"
        shown = ["–" if mean is None else f"{100 * mean:.1f}" for mean in means]
        rows.append([f"{language_name(code)} (`{code}`)", *shown, gain])
    head = ["language", *(f"*{method}*" for method in methods[:-1]), f"`{LEARNER}`", f"over {REFERENCE}"]
    return markdown(head, rows)


def harm_table(results: Results) -> str:
    """At every k the languages where the learner is worse than zero-shot: the paired interval is below 0."""
    rows = [
        [f"k = {k}", str(len(found)), ", ".join(f"{language_name(c)} ({d:+.1f})" for c, d in found) or "none"]
        for k, found in harmed(results.report()).items()
    ]
    return markdown(["", "languages", f"`{LEARNER}` less {REFERENCE}, points"], rows)


def harmed(report: Report) -> dict[int, list[tuple[str, float]]]:
    """Return k → the languages where the learner is significantly worse than zero-shot, and by how much.

    Significantly: the 95% bootstrap interval of the paired difference, over draws, is below 0.
    """
    found: dict[int, list[tuple[str, float]]] = {}
    for k in (k for k in report.shots if k):
        ours, base = report.values(LEARNER, k), report.values(REFERENCE, k)
        if ours is None or base is None:
            continue
        found[k] = [
            (code, 100 * float((ours[place] - base[place]).mean()))
            for place, code in enumerate(report.languages)
            if bootstrap_interval((ours - base)[place : place + 1])[1] < 0
        ]
    return found


def calibration_table(results: Results) -> str:
    """The expected calibration error of every method, in points; lower is better."""
    report = results.report("calibration_error")
    rows = []
    for method in [*report.learners, *report.baselines]:
        cells = [report.cell(method, k) for k in report.shots]
        shown = ["–" if cell is None else f"{100 * cell.mean:.1f}" for cell in cells]
        rows.append([_shown(report, method), *shown])
    return markdown(_head("method", report), rows)


def metric_table(results: Results, metric: str) -> str:
    """Every method at every k by another metric than the one that counts; means alone."""
    report = results.report(metric)
    return markdown(_head("method", report), _method_rows(report))


def groups_table(results: Results) -> str:
    """SIB-200 by group of languages, a table for each."""
    every = results.report().languages
    made = []
    for group in sib.GROUPS:
        codes = [code for code in every if group in sib.groups(code)]
        if codes:
            report = results.report(languages=codes)
            table = markdown(_head("method", report), _method_rows(report))
            made.append(f"*{group}, {len(codes)} languages*\n\n{table}")
    return "\n".join(made)


def _method_rows(report: Report) -> list[list[str]]:
    """A row for each method, the best of each column in bold."""
    cells = {m: [report.cell(m, k) for k in report.shots] for m in [*report.learners, *report.baselines]}
    best = [
        max((row[i].mean for row in cells.values() if row[i]), default=0.0) for i in range(len(report.shots))
    ]
    return [
        [
            _shown(report, method),
            *(
                percent(cell, bold=cell is not None and cell.mean == top)
                for cell, top in zip(row, best, strict=True)
            ),
        ]
        for method, row in cells.items()
    ]


def _partial(results: Results, method: str) -> str:
    """A method that was judged on some languages, beside the learner and zero-shot on the same ones."""
    rows = results.partial[method]
    languages = {row["language"] for row in rows}
    shots = set.intersection(
        *({k for k, v in row[metric_of(row)].items() if len(v) == _draws(rows, k)} for row in rows)
    )
    beside = [r for r in results.whole if r["language"] in languages and r["method"] in {LEARNER, REFERENCE}]
    cut = [
        row | {name: {k: v[: _draws(rows, k)] for k, v in row[name].items() if k in shots}}
        for row in [*rows, *beside]
        for name in [metric_of(row)]
    ]
    report = Report(records_of(cut))
    draws = max(_draws(rows, k) for k in shots)
    often = "one draw" if draws == 1 else f"up to {draws} draws"
    title = f"*{method}* was judged on {len(languages)} languages, with {often}:"
    return f"{title}\n\n{markdown(_head('method', report), _method_rows(report))}"


def _others(encoders: Mapping[str, Results]) -> list[str]:
    """The metrics that lines have means of, beside the one that counts; not those of single units."""
    row = next(iter(encoders.values())).whole[0]
    units = {"log_loss", "calibration_error", "examples", metric_of(row)}
    return [name for name, value in row.items() if isinstance(value, dict) and name not in units]


def _draws(rows: Sequence[Row], k: str) -> int:
    return min(len(row[metric_of(row)].get(k, ())) for row in rows)


def _size(rows: Sequence[Row]) -> tuple[int, int]:
    """How many languages, and how many draws with examples, a method was judged on."""
    draws = sum(len(values) for row in rows for k, values in row[metric_of(row)].items() if k != "0")
    return len({row["language"] for row in rows}), draws


def _by_encoder(encoders: Mapping[str, Results], table: Callable[[Results], str]) -> str:
    if len(encoders) == 1:
        return table(next(iter(encoders.values())))
    return "\n".join(f"*Encoder: `{name}`*\n\n{table(found)}" for name, found in encoders.items())


def _head(first: str, report: Report) -> list[str]:
    return [first, *("no examples" if k == 0 else f"k = {k}" for k in report.shots)]


def _shown(report: Report, method: str) -> str:
    return f"`{method}`" if method in report.learners else f"*{method}*"
