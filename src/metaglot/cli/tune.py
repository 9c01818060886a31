"""The command that tunes an encoder on the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaglot.cli.console import say, show_notices
from metaglot.cli.options import (
    Columns,
    CorpusArgument,
    Encoding,
    HeldOut,
    KindOption,
    Parallel,
    Seed,
    SourcesOption,
    load,
    mapping,
    split_names,
)
from metaglot.errors import SettingsError


def _option(text: str, *names: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(*names, help=text, show_default=False)
    return found


def tune(
    corpus: CorpusArgument,
    out_dir: Annotated[Path | None, _option("The folder to write the tuned encoder to.", "--out")] = None,
    encoder: Annotated[str | None, _option("What is tuned; e5-small by default.")] = None,
    held_out: HeldOut = None,
    sources: SourcesOption = None,
    kind: KindOption = None,
    column: Columns = None,
    encoding: Encoding = None,
    parallel: Parallel = None,
    layers: Annotated[str | None, _option("What adapts: all, the last N, or lora; all by default.")] = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Tune the embeddings too.")] = False,
    rank: Annotated[int | None, _option("Of LoRA's updates; 8 by default.")] = None,
    loss: Annotated[
        str | None,
        _option("contrastive, classification or both; contrastive by default, classification for pairs."),
    ] = None,
    temperature: Annotated[float | None, _option("Of the contrastive loss; 0.05 by default.")] = None,
    minutes: Annotated[float | None, _option("The most that it may take; without end by default.")] = None,
    epochs: Annotated[
        float | None, _option("How often as many texts are drawn as there are; 3 by default.")
    ] = None,
    steps: Annotated[int | None, _option("How many batches, in place of --epochs.")] = None,
    batch: Annotated[
        str | None,
        _option("LANGUAGES,LABELS,EXAMPLES of each label in each language; 4,8,2 by default."),
    ] = None,
    rate: Annotated[float | None, _option("AdamW's; 5e-5 by default, and 5e-4 for lora.")] = None,
    max_length: Annotated[int | None, _option("Tokens of a text that are read; 128 by default.")] = None,
    validation: Annotated[
        str | None,
        _option("Sources to judge on instead of tuning on, or their share; 0.15 by default."),
    ] = None,
    keep: Annotated[
        float | None,
        _option("Share of the pretrained weights in the mean with the tuned ones; tried out by default."),
    ] = None,
    precision: Annotated[
        str | None, _option("float32 or bfloat16; by default what suits the processor.")
    ] = None,
    pooling: Annotated[str | None, _option("mean, cls or last; by default the encoder's own.")] = None,
    prefix: Annotated[str | None, _option("Before every text; by default the encoder's own.")] = None,
    seed: Seed = None,
) -> None:
    """Tune an encoder on the source languages, before it is frozen and learned with.

    Stopped with Ctrl-C, or killed, the same command goes on where it was. Hold out the same languages
    here and in `metaglot train`.

    [dim]metaglot tune home-assistant --held-out tha,eus --minutes 45 --out tuned[/dim]
    [dim]metaglot train home-assistant --held-out tha,eus --encoder tuned+ngrams --out assistant[/dim]
    """
    import json

    from metaglot.tuning import tune as run
    from metaglot.tuning import tune_settings
    from metaglot.tuning.folder import FACTS, check_free

    if out_dir is None:
        raise SettingsError("expected --out DIR, a folder to write the tuned encoder to, found none.")
    settings = tune_settings(
        encoder=encoder,
        layers=layers,
        embeddings=embeddings,
        rank=rank,
        loss=loss,
        temperature=temperature,
        minutes=minutes,
        epochs=epochs,
        steps=steps,
        rate=rate,
        max_length=max_length,
        validation=_languages_or_share(validation),
        keep=keep,
        precision=precision,
        pooling=pooling,
        prefix=prefix,
        seed=seed,
        **_batch(batch),
    )
    # What is wrong is said before anything is read.
    check_free(out_dir)
    loaded = load(corpus, mapping(column), parallel, kind=kind, encoding=encoding or "utf-8")
    folder = run(
        loaded,
        settings,
        out=out_dir,
        held_out=split_names(held_out) or (),
        sources=split_names(sources),
        notices=show_notices,
    )
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    say(
        f"Tuned {facts['base']['name']} on {len(facts['tuned_on'])} languages: {facts['steps']} steps, "
        f"{facts['drawn']:,} {'pairs' if loaded.kind == 'pairs' else 'texts'}, "
        f"{facts['seconds'] / 60:.1f} minutes."
    )
    if facts["ways"]:
        _, zero, few = facts["curve"][0]
        _, zero_now, few_now = next(way for way in facts["ways"] if way[0] == facts["share"])
        say(
            f"On {', '.join(facts['validation'])}, kept apart: zero-shot {zero:.1%} → {zero_now:.1%}, "
            f"few-shot {few:.1%} → {few_now:.1%}, with {1 - facts['share']:.0%} of the pretrained weights."
        )
    # Pairs have features of their own for words in common.
    features = str(folder) if loaded.kind == "pairs" else f"{folder}+ngrams"
    say(
        f"Saved in {folder}. Next: metaglot train {corpus}{'' if kind is None else f' --kind {kind}'} "
        f"--encoder {features} --out MODEL"
    )


def _languages_or_share(text: str | None) -> float | list[str] | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return list(split_names(text) or ())


def _batch(text: str | None) -> dict[str, int]:
    if text is None:
        return {}
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise SettingsError(f"expected --batch LANGUAGES,LABELS,EXAMPLES, such as 4,8,2, found {text!r}.")
    return dict(zip(("languages", "labels", "examples"), map(int, parts), strict=True))
