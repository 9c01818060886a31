"""Commands that use what was learned: adapt, predict."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from metaglot.cli import writing
from metaglot.cli.answers import as_dict, shown
from metaglot.cli.console import out, print_json, say, show_notices
from metaglot.cli.options import Columns, Encoding, Json, Mend, mapping, split_names
from metaglot.errors import SettingsError


def adapt(
    folder: Annotated[Path, typer.Argument(help="A trained model's folder.", show_default=False)],
    language: Annotated[str, typer.Option(help="Code or name of the new language.", show_default=False)],
    examples: Annotated[
        Path,
        typer.Option(
            help="CSV, TSV, JSONL or Parquet with text and label, or with what else the model's kind needs; "
            "sentence pairs or a .po file for translation, a text file for language modelling.",
            show_default=False,
        ),
    ],
    column: Columns = None,
    mend: Mend = False,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="Also predict the model's labels that have no example here.")
    ] = False,
    new_labels: Annotated[
        bool, typer.Option("--new-labels", help="Take labels that look misspelt for new ones.")
    ] = False,
    augment: Annotated[
        str | None,
        typer.Option(
            help="Also learn from changed copies of the examples, e.g. noise,spelling or noise:0.2.",
            show_default=False,
        ),
    ] = None,
    copies: Annotated[int, typer.Option(help="The most copies of an example, with --augment.")] = 1,
    updates: Annotated[
        int | None,
        typer.Option(
            help="Of models that write: how many updates to make.",
            show_default="chosen on a fifth of the examples",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of models that write: of minibatches.")] = 0,
    encoding: Encoding = "utf-8",
    as_json: Json = False,
) -> None:
    """Adapt a trained model to a language from a few examples, and save the adaptation.

    [dim]metaglot adapt assistant --language swh --examples swahili.csv[/dim]
    """
    from metaglot import adapting, artifact
    from metaglot.cross_validation import Estimate
    from metaglot.data import load_examples
    from metaglot.generation.artifact import writes
    from metaglot.languages import language_name

    if writes(folder):
        if mend or all_labels or new_labels or augment:
            raise SettingsError(
                "--mend, --all-labels, --new-labels and --augment are for models with labels."
            )
        writing.adapt(
            folder, language, examples, column=column, encoding=encoding or "utf-8", steps=updates, seed=seed,
            as_json=as_json,
        )  # fmt: skip
        return
    if updates is not None:
        raise SettingsError("--updates is for models that write.")
    loaded = artifact.load(folder)
    code, _ = adapting.language_code(loaded, language)
    rows = load_examples(
        examples,
        language=code,
        kind=loaded.model.kind_name,
        columns=mapping(column),
        encoding=encoding or "utf-8",
        mend=mend,
    )
    made = adapting.adapt(
        loaded,
        language,
        rows,
        all_labels=all_labels,
        new_labels=new_labels,
        augment=split_names(augment) or (),
        copies=copies,
    )
    file = artifact.save_adaptation(made.adaptation, folder)
    estimate = made.adaptation.estimate
    if as_json:
        print_json(
            {
                "language": code,
                "labels": made.adaptation.labels,
                "examples": len(rows),
                "seconds": round(made.seconds, 4),
                "bytes": file.stat().st_size,
                "estimate": estimate,
                "temperature": made.adaptation.calibration.temperature,
                "notices": made.notices,
                "file": str(file),
            }
        )
        return
    show_notices(made.notices)
    say(
        f"Adapted to {language_name(code)} ({code}): {len(rows)} examples, {len(made.adaptation.labels)} "
        f"labels, {made.seconds:.2f} s, {file.stat().st_size / 1024:.0f} KB in {file}."
    )
    if estimate is not None:
        say(f"Estimated by cross-validation on the examples: {Estimate(**estimate)}.")


def predict(
    folder: Annotated[Path, typer.Argument(help="A trained model's folder.", show_default=False)],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts; of pairs the first and the second in turn, of relations with <e1>…</e1> and "
            "<e2>…</e2> in them.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[str, typer.Option(help="Code or name.", show_default=False)] = "",
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="A text file, a line each, or a table with a text column and what else the model's kind "
            "needs.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(help="How many labels to show for a text.", show_default="3")
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Mark predictions unsure, such that of the others this share is right: 0.95. What the "
            "examples cannot bear out is said.",
            show_default=False,
        ),
    ] = None,
    unsure_below: Annotated[
        float | None,
        typer.Option(help="Mark predictions unsure that are less probable: 0.6.", show_default=False),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Show as many labels as it takes for the right one to be among them in this share of "
            "texts: 0.9.",
            show_default=False,
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            help="Share of texts of known labels to be found in scope; others are marked unlike the "
            "examples.",
            show_default="0.95",
        ),
    ] = None,
    column: Columns = None,
    encoding: Encoding = "utf-8",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Predict labels, spans or trees with probabilities; zero-shot in a language that was never adapted.

    [dim]metaglot predict assistant --language swh "washa taa jikoni"[/dim]

    To have it say that it does not know: [dim]--precision 0.95[/dim] marks predictions that are not sure,
    by what cross-validation on the language's examples has counted, and [dim]--unsure-below 0.6[/dim] by
    probability alone. Texts that are like no example, of a label that nobody has taught perhaps, are
    marked as well. With [dim]--json[/dim] these are the fields sure, scope (a p-value) and in_scope.
    """
    from metaglot import adapting, artifact, predicting
    from metaglot.data import examples_to_predict, read_examples_to_predict
    from metaglot.languages import language_name

    if not language:
        raise SettingsError("expected --language, the code or name of the texts' language, found none.")
    if bool(texts) == (source is not None):
        raise SettingsError(
            "expected either texts or --input FILE, found " + ("both." if texts else "neither.")
        )
    loaded = artifact.load(folder)
    code, notices = adapting.language_code(loaded, language)
    kind = loaded.model.kind_name
    rows = (
        examples_to_predict(texts or (), kind, language=code)
        if source is None
        else list(
            read_examples_to_predict(
                source, kind, language=code, columns=mapping(column), encoding=encoding or "utf-8"
            )
        )
    )
    found = predicting.predict(
        loaded,
        rows,
        language,
        top=top,
        precision=precision,
        unsure_below=unsure_below,
        coverage=coverage,
        recall=predicting.RECALL if recall is None else recall,
    )
    calibration = predicting.calibration_of(loaded.adaptations.get(code))
    if loaded.model.kind.shots == "label":
        notices += calibration.doubts(coverage=coverage, recall=recall)
    threshold = None if precision is None else calibration.threshold(precision)
    if threshold is not None and not threshold.promised:
        notices.append(threshold.doubt)
    if as_json:
        show_notices(notices)
        for prediction in found:
            sys.stdout.write(json.dumps(as_dict(prediction, kind), ensure_ascii=False) + "\n")
        return
    if code not in loaded.adaptations:
        notices = [
            *notices,
            f"{language_name(code)} ({code}) was never adapted: these are zero-shot predictions, "
            "from the other languages alone.",
        ]
    show_notices(notices)
    if threshold is not None and threshold.promised:
        say(
            f"Sure from a probability of {threshold.value:.1%} on: so were {threshold.kept:.0%} of the "
            f"cross-validated examples, and {threshold.right:.1%} of those right."
        )
    out.print(shown(found, kind))
