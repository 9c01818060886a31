"""What models that write are taught: languages of a bitext or of texts, as materials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from metaglot.bitext import Bitext, Filters, Texts, clean, load_bitext, load_texts
from metaglot.bitext.pairs import SentencePair
from metaglot.errors import LanguageError, SettingsError, suggestion
from metaglot.generation import WRITING
from metaglot.generation.language_modelling import material
from metaglot.generation.material import Material
from metaglot.generation.pretrained import PretrainedSide
from metaglot.generation.recipe import GenerationRecipe
from metaglot.generation.translation import Codec, StateSide, TokenSide
from metaglot.languages import parse_language
from metaglot.sequences.vocabulary import Vocabulary
from metaglot.space import Groups, generator

_SLOTS = 16
_PER_LANGUAGE = 2000  # texts of each that vocabularies are learned from, so that no language has them alone


@dataclass(frozen=True)
class Taught:
    """Source languages as a model is taught them.

    Attributes:
        sources: code → material.
        held_out: the codes of languages that are not learned from.
        vocabulary: of what is written; None where a pretrained model has its own.
        source: how sources come in, or the pretrained model; None for language modelling.
        groups: what the languages are grouped by.
        pivot: the language on the other side of every translation; empty for language modelling.
        into: whether that is what is translated into.
        notices: things that the user should know.
        data: pairs, cleaned and turned as the model wants them, or texts, of all languages.
    """

    sources: dict[str, Material]
    held_out: tuple[str, ...]
    vocabulary: Vocabulary | None
    source: TokenSide | StateSide | PretrainedSide | None
    groups: Groups
    pivot: str
    into: bool
    notices: tuple[str, ...]
    data: Bitext | Texts


def teach(recipe: GenerationRecipe) -> Taught:
    """Load a recipe's corpus and make materials of its source languages.

    Raises:
        DataError: the corpus cannot be read.
        LanguageError: a language that is named is none of the corpus.
        SettingsError: there are too few languages to learn from.
    """
    found: Taught = WRITING[recipe.kind](recipe)
    return found


def directed(bitext: Bitext, pivot: str, *, into: bool) -> Bitext:
    """Return the pairs of a language, turned so that it is what is translated into, or out of."""
    return bitext.into(pivot) if into else bitext.out_of(pivot)


def language_modelling(recipe: GenerationRecipe) -> Taught:
    """What comes next in running text: bits per byte, and texts of its own."""
    texts = load_texts(recipe.corpus, encoding=recipe.encoding)
    codes, held_out = _sides(texts.languages, recipe)
    groups = Groups.of(codes, recipe.groups)
    if recipe.rows:
        some = [line.text for code in codes for line in texts.select(code, "train")[:_PER_LANGUAGE]]
        vocabulary = Vocabulary.train(some, recipe.rows, n_tags=1, n_slots=0)
    else:
        vocabulary = Vocabulary.of_bytes(n_tags=1, n_slots=0)
    sources = {}
    for code in codes:
        text = "".join(f"{line.text}\n" for line in texts.select(code, "train"))
        known = material(text, vocabulary, block=recipe.length, group=groups.number(code))
        sources[code] = _some(known, recipe, code)
    return Taught(sources, held_out, vocabulary, None, groups, "", False, texts.notices, texts)


def translation(recipe: GenerationRecipe) -> Taught:
    """Sentences from many languages into one, or from one into many: chrF++ and BLEU."""
    bitext = load_bitext(
        recipe.corpus, columns=recipe.columns, encoding=recipe.encoding, options=recipe.corpus_options
    )
    pivot = _pivot(bitext, recipe)
    into = not recipe.out_of
    cleaned, report = clean(directed(bitext, pivot, into=into), Filters())
    codes, held_out = _sides([code for code in cleaned.languages if code != pivot], recipe)
    groups = Groups.of(codes, recipe.groups)
    pairs = {code: _drawn(cleaned.select(code, "train"), recipe, code) for code in codes}
    if empty := [code for code in codes if len(pairs[code]) < 2]:
        raise SettingsError(
            f"expected at least two pairs to learn from in every language, found {empty[0]} without.",
            hint="Leave it out by --sources.",
        )
    pretrained = pretrained_side(recipe)
    codec: Codec | PretrainedSide
    if pretrained is None:
        target = _vocabulary(pairs, codes, recipe, lambda pair: pair.target, () if into else codes)
        codec = Codec(target, _side(pairs, codes, recipe))
    else:
        codec = pretrained
    sources = {
        code: codec.material(pairs[code], group=groups.number(code), limit=recipe.length) for code in codes
    }
    notices = (*bitext.notices, *filter(None, [report.summary]))
    if isinstance(codec, PretrainedSide):
        return Taught(sources, held_out, None, codec, groups, pivot, into, notices, cleaned)
    return Taught(sources, held_out, codec.target, codec.source, groups, pivot, into, notices, cleaned)


def pretrained_side(recipe: GenerationRecipe) -> PretrainedSide | None:
    """Return a recipe's pretrained model; None where it has none."""
    if not recipe.model:
        return None
    lora = 8 if recipe.lora is None else recipe.lora
    return PretrainedSide(recipe.model, lora, recipe.codes, recipe.prompt)


def _pivot(bitext: Bitext, recipe: GenerationRecipe) -> str:
    named = recipe.into or recipe.out_of
    if named:
        return parse_language(named)
    if bitext.pivot is None:
        raise SettingsError(
            f"expected the language to translate into or out of, for no language is in all pairs of "
            f"{bitext.name!r}; found neither.",
            hint="Say --into eng, or --out-of eng.",
        )
    return bitext.pivot


def _sides(known: Iterable[str], recipe: GenerationRecipe) -> tuple[list[str], tuple[str, ...]]:
    """The codes of source languages and of held-out ones."""
    known = sorted(known)
    held_out = tuple(_code(name, known) for name in recipe.held_out)
    chosen = known if recipe.sources is None else [_code(name, known) for name in recipe.sources]
    codes = [code for code in chosen if code not in held_out]
    if recipe.sources is not None and len(codes) < len(chosen):
        both = next(code for code in chosen if code in held_out)
        raise SettingsError(f"expected languages to be sources or held out, found {both!r} as both.")
    if len(codes) < 2:
        raise SettingsError(
            f"expected at least two languages to learn from, found {len(codes)} of {len(known)}.",
            hint="From one language alone nothing can be learned about learning another.",
        )
    return codes, held_out


def _code(name: str, known: Sequence[str]) -> str:
    if name in known:
        return name
    for code in (parse_language(name, region=True), parse_language(name)):
        if code in known:
            return code
    raise LanguageError(
        f"expected a language of the corpus ({', '.join(known[:12])}{' …' if len(known) > 12 else ''}), "
        f"found {name!r}.",
        hint=suggestion(name, known),
    )


def _drawn(pairs: Sequence[SentencePair], recipe: GenerationRecipe, code: str) -> list[SentencePair]:
    """At most so many of a language's pairs, by chance."""
    if not recipe.most or len(pairs) <= recipe.most:
        return list(pairs)
    order = generator(recipe.train.seed, "drawn", code).permutation(len(pairs))[: recipe.most]
    return [pairs[i] for i in sorted(order.tolist())]


def _some(material: Material, recipe: GenerationRecipe, code: str) -> Material:
    if not recipe.most or len(material) <= recipe.most:
        return material
    order = generator(recipe.train.seed, "drawn", code).permutation(len(material))[: recipe.most]
    return material.rows(sorted(order.tolist()))


def _vocabulary(
    pairs: dict[str, list[SentencePair]],
    codes: Sequence[str],
    recipe: GenerationRecipe,
    side: Callable[[SentencePair], str],
    tags: Sequence[str],
) -> Vocabulary:
    texts = [side(pair) for code in codes for pair in pairs[code][:_PER_LANGUAGE]]
    texts = list(dict.fromkeys(texts))
    if not recipe.rows:
        return Vocabulary.of_bytes(tags, n_tags=max(1, len(tags)), n_slots=_SLOTS)
    return Vocabulary.train(texts, recipe.rows, tags, n_tags=max(1, len(tags)), n_slots=_SLOTS)


def _side(
    pairs: dict[str, list[SentencePair]], codes: Sequence[str], recipe: GenerationRecipe
) -> TokenSide | StateSide:
    if recipe.source in ("", "subwords"):
        return TokenSide(_vocabulary(pairs, codes, recipe, lambda pair: pair.source, ()))
    name, at, layer = recipe.source.partition("@")
    try:
        return StateSide(name, int(layer) if at else -1)
    except ValueError as error:
        raise SettingsError(
            f"expected source='subwords', or an encoder and perhaps a layer (e5-small@0), found "
            f"{recipe.source!r}."
        ) from error
