"""Corpus scores of drafts beside references, and whether one system is better than another.

chrF (Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"), chrF++ (Popović 2017,
"chrF++: words helping character n-grams") and BLEU (Papineni et al. 2002) are sacrebleu's, with the
signature that it gives (Post 2018, "A call for clarity in reporting BLEU scores"): all from 0 to 100.

Systems are compared by the paired bootstrap (Koehn 2004, "Statistical significance tests for machine
translation evaluation", section 3): sentences are drawn with replacement, the same for both, and the corpus
scores are computed anew from what the metric counts of each sentence, its sufficient statistics.

Letters: `n` sentences, `k` statistics of one, `B` resamples.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from metaglot.errors import DataError, LanguageError, MissingExtraError, SettingsError, suggestion
from metaglot.languages import parse_language
from metaglot.space import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = {"chrf++": "chrF++", "chrf": "chrF", "bleu": "BLEU"}
"""Name of a metric → as it is written."""

System = tuple[Sequence[str], Sequence[str], Sequence[str]]
"""The drafts of a first and of a second system, and the references."""

_CHINESE = ("zho", "cmn", "yue", "wuu", "nan", "hak", "lzh")
_SPACELESS = ("tha", "khm", "mya", "lao", "bod", "dzo", "shn")
_CHUNK = 2**22  # draws that are held at a time
_SAME = 1e-9  # of scores that are rounded differently


@dataclass(frozen=True)
class Score:
    """What a metric gives a system on a corpus.

    Attributes:
        name: of the metric.
        value: from 0 to 100, more is better.
        signature: sacrebleu's: how the value came about, with its version.
    """

    name: str
    value: float
    signature: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text.assemble((METRICS[self.name], "bold"), f" {self.value:.1f}  ", (self.signature, "dim"))


@dataclass(frozen=True)
class Comparison:
    """Two systems beside the same references.

    Attributes:
        metric: its name.
        first: the first system's score, from 0 to 100.
        second: the second system's.
        difference: the first less the second.
        low: where the 95% interval of the difference begins: the 2.5% quantile of resamples.
        high: where it ends.
        p: how often a difference as large as this, of either sign, would come about if there were none.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self.metric, {"": self})


@dataclass(frozen=True)
class LanguageComparison:
    """Two systems in several languages.

    Attributes:
        by_language: name → the comparison in that language.
        mean: of the means over languages of the corpus scores.
        resampled_languages: whether the mean's interval and p are of resampled languages, too.
    """

    by_language: dict[str, Comparison]
    mean: Comparison
    resampled_languages: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self.mean.metric, self.by_language | {"mean": self.mean})


def score(
    drafts: Sequence[str],
    references: Sequence[str],
    metrics: Sequence[str] = ("chrf++", "bleu"),
    *,
    language: str = "",
) -> list[Score]:
    """Return the corpus scores of drafts.

    BLEU is of words, which sacrebleu's default tokenizer (13a) parts at spaces and punctuation. Where the
    language is written without spaces another is taken: `zh` for Chinese, `ja-mecab` for Japanese where
    MeCab is installed (`sacrebleu[ja]`), else `char`, and `char` for Thai, Khmer, Burmese, Lao, Tibetan,
    Dzongkha and Shan: such scores, as their signatures say, are not of words and compare with one another
    alone. chrF and chrF++ need no tokenizer.

    Args:
        drafts: what a system wrote.
        references: what it should have been, one for each draft.
        metrics: names in `METRICS`.
        language: that the drafts are in; matters to BLEU alone.

    Raises:
        DataError: there are no drafts, or not as many as references, or they are no texts.
        SettingsError: there is no such metric.
        MissingExtraError: sacrebleu is not installed.
    """
    _check(references, drafts)
    found = []
    for name in metrics:
        metric = _metric(name, language)
        value = metric.corpus_score(list(drafts), [list(references)]).score
        found.append(Score(name, float(value), str(metric.get_signature())))
    return found


def compare(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[str],
    metric: str = "chrf++",
    *,
    language: str = "",
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two systems on the same sentences by the paired bootstrap.

    With d the difference of the corpus scores and d*ᵦ that of resample b, the p-value is two-sided, of
    resamples that are shifted to have no difference, as under the null hypothesis (Efron & Tibshirani
    1993, "An introduction to the bootstrap", section 16.4):

        p = (1 + #{b : |d*ᵦ − mean d*| ≥ |d|}) / (B + 1)

    Of fewer than some dozens of sentences neither p nor the interval is to be trusted: what was not seen
    cannot be drawn.

    Args:
        first: a system's drafts.
        second: the other's.
        references: one for each draft.
        metric: a name in `METRICS`.
        language: that the drafts are in; see `score`.
        samples: B; p is at least 1 / (B + 1).
        seed: of the resamples.

    Raises:
        DataError: there are no drafts, or not as many as references, or they are no texts.
        SettingsError: there is no such metric, or `samples` is below 1.
        MissingExtraError: sacrebleu is not installed.
    """
    pairs = {"": (first, second, references)}
    return compare_languages(pairs, metric, language=language, samples=samples, seed=seed).by_language[""]


def compare_languages(
    systems: Mapping[str, System],
    metric: str = "chrf++",
    *,
    language: str | Mapping[str, str] = "",
    samples: int = 1000,
    seed: int = 0,
    resample_languages: bool = False,
) -> LanguageComparison:
    """Compare two systems in several languages, each by itself and in the mean.

    Sentences are resampled within each language, independently of other languages. That answers: would
    the first system be better on other sentences of these languages? With `resample_languages` as many
    languages are drawn with replacement first, which asks for other languages, too, of which these are
    taken for a random sample; from fewer than ten or so the interval comes out too narrow.

    Args:
        systems: name → the first system's drafts, the second's, and the references.
        metric: a name in `METRICS`.
        language: that drafts are in, one for all or by name; see `score`.
        samples: B.
        seed: of the resamples; a language's do not depend on which others there are.
        resample_languages: whether languages are drawn, too.

    Raises:
        DataError: there is no language, or in one there are no drafts, or not as many as references.
        SettingsError: there is no such metric, or `samples` is below 1.
        MissingExtraError: sacrebleu is not installed.
    """
    if not systems:
        raise DataError("expected systems to compare in at least one language, found none.")
    if samples < 1:
        raise SettingsError(f"expected at least 1 resample, found {samples}.")
    rows, drawn, found = [], [], {}
    for name, (first, second, references) in systems.items():
        _check(references, first, second, language=name)
        spoken = language if isinstance(language, str) else language.get(name, "")
        scores, resampled = _resampled(
            _metric(metric, spoken), first, second, references, samples, seed, name
        )
        rows.append(scores)
        drawn.append(resampled)
        found[name] = _comparison(metric, scores, resampled[0] - resampled[1])
    differences = np.stack([resampled[0] - resampled[1] for resampled in drawn])
    if resample_languages:
        differences = _of_drawn_languages(differences, seed)
    mean = _comparison(metric, np.mean(rows, axis=0), differences.mean(0))
    return LanguageComparison(found, mean, resample_languages)


def _metric(name: str, language: str) -> Any:
    if name not in METRICS:
        raise SettingsError(
            f"expected a metric ({', '.join(METRICS)}), found {name!r}.", hint=suggestion(name, METRICS)
        )
    try:
        metrics = importlib.import_module("sacrebleu.metrics")
    except ImportError as error:
        raise MissingExtraError("sacrebleu", "translate", f"Scoring by {METRICS[name]}") from error
    if name == "bleu":
        return metrics.BLEU(tokenize=_tokenizer(language), force=True)  # no warning of tokenized drafts
    return metrics.CHRF(word_order=2 if name == "chrf++" else 0)


def _tokenizer(language: str) -> str:
    """The name of sacrebleu's tokenizer for a language."""
    try:
        code = parse_language(language).partition("_")[0] if language else ""
    except LanguageError:  # a corpus may have languages of its own
        code = language
    if code in _CHINESE:
        return "zh"
    if code == "jpn":
        parts = ("MeCab", "ipadic")
        return "ja-mecab" if all(map(importlib.util.find_spec, parts)) else "char"
    return "char" if code in _SPACELESS else "13a"


def _check(references: Sequence[str], *systems: Sequence[str], language: str = "") -> None:
    of = f" in {language!r}" if language else ""
    for drafts in systems:
        if not len(references) or len(drafts) != len(references):
            raise DataError(
                f"expected a draft for each reference, and at least one{of}, found {len(drafts)} drafts and "
                f"{len(references)} references."
            )
    for texts in (references, *systems):
        if isinstance(texts, str):
            raise DataError(f"expected a list of texts{of}, found a single text: {texts[:40]!r}.")
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"expected texts{of}, found {type(text).__name__} at place {place}.")


def _resampled(
    metric: Any,
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[str],
    samples: int,
    seed: int,
    name: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scores of both systems `[2]`, and of B resamples `[2, B]`."""
    # What sacrebleu's own significance tests are made of.
    statistics = np.stack(
        [metric._extract_corpus_statistics(list(drafts), [list(references)]) for drafts in (first, second)]
    ).astype(np.float64)  # [2, n, k], whole numbers
    n = len(references)
    draws = generator(seed, "bootstrap", name)
    step = max(1, _CHUNK // n)
    totals = []
    for done in range(0, samples, step):
        size = min(step, samples - done)
        rows = draws.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(rows.ravel(), minlength=size * n).reshape(size, n)
        totals.append(counts @ statistics)  # [2, size, k]
    scores = _scores(metric, statistics.sum(1)[:, None])[:, 0]
    return scores, _scores(metric, np.concatenate(totals, axis=1))


def _scores(metric: Any, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corpus scores `[2, B]` of statistics `[2, B, k]`."""
    whole = statistics.astype(np.int64).tolist()
    return np.array([[metric._compute_score_from_stats(row).score for row in rows] for rows in whole])


def _of_drawn_languages(differences: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Of differences `[L, B]`, those of languages drawn with replacement, `[L, B]`.

    A language that is drawn twice for one resample is so with two resamples of its sentences.
    """
    draws = generator(seed, "bootstrap of languages")
    n, samples = differences.shape
    languages = draws.integers(n, size=(n, samples))
    columns = np.stack([draws.permutation(samples) for _ in range(n)])
    found: NDArray[np.float64] = differences[languages, columns]
    return found


def _comparison(metric: str, scores: NDArray[np.float64], resampled: NDArray[np.float64]) -> Comparison:
    first, second = map(float, scores)
    low, high = map(float, np.quantile(resampled, (0.025, 0.975)))
    difference = first - second
    extreme = int((np.abs(resampled - resampled.mean()) >= abs(difference) - _SAME).sum())
    return Comparison(metric, first, second, difference, low, high, (1 + extreme) / (1 + len(resampled)))


def _table(metric: str, rows: Mapping[str, Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    named = any(rows)
    if named:
        table.add_column("language")
    for title in (f"first, {METRICS[metric]}", "second", "difference", "95% interval", "p"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, row in rows.items():
        cells = [f"{row.first:.1f}", f"{row.second:.1f}", f"{row.difference:+.1f}"]
        cells += [f"{row.low:+.1f} to {row.high:+.1f}", f"{row.p:.3f}"]
        table.add_row(*([name] if named else []), *cells, style="bold" if name == "mean" else "")
    return table
