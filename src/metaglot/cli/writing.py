"""Commands of models that write: translate, generate, and what train and adapt do for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaglot.cli.console import out, print_json, say, show_notices
from metaglot.cli.options import Encoding, mapping, set_values, split_names
from metaglot.errors import DataError, SettingsError, Where

if TYPE_CHECKING:
    from metaglot.generation.model import GenerationModel
    from metaglot.generation.recipe import GenerationRecipe

Folder = Annotated[Path, typer.Argument(help="A trained model's folder.", show_default=False)]
LanguageOption = Annotated[str, typer.Option(help="Code or name.", show_default=False)]
Input = Annotated[
    Path | None,
    typer.Option("--input", help="A text file, a line each; - is the standard input.", show_default=False),
]


def is_writing(kind: str | None, recipe: Path | None) -> bool:
    """Return whether a kind, or the one that a recipe's file names, is of models that write."""
    from metaglot.config import read_values
    from metaglot.generation import WRITING

    return (kind or read_values(recipe).get("kind")) in WRITING


def recipe_from(path: Path | None, **given: Any) -> GenerationRecipe:
    """Return the recipe of a file with options laid over it."""
    from metaglot.config import read_settings
    from metaglot.generation.recipe import GenerationRecipe

    settings = set_values(given.pop("settings"), GenerationRecipe.model_fields)
    options = {
        "held_out": split_names(given.pop("held_out")),
        "sources": split_names(given.pop("sources")),
        "columns": mapping(given.pop("column")),
    }
    if path is None and given.get("corpus") is None:
        raise SettingsError("expected CORPUS or --recipe FILE, found neither.")
    return read_settings(GenerationRecipe, path, given | options | settings)


def train(recipe: GenerationRecipe, out_dir: Path, *, log: Any, plot: Path | None, overwrite: bool) -> None:
    """Learn a model that writes and save it."""
    from metaglot.artifact import check_free
    from metaglot.distributed import processes
    from metaglot.generation import artifact
    from metaglot.generation.corpora import teach
    from metaglot.generation.learning import make_learner
    from metaglot.generation.training import remove_checkpoints
    from metaglot.generation.training import train as run
    from metaglot.history import plot_curves

    make_learner(recipe.learner, recipe.learner_options)
    check_free(out_dir, overwrite=overwrite)
    taught = teach(recipe)
    show_notices(taught.notices)
    checkpoint = out_dir.with_name(f".{out_dir.name}.checkpoint.safetensors")
    made = run(recipe, taught=taught, checkpoint=checkpoint, log=log)
    if not processes().first:
        return
    artifact.save(made, out_dir, overwrite=overwrite)
    remove_checkpoints(checkpoint)
    if plot is not None:
        plot_curves(made.facts["training"], plot)
    facts = made.facts
    use = "translate" if made.kind == "translation" else "generate"
    joint = facts["joint"]
    went = f" Joint loss {joint['first_loss']:.2f} → {joint['last_loss']:.2f} nats a token." if joint else ""
    say(
        f"Learned from {len(facts['sources'])} languages with {recipe.learner}: {facts['parameters']:,} "
        f"parameters.{went}\nSaved in {out_dir}. Next: metaglot adapt {out_dir} --language CODE --examples "
        f"FILE, then metaglot {use} {out_dir} --language CODE"
    )


def adapt(
    folder: Path,
    language: str,
    examples: Path,
    *,
    column: list[str] | None,
    encoding: str,
    steps: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Adapt a model that writes to a language, and save the adaptation."""
    from time import perf_counter

    from metaglot.generation import artifact
    from metaglot.generation.adapting import adapt_to, check_language, material_of
    from metaglot.generation.learning import Updates
    from metaglot.languages import language_name

    model = artifact.load(folder)
    code = _code(model, language)
    check_language(model, code)
    loaded = _examples(model, code, examples, mapping(column), encoding)
    material, notices = material_of(model, loaded, code)
    begun = perf_counter()
    made = adapt_to(model, material, code, updates=None if steps is None else Updates(steps), seed=seed)
    seconds = perf_counter() - begun
    file = artifact.save_adaptation(made, folder)
    if as_json:
        print_json(
            {
                "language": code,
                "examples": made.examples,
                "updates": made.updates,
                "multiple": made.multiple,
                "estimate": made.estimate,
                "seconds": round(seconds, 2),
                "bytes": file.stat().st_size,
                "notices": notices,
                "file": str(file),
            }
        )
        return
    show_notices(notices)
    what = "pairs" if model.kind == "translation" else "blocks of text"
    say(
        f"Adapted to {language_name(code)} ({code}): {made.examples:,} {what}, {made.updates} updates, "
        f"{seconds:.0f} s, {file.stat().st_size / 2**20:.1f} MB in {file}."
    )
    if made.estimate is not None:
        before, after = made.estimate["before"], made.estimate["after"]
        say(f"On examples kept apart: {before:.3f} → {after:.3f} nats a token.")
        if after >= before:
            show_notices(["the examples did not help: more of them would, or cleaner ones."])


def evaluate(
    recipe: GenerationRecipe,
    learners: str | None,
    baselines: str,
    shots: str | None,
    *,
    draws: int | None,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Judge learners beside baselines on held-out languages, and show what came of it."""
    from metaglot.cli.options import split_numbers
    from metaglot.distributed import processes
    from metaglot.evaluation.report import Report
    from metaglot.generation.comparing import BASELINES, SHOTS, check_comparison, compare
    from metaglot.generation.corpora import teach
    from metaglot.generation.learning import WRITING_LEARNERS
    from metaglot.storage import write_json

    names = list(WRITING_LEARNERS if learners == "all" else split_names(learners or "fomaml") or ())
    others = {"all": BASELINES, "none": ()}.get(baselines, split_names(baselines) or ())
    counts = split_numbers(shots) if shots else SHOTS[recipe.kind]
    check_comparison(names, others, counts)
    taught = teach(recipe)
    show_notices(taught.notices)
    records = compare(recipe, taught, names, baselines=others, shots=counts, draws=draws or 1)
    if not processes().first:
        return
    unit = "pairs of sentences" if recipe.kind == "translation" else "kilobytes of text"
    report = Report(records, unit=unit)
    out.print(report.table())
    if report.metric == "saved":
        say("saved is 1 − bits per byte / 8: what an 8-bit text shrinks by.")
    for line in report.difference_lines():
        say(line)
    if json_file is not None:
        rows = [record.as_dict() for record in records]
        write_json(json_file, {"recipe": recipe.model_dump(), "summary": report.summary(), "records": rows})
    if plot is not None:
        report.plot(plot)


def translate(
    folder: Folder,
    texts: Annotated[list[str] | None, typer.Argument(help="Sentences.", show_default=False)] = None,
    language: LanguageOption = "",
    source: Input = None,
    fill: Annotated[
        Path | None,
        typer.Option(
            help="A gettext catalogue (.po), whose gaps are filled with drafts marked fuzzy.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write the catalogue, instead of in its place.", show_default=False),
    ] = None,
    width: Annotated[int, typer.Option("--beam", help="Width of the beam; 1 is greedy.")] = 4,
    batch: Annotated[
        int, typer.Option(help="Lines that are read before their drafts are written; 1 answers each at once.")
    ] = 32,
    encoding: Encoding = "utf-8",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Translate sentences, line by line as they come, or fill the gaps of a message catalogue.

    [dim]metaglot translate drafts --language swh "Habari ya asubuhi"[/dim]
    [dim]cat lines.txt | metaglot translate drafts --language swh --input -[/dim]
    [dim]metaglot translate app --language swh --fill locale/sw/LC_MESSAGES/django.po[/dim]
    """
    import json

    from metaglot.generation import artifact
    from metaglot.generation.using import fill_catalogue, translator
    from metaglot.progress import silent

    _one_of(texts=bool(texts), input=source is not None, fill=fill is not None)
    if output is not None and fill is None:
        raise SettingsError("expected --fill FILE.po with --output, found none.")
    model = artifact.load(folder)
    code = _code(model, language)
    _say_whether_adapted(model, code)
    if fill is not None:
        filled = fill_catalogue(model, fill, code, output=output, width=width)
        if as_json:
            print_json(filled.as_dict())
        else:
            out.print(filled)
        return
    run = translator(model, code, width=width, batch=batch)
    lines = iter(texts or ()) if source is None else _lines(source, encoding or "utf-8")
    while some := list(islice(lines, batch)):
        with silent():
            drafts = run(some)
        for text, draft in zip(some, drafts, strict=True):
            line = draft.replace("\n", " ")
            row = {"text": text, "draft": draft}
            sys.stdout.write((json.dumps(row, ensure_ascii=False) if as_json else line) + "\n")
        sys.stdout.flush()


def generate(
    folder: Folder,
    prompts: Annotated[
        list[str] | None, typer.Argument(help="What to go on from.", show_default=False)
    ] = None,
    language: LanguageOption = "",
    tokens: Annotated[int, typer.Option(help="How many are written; bytes, as a rule.")] = 200,
    temperature: Annotated[float, typer.Option(help="Of sampling; 0 writes the likeliest.")] = 0.8,
    top_p: Annotated[float, typer.Option(help="Mass of the likeliest tokens that are drawn from.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Write text in a language, from a language model that was adapted to it or not.

    [dim]metaglot generate lm --language swh "Na Mungu"[/dim]
    """
    import json

    from metaglot.generation import artifact
    from metaglot.generation.using import generate as run

    model = artifact.load(folder)
    code = _code(model, language)
    _say_whether_adapted(model, code)
    begun = prompts or [""]
    found = run(model, begun, code, tokens=tokens, temperature=temperature, top_p=top_p, seed=seed)
    for prompt, text in zip(begun, found, strict=True):
        if as_json:
            sys.stdout.write(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False) + "\n")
        else:
            say(text)


def _examples(
    model: GenerationModel, code: str, path: Path, columns: dict[str, str] | None, encoding: str
) -> Any:
    """A file's sentence pairs, or its text, as the model's kind takes them."""
    from metaglot.bitext import load_bitext

    if model.kind == "translation":
        pivot = str(model.facts["pivot"])
        pair = (code, pivot) if model.facts["into"] else (pivot, code)
        known = path.suffix.lower() in {".po", ".tmx"}
        return load_bitext(path, columns=columns, encoding=encoding, languages=None if known else pair)
    if columns:
        raise SettingsError("--column is for tables; a language model is adapted on a text file.")
    if not path.is_file():
        raise DataError("expected a text file to adapt on, found none.", where=Where(path))
    return "".join(f"{line}\n" for line in _file(path, encoding))


def _code(model: GenerationModel, language: str) -> str:
    from metaglot.languages import parse_language

    if not language:
        raise SettingsError("expected --language, the code or name of a language, found none.")
    known = {*model.facts["sources"], *model.facts["held_out"], *model.adaptations}
    return language if language in known else parse_language(language)


def _say_whether_adapted(model: GenerationModel, code: str) -> None:
    from metaglot.languages import language_name

    if code not in model.adaptations and code not in model.facts["sources"]:
        show_notices(
            [f"{language_name(code)} ({code}) was never adapted: this is what the other languages teach."]
        )


def _one_of(**given: bool) -> None:
    if sum(given.values()) != 1:
        found = " and ".join(name for name, there in given.items() if there) or "none"
        raise SettingsError(f"expected one of texts, --input FILE and --fill FILE.po, found {found}.")


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """A file's lines as they come, or the standard input's."""
    yield from (line.rstrip("\r\n") for line in sys.stdin) if str(path) == "-" else _file(path, encoding)


def _file(path: Path, encoding: str) -> Iterator[str]:
    from metaglot.data.encodings import read_lines
    from metaglot.data.problems import Problems

    problems = Problems()
    yield from (line.rstrip("\r\n") for line in read_lines(path, encoding, problems))
    problems.raise_any()
