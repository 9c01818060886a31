"""The corpora whose labels are of tokens, pairs, entities or trees, and how they are divided.

Where a language has no train split, a half of its test sentences, by a hash of the id, is what its
support sets are drawn from. Languages are capped, by a hash too, so that a corpus takes an hour at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmarks.fewshot.folds import Benchmark, Fold, leave_some_out
from metaglot.data import load_corpus
from metaglot.data.home_assistant import SOURCES
from metaglot.demo import HELD_OUT
from metaglot.languages import parse_language
from metaglot.storage import text_hash
from metaglot.types import Corpus, Example

_TREEBANKS = {
    "source": (
        *("af_Afrikaans-AfriBooms", "cy_Welsh-CCG", "el_Greek-GDT", "en_English-LinES", "fa_Persian-Seraji"),
        *("fr_French-Sequoia", "gl_Galician-TreeGal", "hu_Hungarian-Szeged", "hy_Armenian-BSUT"),
        *("id_Indonesian-CSUI", "it_Italian-ParTUT", "lt_Lithuanian-HSE", "mr_Marathi-UFAL"),
        *("ru_Russian-Taiga", "sme_North_Sami-Giella", "ta_Tamil-TTB", "te_Telugu-MTG", "tr_Turkish-IMST"),
        *("ug_Uyghur-UDT", "vi_Vietnamese-VTB"),
    ),
    "held out": (
        *("am_Amharic-ATT", "ar_Arabic-PUD", "bm_Bambara-CRB", "bxr_Buryat-BDT", "cop_Coptic-Scriptorium"),
        *("eu_Basque-BDT", "fi_Finnish-PUD", "ha_Hausa-NorthernAutogramm", "he_Hebrew-HTB", "ko_Korean-PUD"),
        *("mt_Maltese-MUDT", "th_Thai-PUD", "wo_Wolof-WTB", "yo_Yoruba-YTB", "yue_Cantonese-HK"),
        "zh_Chinese-PUD",
    ),
}
"""Twenty treebanks to learn from; sixteen of languages of other branches (WALS genera) than theirs."""
_NAMES_HELD_OUT = ("ceb", "deu", "fil", "rus", "zho")
_ENTITIES_KEPT = 600
_KEPT = {"train": 300, "dev": 0, "test": 200}


def ud_pos(folder: Path) -> Benchmark:
    """Parts of speech: 20 treebanks to learn from, and 16 of languages of other branches.

    At most 300 sentences of a language are learned from and 200 judged.
    """
    names = {name: side for side, found in _TREEBANKS.items() for name in found}
    examples = [
        example
        for name in names
        for example in load_corpus(folder / name, kind="tagging", language=_language(name)).examples
    ]
    corpus = _divided(Corpus("ud-pos", tuple(examples), kind="tagging", source=folder.name), _KEPT)
    sides = [tuple(sorted(_language(n) for n in names if names[n] == side)) for side in _TREEBANKS]
    return Benchmark(corpus, (Fold("branches", *sides),))


def uner(folder: Path) -> Benchmark:
    """Names of persons, places and organisations: seven languages to learn from, five held out."""
    corpus = replace(load_corpus(folder, kind="tagging", parallel=False, mend=True), name="uner")
    corpus = _divided(corpus, _KEPT | {"train": _ENTITIES_KEPT})
    sources = tuple(code for code in corpus.languages if code not in _NAMES_HELD_OUT)
    return Benchmark(corpus, (Fold("names", sources, _NAMES_HELD_OUT),))


def injongo_slots(folder: Path) -> Benchmark:
    """Injongo's slots in 16 African languages; four are held out in each of four folds."""
    return _injongo(folder, "tagging", "injongo-slots")


def injongo_frames(folder: Path) -> Benchmark:
    """Injongo's intents and slots together, the same folds."""
    return _injongo(folder, "frames", "injongo-frames")


def home_assistant_slots(folder: Path) -> Benchmark:
    """The built-in corpus's slots, with the six held-out languages of the demo."""
    return _home_assistant("tagging", "home-assistant-slots")


def home_assistant_frames(folder: Path) -> Benchmark:
    """The built-in corpus's intents and slots together."""
    return _home_assistant("frames", "home-assistant-frames")


def afrixnli(folder: Path) -> Benchmark:
    """AfriXNLI: inference in 16 languages, a parallel corpus; a quarter is held out in each of four folds.

    English is a source in every fold. Its dev split is learned from; French and Swahili have none.
    """
    corpus = load_corpus(folder, kind="pairs", parallel=True)
    corpus = replace(corpus, name="afrixnli", examples=tuple(_dev_as_train(corpus.examples)))
    corpus = corpus.restrict(code for code in corpus.languages if corpus.select(code, "train"))
    folds = leave_some_out(corpus.languages, 4, "afrixnli", always=("eng",))
    return Benchmark(corpus, folds)


def relx(folder: Path) -> Benchmark:
    """RELX: relations learned from English alone (KBP-37), in four other languages.

    At most 4,000 sentences of KBP-37 are learned from. RELX is a test set: one half of it gives support.
    """
    english = load_corpus(
        folder / "en_kbp37", kind="relations", language="eng", parallel=False, mend=True
    ).examples
    kept = sorted((e for e in english if e.split == "train"), key=_place)[:4000]
    others = [
        e
        for name in ("de", "es", "fr", "tr")
        for e in load_corpus(
            folder / name / "test.jsonl",
            kind="relations",
            language=parse_language(name),
            parallel=False,
            mend=True,
        ).examples
    ]
    judged = [replace(e, split="train" if _half(e) else "test") for e in others]
    corpus = Corpus("relx", (*kept, *judged), kind="relations", source=folder.name)
    held_out = tuple(code for code in corpus.languages if code != "eng")
    return Benchmark(corpus, (Fold("kbp37", ("eng",), held_out),))


def mtop(folder: Path) -> Benchmark:
    """MTOP: nested meanings in six languages, a parallel corpus; each is held out once.

    The dev split is learned from (the release's train split is not in the folder), and at most 300 test
    sentences are judged.
    """
    corpus = load_corpus(folder, kind="parsing", parallel=True, mend=True)
    examples = _dev_as_train(corpus.examples)
    corpus = replace(corpus, name="mtop", examples=tuple(examples))
    corpus = _capped(corpus, {"train": 859, "test": 300})
    folds = tuple(
        Fold(code, tuple(other for other in corpus.languages if other != code), (code,))
        for code in corpus.languages
    )
    return Benchmark(corpus, folds)


def _injongo(folder: Path, kind: str, name: str) -> Benchmark:
    corpus = load_corpus(folder, kind=kind, parallel=False, mend=True)
    kept = tuple(e for e in corpus.examples if (e.language, e.split) != ("eng", "test"))
    corpus = _divided(replace(corpus, name=name, examples=kept), _KEPT)
    # The folds of the benchmark of intents.
    return Benchmark(corpus, leave_some_out(corpus.languages, 4, "injongo", always=("eng",)))


def _home_assistant(kind: str, name: str) -> Benchmark:
    corpus = load_corpus("home-assistant", kind=kind, options={"languages": [*SOURCES, *HELD_OUT]})
    corpus = _capped(replace(corpus, name=name), {"train": 400, "dev": 0, "test": 200})
    return Benchmark(corpus, (Fold("demo", tuple(SOURCES), HELD_OUT),))


def _language(treebank: str) -> str:
    return parse_language(treebank.partition("_")[0])


def _dev_as_train(examples: Iterable[Example]) -> list[Example]:
    """Examples of corpora without a train split, dev in its place."""
    return [replace(e, split="train") if e.split == "dev" else e for e in examples]


def _divided(corpus: Corpus, kept: dict[str, int]) -> Corpus:
    """Return a corpus whose every language has a train and a test split, capped.

    Dev is train where there is no train, and a half of test is where there is neither.
    """
    made: list[Example] = []
    for code in corpus.languages:
        own = corpus.select(code)
        splits = {e.split for e in own}
        if "train" not in splits and "dev" in splits:
            own = tuple(_dev_as_train(own))
        elif sum(e.split == "train" for e in own) < 50:  # Buryat has 19
            own = tuple(replace(e, split="train" if e.split == "train" or _half(e) else "test") for e in own)
        made += own
    return _capped(replace(corpus, examples=tuple(made)), kept)


def _capped(corpus: Corpus, kept: dict[str, int]) -> Corpus:
    """Return a corpus with at most so many examples of each split in a language, by a hash of the id."""
    made = [
        example
        for code in corpus.languages
        for split, most in kept.items()
        for example in sorted(corpus.select(code, split), key=_place)[:most]
    ]
    return replace(corpus, examples=tuple(made))


def _half(example: Example) -> bool:
    return int(_place(example)[0], 16) % 2 == 0


def _place(example: Example) -> str:
    return text_hash("place", example.id)
