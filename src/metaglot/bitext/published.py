"""Published collections in the layout that they are published in, each with what must be known of it."""

from __future__ import annotations

from pathlib import Path

from metaglot.bitext.assemble import make_bitext
from metaglot.bitext.files import find_tables
from metaglot.bitext.intake import PairIntake
from metaglot.bitext.pairs import Bitext, SentencePair
from metaglot.bitext.verses import LICENCE, chapter, read_verses, split_chapters
from metaglot.data.files import existing
from metaglot.errors import LanguageError, suggestion
from metaglot.languages import parse_language


def bible_corpus(folder: str | Path, *, pivot: str = "eng", seed: int = 0) -> Bitext:
    """Load the Bible: each language's verses with the same verses of the pivot.

    An id is a verse, in all languages, and a group its chapter: 80, 10 and 10 % of the chapters are train,
    dev and test, drawn by a hash of their names.

    Args:
        folder: of the TSV files and `iso639.json` (`verses`).
        pivot: the language that all others are paired with, as source.
        seed: of the splits.

    Raises:
        DataError: the files cannot be read.
        LanguageError: there is no such language.
    """
    path = existing(str(folder))
    notices: list[str] = []
    texts = read_verses(path, notices)
    code = parse_language(pivot)
    if code not in texts:
        raise LanguageError(
            f"expected a language of {path.name} ({', '.join(texts)}), found {pivot!r} ({code}).",
            hint=suggestion(code, texts),
        )
    splits = split_chapters(texts, seed)
    pairs = tuple(
        SentencePair(id_, texts[code][id_], text, code, other, splits[chapter(id_)], chapter(id_))
        for other, verses in texts.items()
        if other != code
        for id_, text in verses.items()
        if id_ in texts[code]
    )
    return Bitext("bible-corpus", pairs, True, LICENCE, str(folder), tuple(notices))


def lafand_mt(folder: str | Path) -> Bitext:
    """Load MAFAND-MT (Adelani et al. 2022, "A few thousand translations go a long way!"): news, African.

    Its folders are `en-hau`, `fr-bam`, of TSV files without a header whose first column is English or French.

    Args:
        folder: of the folders.

    Raises:
        DataError: the files cannot be read.
    """
    intake = PairIntake()
    found = intake.read(find_tables(existing(str(folder)), "utf-8"))
    notices = [
        *intake.notices(),
        "The sentences are news sites', whose own licences hold as well.",
    ]
    return make_bitext("lafand-mt", found, notices=notices, licence="CC-BY-NC-4.0", origin=str(folder))


def tatoeba_laser(folder: str | Path) -> Bitext:
    """Load LASER's Tatoeba test sets (Artetxe & Schwenk 2019): up to 1,000 pairs with English, 112 languages.

    Its files are `afr-eng.tsv`, without a header, whose first column is English whatever the name says. All
    is test: it was made to judge by.

    Args:
        folder: of the files.

    Raises:
        DataError: the files cannot be read.
    """
    intake = PairIntake(split="test", turned=True)
    found = intake.read(find_tables(existing(str(folder)), "utf-8"))
    return make_bitext(
        "tatoeba-laser", found, notices=intake.notices(), licence="CC-BY-2.0-FR", origin=str(folder)
    )
