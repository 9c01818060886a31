"""The kind of translation: sentence pairs ↔ numbers, and drafts of new sentences.

Placeholders never reach a model: both sides are hidden behind slots (`metaglot.bitext.placeholders`), which
are tokens of the target's vocabulary, and decoding is constrained to write each of them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from metaglot.bitext.pairs import SentencePair
from metaglot.bitext.placeholders import Hidden, hide, restore, with_ends
from metaglot.encoders import load_encoder
from metaglot.encoders.transformer import TransformerEncoder
from metaglot.errors import DataError, SettingsError
from metaglot.generation.material import Material, Sources, StateSources, TokenSources
from metaglot.progress import progress
from metaglot.sequences.constraints import RequireTokens
from metaglot.sequences.decoding import Decoding, Hypothesis, Limits, beam, greedy
from metaglot.sequences.vocabulary import BEGIN, Vocabulary
from metaglot.sequences.writing import Writer

LIMIT = 64
"""Tokens of a side: pairs with more are not learned from."""


@dataclass(frozen=True)
class TokenSide:
    """Sources as subwords of a vocabulary that was learned for them; an encoder is trained on top."""

    vocabulary: Vocabulary

    def sources(self, texts: Sequence[Hidden]) -> TokenSources:
        """Return the texts' numbers, an end behind each."""
        kept = [_names(text)[: len(self.vocabulary.slots)] for text in texts]
        ids = self.vocabulary.encode([text.text for text in texts], kept=kept)
        return TokenSources(tuple(row[1:] for row in ids))


@dataclass(frozen=True)
class StateSide:
    """Sources as token states of a frozen encoder: every language's words in one space.

    Attributes:
        encoder: its name.
        layer: the layer whose states they are; 0 is the embeddings, −1 the last.
    """

    encoder: str = "e5-small"
    layer: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self._loaded, TransformerEncoder):
            raise SettingsError(
                f"expected one encoder with states of tokens, such as e5-small, found {self.encoder!r}."
            )

    @property
    def width(self) -> int:
        """The states' width."""
        return self._loaded.blocks[self._loaded.name]

    @cached_property
    def _loaded(self) -> TransformerEncoder:
        return load_encoder(self.encoder)  # type: ignore[return-value]  # checked above

    def sources(self, texts: Sequence[Hidden]) -> StateSources:
        """Return the texts' states."""
        found = self._loaded.token_states([text.text for text in texts], (self.layer,))
        return StateSources(tuple(np.asarray(each.states, np.float16) for each in found))


@dataclass(frozen=True)
class Codec:
    """What a translation model reads and writes.

    Attributes:
        target: the vocabulary of what it writes.
        source: how sources come in.
    """

    target: Vocabulary
    source: TokenSide | StateSide

    def material(self, pairs: Sequence[SentencePair], *, group: int = -1, limit: int = LIMIT) -> Material:
        """Return pairs as a material; those too long, or with more placeholders than slots, are left out.

        A target begins with its language's tag, or where it has none with begin.

        Args:
            pairs: of one source and one target language.
            group: the language's.
            limit: tokens of a side.

        Raises:
            DataError: no pair is left.
        """
        sources, targets = [], []
        slots = len(self.target.slots)
        for pair in pairs:
            source = hide(pair.source.strip())
            target = hide(pair.target.strip(), source.slots)
            if pair.source.strip() and pair.target.strip() and len(target.slots) <= slots:
                sources.append(source)
                targets.append(target)
        if not targets:
            raise DataError(
                f"expected sentence pairs to learn from, found none of {len(pairs)} that can be used."
            )
        language = next(p.target_language for p in pairs)
        tag = language if language in self.target.languages else None
        ids = self.target.encode([t.text for t in targets], tag, kept=[_names(t) for t in targets])
        read = self.source.sources(sources)
        lengths = read.lengths()
        kept = [i for i, row in enumerate(ids) if len(row) - 1 <= limit and 0 < lengths[i] <= limit]
        if not kept:
            raise DataError(f"expected pairs of at most {limit} tokens a side, found only longer ones.")
        return Material(tuple(ids[i] for i in kept), _narrowed(read, kept), group)

    def translate(
        self,
        model: Writer,
        texts: Sequence[str],
        language: str | None = None,
        *,
        width: int = 4,
        batch: int = 32,
        length_penalty: float = 1.0,
        limits: Limits | None = None,
    ) -> list[str]:
        """Return a draft of each text, placeholders intact; empty ones stay empty.

        Args:
            model: what writes.
            texts: in the source language.
            language: the target's, where it has a tag; None begins as a language without one.
            width: of the beam; 1 is greedy.
            batch: texts at a time.
            length_penalty: of the beam.
            limits: how long drafts may become.

        Raises:
            DataError: a text has more placeholders than there are slots.
        """
        found = list(texts)
        # Space at a text's ends is put back there: a slot of it could be written anywhere.
        hidden = {place: hide(text.strip()) for place, text in enumerate(texts) if text.strip()}
        order = sorted(hidden, key=lambda place: len(hidden[place].text))
        many = [place for place in order if len(hidden[place].slots) > len(self.target.slots)]
        if many:
            raise DataError(
                f"expected at most {len(self.target.slots)} placeholders in a text, found "
                f"{len(hidden[many[0]].slots)} in text {many[0]}."
            )
        tag = language if language in self.target.languages else None
        first = BEGIN if tag is None else self.target.tag(tag)
        with progress("translating", len(order)) as advance:
            for start in range(0, len(order), batch):
                places = order[start : start + batch]
                chosen = [hidden[place] for place in places]
                inputs = self.source.sources(chosen).inputs(range(len(chosen)))
                for place, hypothesis in zip(
                    places, self._write(model, chosen, inputs, first, width, length_penalty, limits),
                    strict=True,
                ):  # fmt: skip
                    draft = restore(self.target.decode(hypothesis.ids), hidden[place].slots)
                    found[place] = with_ends(texts[place], draft)
                advance(len(places))
        return found

    def _write(
        self,
        model: Writer,
        texts: Sequence[Hidden],
        inputs: dict[str, Tensor],
        first: int,
        width: int,
        length_penalty: float,
        limits: Limits | None,
    ) -> list[Hypothesis]:
        vocabulary = self.target
        required = [[vocabulary.slots[i] for i in range(len(text.slots))] for text in texts]
        constraint = RequireTokens(required, vocabulary.slots, len(vocabulary), vocabulary.unsayable)
        how = Decoding(limits or Limits(), vocabulary.unsayable, constraint)
        prefix = [[first]] * len(texts)
        if width == 1:
            return greedy(model, prefix, inputs, how)
        found = beam(model, prefix, inputs, how, width=width, length_penalty=length_penalty)
        return [each[0] for each in found]


def _names(text: Hidden) -> list[str]:
    return [f"⟨{number}⟩" for number in range(len(text.slots))]


def _narrowed(sources: Sources, kept: Sequence[int]) -> Sources:
    if isinstance(sources, TokenSources):
        return TokenSources(tuple(sources.ids[i] for i in kept))
    assert isinstance(sources, StateSources)
    return StateSources(tuple(sources.states[i] for i in kept))
