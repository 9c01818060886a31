"""Spoken commands for a smart home in over sixty languages, from the package `home-assistant-intents`.

The package (Apache-2.0, The Home Assistant Authors) holds sentence templates per language and intent,
written by its speakers. A template is a little grammar, so its sentences are near-duplicates: **splits
are made by template, never by sentence**. A group is the templates of one intent that share a skeleton
(`templates.skeleton`: equal but for optional words, the names of lists and word order), and a group
stands in one split. An intent with few groups has its templates split at their choices: `(stop|pause)
the timer` becomes two groups. Two limits remain: groups of one intent may share a verb or a noun
through a rule, and a template accepts more than good grammar does (every article before every noun),
so some sentences are clumsy.

Rooms, floors, devices and the free texts of lists such as `message` are the user's to supply in Home
Assistant. Here they come from `home_assistant_lists.json`, short lists translated for metaglot; a
language without its own gets the English ones, and a notice says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata, resources, util
from pathlib import Path
from typing import TYPE_CHECKING

from metaglot.errors import DataError, LanguageError, MissingExtraError, Where, suggestion
from metaglot.languages import custom_language, language_name, parse_language
from metaglot.progress import progress
from metaglot.storage import cache_root, text_hash, write_text
from metaglot.types import Corpus, Example, Span

if TYPE_CHECKING:
    from metaglot.data.home_assistant_sentences import Part

PACKAGE = "home-assistant-intents"

HELD_OUT = ("arb", "ell", "eus", "hun", "mal", "tha", "vie", "zho_Hans")
"""Languages to keep as new ones: eight families (Semitic, Greek, an isolate, Uralic, Dravidian, Kra-Dai,
Austroasiatic, Sinitic) and six scripts, each with 16 training and 5 test sentences for at least 19
intents, and none with a near relative in `SOURCES` (no other Chinese, no Arabic)."""

SOURCES = (
    *("bul", "ces", "cym", "deu", "eng", "fin", "fra", "heb", "hin", "ita"),
    *("kor", "nld", "npi", "pes", "pol", "por_BR", "ron", "rus", "spa", "swe"),
)
"""Twenty languages to learn from: well filled ones of several families, and one of each near pair."""

# Where two variants of a language would get one code, these keep their region.
_REGIONAL = {"de-CH", "pt-BR", "zh-HK"}
_MADE_FROM = ("home_assistant.py", "home_assistant_sentences.py", "templates.py", "home_assistant_lists.json")


def locales() -> dict[str, Path]:
    """Return language code → the package's file, for every language that it has.

    Raises:
        MissingExtraError: the package or `hassil` is not installed.
    """
    for package in ("home_assistant_intents", "hassil"):
        if util.find_spec(package) is None:
            name = package.replace("_", "-")
            raise MissingExtraError(name, "home-assistant", "The corpus 'home-assistant'")
    folder = Path(str(resources.files("home_assistant_intents"))) / "data"
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(
            f"expected one JSON file per language in {PACKAGE} {metadata.version(PACKAGE)}, found none.",
            where=Where(folder),
            hint="Its layout has changed; metaglot was made for release 2026.10.27.",
        )
    found: dict[str, Path] = {}
    for path in files:
        code = _code(path.stem, path.stem in _REGIONAL)
        found.setdefault(code if code not in found else _code(path.stem, True), path)
    return dict(sorted(found.items()))


def load(*, languages: Iterable[str] | None = None, per_intent: int = 40, seed: int = 0) -> Corpus:
    """Voice commands in 65 languages, labelled with intents and slots, made from sentence templates.

    Args:
        languages: codes or names; every language of the package where None.
        per_intent: most sentences per intent and language, shared out as 60% train, 10% dev, 30% test.
        seed: of the templates' split and of the sentences drawn from them. The same seed, package and
            settings give the same corpus, bit for bit.

    An intent without both a train and a test sentence in a language is left out there. A sentence that
    was drawn for two intents is left out of both, and no two splits share a sentence (but for case,
    spaces and punctuation). Languages are cached one by one.

    Raises:
        MissingExtraError: the package is not installed.
        LanguageError: the package has no sentences in a language asked for.
        DataError: the package's format has changed.
    """
    if per_intent < 10:
        raise DataError(
            f"expected per_intent of 10 or more, found {per_intent}.",
            hint="One tenth of it is the dev split.",
        )
    files = locales()
    wanted = [languages] if isinstance(languages, str) else languages
    codes = tuple(files if wanted is None else dict.fromkeys(_find(name, files) for name in wanted))
    key = _cache_key(per_intent, seed)
    parts = []
    with progress("Home Assistant sentences", len(codes)) as advance:
        for code in codes:
            parts.append(_cached(code, files[code], key, per_intent, seed))
            advance(1, note=code)
    return Corpus(
        name="home-assistant",
        examples=tuple(example for part in parts for example in part.examples),
        licence="Apache-2.0",
        source=f"https://pypi.org/project/{PACKAGE} {metadata.version(PACKAGE)}",
        notices=_notices(parts),
    )


def _code(locale: str, region: bool) -> str:
    try:
        return parse_language(locale, region=region)
    except LanguageError:  # a language new to the package must not hide the others
        return custom_language(locale)


def _find(name: str, files: Mapping[str, Path]) -> str:
    for code in (name, parse_language(name, region=True), parse_language(name)):
        if code in files:
            return code
    raise LanguageError(
        f"expected a language of {PACKAGE} ({', '.join(files)}), found {name!r} ({language_name(code)}).",
        hint=suggestion(code, files),
    )


def _notices(parts: Sequence[Part]) -> tuple[str, ...]:
    notices = [
        "Names of rooms, floors and devices, and the free texts (messages, shopping, timers), are not the "
        "package's: they are short lists translated for metaglot."
    ]
    if borrowed := [part.language for part in parts if not part.own_lists]:
        notices.append(f"They are in English for: {', '.join(borrowed)}.")
    if skipped := [part for part in parts if part.skipped]:
        counts = ", ".join(f"{p.language} {len(p.skipped)} of {p.templates}" for p in skipped)
        notices.append(f"Templates that could not be read were skipped ({counts}): {skipped[0].skipped[0]}")
    if empty := [part.language for part in parts if not part.examples]:
        notices.append(f"No intent has enough templates to be split in: {', '.join(empty)}.")
    return tuple(notices)


def _cache_key(per_intent: int, seed: int) -> str:
    folder = resources.files("metaglot.data")
    sources = [hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() for name in _MADE_FROM]
    versions = [metadata.version(package) for package in (PACKAGE, "hassil", "unicode-rbnf")]
    return text_hash(*versions, *sources, str(per_intent), str(seed))[:24]


def _cached(code: str, path: Path, key: str, per_intent: int, seed: int) -> Part:
    """Return a language's part from the cache, where it is made if it is not there or is damaged."""
    from metaglot.data.home_assistant_sentences import build  # noqa: PLC0415 - needs an optional package

    file = cache_root() / "corpora" / "home-assistant" / key / f"{code}.jsonl"
    if file.exists() and (part := _read(file)) is not None:
        return part
    part = build(code, path, per_intent, seed)
    header = [code, len(part.examples), part.templates, part.skipped, part.own_lists]
    rows = [
        [e.id, e.text, e.label, e.split, e.group, [(s.start, s.end, s.label, s.value) for s in e.spans]]
        for e in part.examples
    ]
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [header, *rows]))
    return part


def _read(file: Path) -> Part | None:
    """Return what `file` holds, or None where it is not what was written."""
    from metaglot.data.home_assistant_sentences import Part  # noqa: PLC0415 - needs an optional package

    try:
        header, *rows = map(json.loads, file.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
        code, expected, templates, skipped, own_lists = header
        examples = tuple(
            Example(name, text, label, code, split, group, tuple(Span(*span) for span in spans))
            for name, text, label, split, group, spans in rows
        )
    except (OSError, ValueError, TypeError):
        return None
    return Part(code, examples, templates, tuple(skipped), own_lists) if len(examples) == expected else None
