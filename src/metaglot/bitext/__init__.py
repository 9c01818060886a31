"""Sentences and their translations, and running text: the data of translation and language modelling.

Every function here raises `DataError` for data that cannot be read, with all the faults that were found:
the file, the line and the field of each, what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from metaglot.bitext.assemble import make_bitext
from metaglot.bitext.columns import check_mapping
from metaglot.bitext.files import PairTable, find_tables, pair_of
from metaglot.bitext.filters import FilterReport, Filters, clean
from metaglot.bitext.intake import PairIntake
from metaglot.bitext.pairs import Bitext, SentencePair
from metaglot.bitext.texts import Line, Texts, load_texts
from metaglot.bitext.verses import is_verses
from metaglot.data import hub
from metaglot.data.files import existing, was_saved
from metaglot.errors import SettingsError, suggestion
from metaglot.registry import Registry
from metaglot.types import SPLITS

__all__ = [
    "BITEXTS",
    "Bitext",
    "FilterReport",
    "Filters",
    "Line",
    "SentencePair",
    "Texts",
    "clean",
    "load_bitext",
    "load_texts",
]

BITEXTS = Registry(
    "bitext",
    {
        "django": "metaglot.bitext.catalogues:load",
        "bible-corpus": "metaglot.bitext.published:bible_corpus",
        "lafand-mt": "metaglot.bitext.published:lafand_mt",
        "tatoeba-laser": "metaglot.bitext.published:tatoeba_laser",
    },
)
"""Corpora known by name: built in (`django`), or of a folder (`bible-corpus:FOLDER`)."""


def load_bitext(
    spec: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    languages: tuple[str, str] | None = None,
    split: str | None = None,
    turned: bool = False,
    parallel: bool | None = None,
    encoding: str = "utf-8",
    options: Mapping[str, Any] | None = None,
) -> Bitext:
    """Load sentences with their translations, in any number of languages.

    Args:
        spec: a corpus of `BITEXTS`, `NAME` or `NAME:FOLDER`; a TSV, CSV, JSON-lines, Parquet, TMX or `.po`
            file; `PATH/train` for files in step, `train.en` and `train.sw`; a folder of such; or
            `hf:NAME[:CONFIG]`, a data set of the Hugging Face hub or one on disk.
        columns: field (`columns.USUAL`) → the data's own name for it, where it is not a usual one.
        languages: source and target, where neither the data nor their names say them; of rows in several
            languages, the two that are wanted.
        split: load this split alone; rows that do not say their split count as of this one, or of train if
            it is left out.
        turned: whether a table's two columns stand the other way round than its name says.
        parallel: whether an id names the same content in every language; found out if left out.
        encoding: of text files.
        options: a named corpus's own, such as `seed`.

    Raises:
        DataError: the data cannot be read.
        SettingsError: an option does not fit the data.
        MissingExtraError: an optional package is needed.
    """
    mapping = dict(columns or {})
    check_mapping(mapping)
    if split is not None and split not in SPLITS:
        raise SettingsError(
            f"expected a split ({', '.join(SPLITS)}), found {split!r}.", hint=suggestion(split, SPLITS)
        )
    name = str(spec)
    known, _, folder = name.partition(":")
    if known in BITEXTS:
        if mapping or languages or turned:
            raise SettingsError(
                f"columns, languages and turned are options for files; {known!r} is a corpus."
            )
        return _narrowed(_named(known, folder, dict(options or {})), split, parallel)
    if options:
        raise SettingsError(f"options ({', '.join(options)}) are for named corpora; {name!r} is none.")
    notices: list[str] = []
    intake = PairIntake(mapping, languages, split, turned)
    found = intake.read(_tables(name, encoding, notices))
    title = name if name.startswith("hf:") else Path(name).expanduser().resolve().stem
    return make_bitext(title, found, parallel=parallel, notices=[*notices, *intake.notices()], origin=name)


def _named(name: str, folder: str, options: dict[str, Any]) -> Bitext:
    load = BITEXTS[name]
    known = list(signature(load).parameters)
    takes_folder = known[:1] == ["folder"]
    if takes_folder != bool(folder):
        wanted = f"{name}:FOLDER" if takes_folder else name
        raise SettingsError(f"expected {wanted}, found {name + (':' + folder if folder else '')!r}.")
    for option in options:
        if option not in known or option == "folder":
            raise SettingsError(
                f"expected an option of {name!r} ({', '.join(k for k in known if k != 'folder')}), found "
                f"{option!r}.",
                hint=suggestion(option, known),
            )
    bitext: Bitext = load(folder, **options) if folder else load(**options)
    return bitext


def _tables(name: str, encoding: str, notices: list[str]) -> list[PairTable]:
    if name.startswith("hf:"):
        return _of_hub(name.removeprefix("hf:"), notices)
    path = Path(name).expanduser()
    if path.is_dir() and is_verses(path):
        raise SettingsError(
            "expected sentence pairs, found a folder of Bible verses.",
            hint=f"Load it as bible-corpus:{name}.",
        )
    if path.is_dir() and was_saved(path):
        return _of_hub(name, notices)
    if not path.parent.is_dir():
        existing(name, BITEXTS)
    return find_tables(path, encoding)


def _of_hub(spec: str, notices: list[str]) -> list[PairTable]:
    """Find a data set's tables; a configuration may be called as two languages are (`en-sw`)."""
    config = pair_of(spec.rpartition(":")[2]) if ":" in spec and not Path(spec).exists() else None
    return [
        PairTable(table.place, table.read, config or ("", ""), table.split)
        for table in hub.find_tables(spec, notices)
    ]


def _narrowed(bitext: Bitext, split: str | None, parallel: bool | None) -> Bitext:
    kept = bitext.keep(pair for pair in bitext.pairs if split in (None, pair.split))
    known = bitext.parallel if parallel is None else parallel
    return Bitext(kept.name, kept.pairs, known, kept.licence, kept.origin, kept.notices)
