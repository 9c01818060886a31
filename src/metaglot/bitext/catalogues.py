"""Django's message catalogues as a parallel corpus: an application's texts in nearly a hundred languages.

They ship in the package `Django` (BSD-3), so that this corpus needs no download. Its sentences are short
and full of placeholders: what there is to translate in most programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path

from metaglot.bitext.pairs import Bitext, SentencePair
from metaglot.bitext.placeholders import with_ends
from metaglot.bitext.po import Message, messages, read_po
from metaglot.bitext.splitting import split_of
from metaglot.data.assemble import language_codes
from metaglot.data.inspect import normalized
from metaglot.errors import DataError, LanguageError, MissingExtraError, suggestion
from metaglot.languages import parse_language
from metaglot.progress import progress
from metaglot.storage import text_hash

PACKAGE = "Django"
_SOURCE = "eng"


def load(*, languages: Iterable[str] | None = None, seed: int = 0) -> Bitext:
    """Load the texts of Django's own catalogues with their translations from English.

    What is fuzzy, obsolete or empty is left out, and the space at a translation's ends is its source's. An
    id names a message in all languages; messages that differ in case and punctuation alone are one group.
    80, 10 and 10 % of the groups are train, dev and test, by a hash of the text: in the same split in every
    language and version. A message with plural forms gives one pair for the number one (`…/one`; none in
    languages that have a single form) and one for the form of the most numbers (`…/other`); their note says
    which form of how many it is.

    Args:
        languages: names or codes; all but the varieties of English if left out.
        seed: of the splits.

    Raises:
        LanguageError: Django has no catalogue in a language.
        MissingExtraError: Django or polib is not installed.
        DataError: a catalogue cannot be read.
    """
    root = _root()
    notices: list[str] = []
    files = _files(root, notices)
    wanted = list(files) if languages is None else [_find(name, files) for name in languages]
    pairs: list[SentencePair] = []
    with progress("Django's catalogues", len(wanted)) as advance:
        for code in dict.fromkeys(wanted):
            pairs += _language(code, files[code], seed)
            advance(1, note=code)
    return Bitext(
        name="django",
        pairs=tuple(pairs),
        parallel=True,
        licence="BSD-3-Clause",
        origin=f"https://pypi.org/project/{PACKAGE} {metadata.version(PACKAGE)}",
        notices=tuple(notices),
    )


def locales() -> tuple[str, ...]:
    """Return the codes of the languages that Django has catalogues in, sorted.

    Raises:
        MissingExtraError: Django is not installed.
    """
    return tuple(sorted(_files(_root(), [])))


def _root() -> Path:
    """Django's folder, found without importing it: an import would want settings."""
    spec = util.find_spec("django")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(PACKAGE, "translate", "The corpus 'django'")
    return Path(spec.submodule_search_locations[0])


def _files(root: Path, notices: list[str]) -> dict[str, list[Path]]:
    """Return code → its catalogues, the one of Django's core first."""
    by_locale: dict[str, list[Path]] = {}
    for pattern in ("conf/locale/*/LC_MESSAGES/*.po", "contrib/*/locale/*/LC_MESSAGES/*.po"):
        for path in sorted(root.glob(pattern)):
            by_locale.setdefault(path.parent.parent.name, []).append(path)
    if not by_locale:
        raise DataError(
            f"expected message catalogues in {root}, found none.",
            hint=f"Some systems' own packages leave them out: pip install {PACKAGE}.",
        )
    told: list[str] = []
    codes = language_codes(sorted(by_locale), told)
    english = [name for name, code in codes.items() if code.split("_")[0] == _SOURCE]
    notices += told
    notices.append(f"Catalogues of English itself were left out: {', '.join(english)}.")
    return {codes[name]: files for name, files in sorted(by_locale.items()) if name not in english}


def _find(name: str, files: Mapping[str, object]) -> str:
    if name in files:
        return name
    for code in (parse_language(name, region=True), parse_language(name)):
        if code in files:
            return code
    raise LanguageError(
        f"expected a language of Django's catalogues ({', '.join(sorted(files))}), found {name!r} ({code}).",
        hint=suggestion(code, files),
    )


def _language(code: str, files: Sequence[Path], seed: int) -> Iterator[SentencePair]:
    """Yield a language's pairs; of several translations of one message, the first file's."""
    seen: set[str] = set()
    for path in files:
        for entry, group in messages(read_po(path), path):
            if entry.fuzzy:
                continue
            for message, suffix in _chosen(group):
                id_ = text_hash(message.context, message.msgid)[:12] + suffix
                if id_ in seen or not message.source.strip() or not message.target.strip():
                    continue
                seen.add(id_)
                content = normalized(message.msgid)
                yield SentencePair(
                    id=id_,
                    source=message.source,
                    target=with_ends(message.source, message.target),
                    source_language=_SOURCE,
                    target_language=code,
                    split=split_of(content, seed),
                    group=text_hash(content)[:12],
                    note=message.note,
                )


def _chosen(group: Sequence[Message]) -> Iterator[tuple[Message, str]]:
    """Yield what becomes a pair of an entry's messages, each with what its id ends in."""
    if group[0].form is None:
        yield group[0], ""
        return
    if len(group) > 1 and (one := next((m for m in group if 1 in m.numbers), None)):
        yield one, "/one"
    others = [message for message in group if len(group) == 1 or 1 not in message.numbers]
    if others:
        yield max(others, key=lambda message: len(message.numbers)), "/other"
