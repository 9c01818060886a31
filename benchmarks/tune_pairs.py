r"""What tuning adds to a frozen encoder for inference (AfriXNLI), on languages that no part of it has seen.

    python -m benchmarks.tune_pairs --afrixnli DIR --xnli DIR --out tuned \
        --rows "frozen;frozen + XNLI;tuned + XNLI" --json benchmarks/results/tune_pairs.json

The first fold of AfriXNLI: four languages held out, twelve sources. The frozen encoder and tuned ones are
judged by the same recipe on the same test pairs: without an example of the language, and with the learner
`auto` from 8 and 32 pairs a label.

XNLI's dev set gives more contents to learn from. AfriXNLI's dev set is a part of it, so contents are told
apart by their English premise: every one that AfriXNLI has in any split is left out. Of the others each
premise's pairs stand in two of eight languages. Two of these, Hindi and Swahili, are judged on, not tuned on.

    python -m benchmarks.tune_pairs --tables

writes the table of `docs/tuning.md` anew. The result grows row by row; the same command goes on where it
was stopped, within a row too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.fewshot.structured import afrixnli
from benchmarks.markers import ROOT, fill, markdown, renew
from benchmarks.tune import circumstances, earlier, judge, show, tuning_of
from metaglot.config import Recipe
from metaglot.data import load_corpus
from metaglot.space import generator
from metaglot.storage import write_json
from metaglot.tuning import tune, tune_settings
from metaglot.types import Corpus, Example

SHOTS = (0, 8, 32)
MORE = ("arb", "fra", "hin", "rus", "swh", "tur", "vie", "zho")
COPIES = 2  # languages in which each premise of XNLI stands
VALIDATION = ("hin", "swh")
WAYS = {"tuned": {}, "tuned, last 4 layers": {"layers": 4}, "tuned, lora": {"layers": "lora"}}
WITH = " + XNLI"
RESULT = ROOT / "benchmarks/results/tune_pairs.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--afrixnli", type=Path, help="the folder of AfriXNLI")
    parser.add_argument("--xnli", type=Path, help="the folder of XNLI's dev set")
    parser.add_argument("--out", type=Path, help="where tuned encoders are put, and found")
    parser.add_argument("--minutes", type=float, default=13.0, help="of tuning, for each row")
    names = [f"{way}{more}" for more in ("", WITH) for way in ("frozen", *WAYS)]
    parser.add_argument("--rows", default="frozen;tuned", help=f"of {'; '.join(names)}; with ';' between")
    parser.add_argument("--encoder", default="e5-small")
    parser.add_argument("--examples", type=int, default=4, help="pairs of each label and language in a batch")
    parser.add_argument("--judgements", type=int, default=3)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--tables", action="store_true", help="renew the page's table, and no more")
    options = parser.parse_args()
    if options.tables:
        renew(filled)
        return
    if options.afrixnli is None or options.out is None:
        parser.error("expected --afrixnli DIR and --out DIR, found one or none of them")
    wanted = options.rows.split(";")
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"expected rows of {'; '.join(names)}, found {unknown[0]!r}")
    if any(name.endswith(WITH) for name in wanted) and options.xnli is None:
        parser.error("expected --xnli DIR for rows with XNLI, found none")
    benchmark = afrixnli(options.afrixnli)
    fold = benchmark.folds[0]
    small = benchmark.corpus.restrict((*fold.sources, *fold.held_out))
    result = {
        "encoder": options.encoder,
        "held_out": list(fold.held_out),
        "sources": list(fold.sources),
        "draws": options.draws,
        "seed": 0,
        "minutes": options.minutes,
        "judgements": options.judgements,
        "batch": {"languages": 4, "labels": 3, "examples": options.examples},
        "corpus": {"name": small.name, "fingerprint": small.fingerprint, "pairs": len(small.examples)},
    } | circumstances()
    corpora = {"": small}
    if options.xnli is not None:
        wide, said = with_xnli(small, options.xnli)
        corpora[WITH] = wide
        result["xnli"] = said | {"fingerprint": wide.fingerprint, "validation": list(VALIDATION)}
    rows = earlier(options.json, result)
    result["rows"] = rows
    for name in wanted:
        if name in rows:
            continue
        way, more = (name.removesuffix(WITH), WITH) if name.endswith(WITH) else (name, "")
        corpus, encoder, said = corpora[more], options.encoder, {}
        recipe = Recipe(corpus=corpus.name, encoder=encoder, held_out=fold.held_out)
        if way != "frozen":
            folder = options.out / name.replace(", ", "-").replace(" ", "-").replace("-+-", "-")
            if not folder.exists():
                settings = tune_settings(
                    encoder=encoder,
                    minutes=options.minutes,
                    examples=options.examples,
                    judgements=options.judgements,
                    validation=VALIDATION if more else None,
                    **WAYS[way],
                )
                tune(corpus, settings, out=folder, held_out=fold.held_out)
            encoder, said = str(folder), tuning_of(folder)
        rows[name] = judge(corpus, recipe, encoder, SHOTS, options.draws) | said
        if options.json:
            write_json(options.json, result)
    show(rows, SHOTS, f"AfriXNLI, held out: {', '.join(fold.held_out)}; chance 0.333")


def with_xnli(corpus: Corpus, folder: Path) -> tuple[Corpus, dict[str, object]]:
    """Return AfriXNLI with the contents of XNLI that it does not have, and what was left out.

    Both corpora's English premises say which contents are the same: not one of AfriXNLI's, in whatever
    split, is among what is added.
    """
    xnli = load_corpus(folder, kind="pairs", parallel=True)
    known = {_plain(e.text) for e in corpus.select("eng")}
    premise = {e.id: _plain(e.text) for e in xnli.select("eng")}
    added: list[Example] = []
    for code in MORE:
        for e in xnli.select(code):
            if premise[e.id] not in known and code in _languages(premise[e.id]):
                added.append(replace(e, id=f"xnli/{e.id}", split="train"))
    left_out = sum(text in known for text in premise.values())
    tests = {_plain(e.text) for e in corpus.select("eng", "test")}
    said: dict[str, object] = {
        "contents": len(premise) - left_out,
        "contents of AfriXNLI left out": left_out,
        "of them of its test set": sum(text in tests for text in premise.values()),
        "pairs": len(added),
        "languages": list(MORE),
    }
    return replace(corpus, name="afrixnli+xnli", examples=(*corpus.examples, *added)), said


def table(path: Path = RESULT) -> str:
    """Return the rows of a result file as a table: accuracy in %, the mean over languages and draws."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    lines = []
    for name, row in rows.items():
        tuning = (
            [f"{row['seconds'] / 60:.0f}", f"{row['drawn']:,}", f"{100 * row['share']:.0f}%"]
            if "steps" in row
            else ["–"] * 3
        )
        lines.append([name, *tuning, *(f"{100 * row['accuracy'][str(k)]:.1f}" for k in SHOTS)])
    shots = ["zero-shot" if k == 0 else f"k = {k}" for k in SHOTS]
    return markdown(["encoder", "minutes", "pairs drawn", "share of the tuned weights", *shots], lines)


def filled(page: Path) -> str:
    """Return a page's text with the table made anew."""
    return fill(page.read_text(encoding="utf-8"), {"tune-pairs-table": table})


def _languages(premise: str) -> Sequence[str]:
    """The languages in which a premise's pairs are learned from; the three of one stay together."""
    return [MORE[i] for i in generator("xnli", premise).permutation(len(MORE))[:COPIES]]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


if __name__ == "__main__":
    main()
