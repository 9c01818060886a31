"""Commands that only look: data inspect, list, cache."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from metaglot.cli.console import out, print_json
from metaglot.cli.options import (
    Columns,
    CorpusArgument,
    Encoding,
    Json,
    KindOption,
    Mend,
    Parallel,
    load,
    mapping,
)


def data_inspect(
    corpus: CorpusArgument,
    kind: KindOption = None,
    column: Columns = None,
    mend: Mend = False,
    parallel: Parallel = None,
    encoding: Encoding = "utf-8",
    as_json: Json = False,
) -> None:
    """Show languages × labels × splits, lengths, scripts, duplicates and leaks, and what to beware of."""
    from metaglot.data.inspect import inspect, render
    from metaglot.generation import WRITING

    if kind is not None and kind in WRITING:
        _inspect_writing(corpus, kind, column, encoding or "utf-8", as_json=as_json)
        return
    loaded = load(corpus, mapping(column), parallel, kind=kind, mend=mend, encoding=encoding or "utf-8")
    inspection = inspect(loaded)
    if as_json:
        print_json(inspection.to_dict())
    else:
        out.print(render(inspection))


def _inspect_writing(
    corpus: str, kind: str, column: list[str] | None, encoding: str, *, as_json: bool
) -> None:
    """Show what there is to learn to write from: pairs by language and what is left out, or bytes of text."""
    from metaglot.bitext import clean, load_bitext, load_texts
    from metaglot.cli.console import show_notices
    from metaglot.languages import language_name
    from metaglot.types import SPLITS

    if kind == "translation":
        bitext = load_bitext(corpus, columns=mapping(column), encoding=encoding)
        found, report = clean(bitext)
        counts = found.count()
        rows = [(f"{a}-{b}", [counts[a, b, split] for split in SPLITS]) for a, b in found.directions]
        notices, unit = bitext.notices, "pairs"
    else:
        texts = load_texts(corpus, encoding=encoding)
        rows = [(code, [texts.size(code, split) for split in SPLITS]) for code in texts.languages]
        notices, unit, report = texts.notices, "bytes", None
    if as_json:
        left_out = {} if report is None else report.as_dict()
        sizes = {name: dict(zip(SPLITS, values, strict=True)) for name, values in rows}
        print_json({"unit": unit, "languages": sizes, "filters": left_out, "notices": list(notices)})
        return
    show_notices(notices)
    table = Table("language", *(f"{unit} of {split}" for split in SPLITS), box=None)
    for name, values in rows:
        named = " → ".join(language_name(code) for code in name.split("-"))
        table.add_row(Text(f"{name}  {named}"), *(f"{value:,}" for value in values))
    out.print(table)
    if report is not None:
        out.print(report)


def list_names(
    what: Annotated[
        str, typer.Argument(help="learners, kinds, encoders, corpora or baselines", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """List what there is by name."""
    from metaglot.bitext import BITEXTS
    from metaglot.data import CORPORA
    from metaglot.encoders import ENCODERS
    from metaglot.errors import UnknownNameError, suggestion
    from metaglot.evaluation.baselines import BASELINES
    from metaglot.generation import WRITING
    from metaglot.kinds import KINDS
    from metaglot.learners import LEARNERS

    registries = {
        "learners": LEARNERS,
        "kinds": KINDS,
        "encoders": ENCODERS,
        "corpora": CORPORA,
        "baselines": BASELINES,
    }
    more = {"kinds": WRITING, "corpora": BITEXTS}
    if what not in registries:
        raise UnknownNameError(
            f"expected one of {', '.join(registries)}, found {what!r}.", hint=suggestion(what, registries)
        )
    described = registries[what].describe()
    if what in more:
        described |= more[what].describe()
    if as_json:
        print_json(described)
        return
    table = Table("name", "", box=None, pad_edge=False)
    for name, text in described.items():
        table.add_row(Text(name, style="bold"), Text(text))
    out.print(table)


def cache_show(as_json: Json = False) -> None:
    """Show what is kept, and where."""
    from metaglot.encoders.cache import features_root, limit_bytes, usage

    rows = usage()
    if as_json:
        found = [{"encoder": u.encoder, "texts": u.texts, "bytes": u.bytes} for u in rows]
        print_json({"folder": str(features_root()), "limit": limit_bytes(), "encoders": found})
        return
    table = Table("encoder", "texts", "size", title=Text(f"features in {features_root()}"))
    for u in rows:
        table.add_row(Text(u.encoder), f"{u.texts:,}", f"{u.bytes / 2**20:.1f} MB")
    out.print(table)
    out.print(f"limit {limit_bytes() / 2**30:.1f} GB (METAGLOT_CACHE_LIMIT)")


def cache_clear(
    encoder: Annotated[str | None, typer.Option(help="Only this encoder's.", show_default=False)] = None,
) -> None:
    """Remove kept features and learners; they are made again when they are needed."""
    from metaglot.encoders.cache import clear

    freed = clear(encoder)
    if encoder is None:
        from metaglot.training import clear_learned

        freed += clear_learned()
    out.print(f"freed {freed / 2**20:.1f} MB")
