"""What is done with a model that writes: translating, filling catalogues, generating text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from metaglot.bitext.placeholders import hide
from metaglot.bitext.po import Message
from metaglot.bitext.po_filling import Filled, fill
from metaglot.errors import DataError, SettingsError
from metaglot.generation.adapting import check_language
from metaglot.generation.model import GenerationModel
from metaglot.generation.pretrained import PretrainedSide
from metaglot.sequences.decoding import Decoding, Limits, greedy, sample
from metaglot.sequences.vocabulary import BEGIN, Vocabulary


def translate(
    model: GenerationModel,
    texts: Sequence[str],
    language: str,
    *,
    width: int = 4,
    batch: int = 32,
) -> list[str]:
    """Return a draft of each text: from a language into the model's pivot, or the other way.

    Args:
        model: a translation model.
        texts: sentences; empty ones stay so.
        language: the code of the language that is not the pivot.
        width: of the beam; 1 is greedy.
        batch: texts at a time.

    Raises:
        SettingsError: the model does not translate, or the beam has no width.
        DataError: a text has more placeholders than the model has slots.
    """
    return translator(model, language, width=width, batch=batch)(texts)


def translator(
    model: GenerationModel, language: str, *, width: int = 4, batch: int = 32
) -> Callable[[Sequence[str]], list[str]]:
    """Return `translate` of one language, which keeps the adapted model in memory between calls."""
    if width < 1 or batch < 1:
        raise SettingsError(f"expected a beam and a batch of at least 1, found {width} and {batch}.")
    codec, writer = model.codec, model.writer(language)
    check_language(model, language)
    if isinstance(codec, PretrainedSide):
        other = str(model.facts["pivot"])
        both = (language, other) if model.facts["into"] else (other, language)
        return lambda texts: codec.translate(writer, texts, both, width=width, batch=batch)
    # An adapted language begins as it did when it was adapted: without a tag.
    tag = language if language in model.facts["tagged"] and language not in model.adaptations else None

    def run(texts: Sequence[str]) -> list[str]:
        return codec.translate(writer, texts, tag, width=width, batch=batch)

    return run


def fill_catalogue(
    model: GenerationModel,
    path: Path | str,
    language: str,
    *,
    output: Path | str | None = None,
    width: int = 4,
) -> Filled:
    """Fill the gaps of a gettext catalogue with the model's drafts, marked fuzzy.

    Args:
        model: one that translates out of the catalogue's source language.
        path: the `.po` file.
        language: the code of what it is translated into.
        output: where to write it instead of in its own place.
        width: of the beam.

    Raises:
        SettingsError: the model translates the other way.
        DataError: the catalogue cannot be read.
        StorageError: it could not be written.
        MissingExtraError: polib is not installed.
    """
    if model.source is not None and model.facts["into"]:
        raise SettingsError(
            f"expected a model that translates out of the catalogue's language, found one that translates "
            f"into {model.facts['pivot']}.",
            hint="Train one with --out-of.",
        )
    run = translator(model, language, width=width)
    codec = model.codec
    most = None if isinstance(codec, PretrainedSide) else len(codec.target.slots)

    def drafts(messages: Sequence[Message]) -> list[str]:
        # What has more placeholders than the model can keep apart is left for the translator.
        sources = [m.source if most is None or len(hide(m.source).slots) <= most else "" for m in messages]
        # Bytes that are no text are no draft: the gap stays, and is counted.
        return ["" if "\ufffd" in draft else draft for draft in run(sources)]

    return fill(path, drafts, output=output)


def generate(
    model: GenerationModel,
    prompts: Sequence[str],
    language: str,
    *,
    tokens: int = 200,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
) -> list[str]:
    """Return texts that begin with the prompts.

    Args:
        model: a language model.
        prompts: what to go on from; an empty one lets it begin by itself.
        language: the code.
        tokens: how many are written, bytes where the vocabulary is of bytes.
        temperature: of sampling; 0 is greedy.
        top_p: the mass of the likeliest tokens that are sampled from.
        seed: of the draws.

    Raises:
        SettingsError: the model is one of translation, or a setting is out of its range.
        DataError: there is no prompt.
    """
    if model.source is not None:
        raise SettingsError(
            "expected a language model, found one that translates.", hint="`metaglot translate` uses it."
        )
    if not prompts:
        raise DataError("expected at least one prompt, found none; an empty one will do.")
    if tokens < 1 or temperature < 0:
        raise SettingsError(f"expected tokens ≥ 1 and temperature ≥ 0, found {tokens} and {temperature}.")
    vocabulary = model.vocabulary
    assert vocabulary is not None
    writer = model.writer(language)
    known = vocabulary.encode(list(prompts), framed=False)
    written: list[list[int]] = [[] for _ in prompts]
    # The model has only ever seen blocks of so many tokens: it writes half a block at a time, after the half
    # that went before.
    half = max(1, model.recipe.length // 2)
    going = list(range(len(prompts)))
    for turn, done in enumerate(range(0, tokens, half)):
        how = Decoding(Limits(0, min(half, tokens - done)), vocabulary.unsayable)
        prefix = [[BEGIN, *[*known[i], *written[i]][-half:]] for i in going]
        if temperature == 0:
            found = greedy(writer, prefix, None, how)
        else:
            found = sample(writer, prefix, None, how, temperature=temperature, top_p=top_p, seed=seed + turn)
        for i, piece in zip(going, found, strict=True):
            written[i] += piece.ids
        going = [i for i, piece in zip(going, found, strict=True) if not piece.finished]
        if not going:
            break
    return [prompt + _text(vocabulary, ids) for prompt, ids in zip(prompts, written, strict=True)]


def _text(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    """The text of numbers; a character that was cut off at the limit is left out."""
    return vocabulary.decode(ids).rstrip("�")
