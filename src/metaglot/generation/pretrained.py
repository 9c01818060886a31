"""A pretrained model in the place of a compact one: NLLB, M2M100, mT5, ByT5, Marian and their like.

It brings its own vocabulary and its own codes of languages. What is learned of it are low-rank updates (LoRA;
Hu et al. 2022), or all of it where `lora` is 0: the start of those parameters is what learners meta-learn,
and they are all that an artifact and an adaptation hold. The weights below are named by a fingerprint.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from metaglot.bitext.pairs import SentencePair
from metaglot.errors import DataError
from metaglot.generation.material import Material, TokenSources
from metaglot.learners.insertions import add_lora
from metaglot.progress import progress
from metaglot.sequences.decoding import Decoding, Limits, beam, greedy
from metaglot.sequences.pretrained_loading import load_pretrained
from metaglot.storage import text_hash

if TYPE_CHECKING:
    from torch import nn

    from metaglot.sequences.pretrained import PretrainedTranslation
    from metaglot.sequences.pretrained_tokens import PretrainedTokens
    from metaglot.sequences.writing import Writer

_SAMPLE = 64  # numbers of each tensor that the fingerprint is of


@dataclass(frozen=True)
class PretrainedSide:
    """A pretrained model and its tokenizer.

    Attributes:
        name: the hub's name, or a folder.
        lora: rank of the low-rank updates; 0 learns all parameters.
        codes: language → the model's own code, or a language in whose name it goes.
        prompt: what stands before each source text, see `PretrainedTokens`.
    """

    name: str
    lora: int = 8
    codes: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""

    @cached_property
    def _loaded(self) -> tuple[PretrainedTranslation, PretrainedTokens]:
        return load_pretrained(self.name, codes=dict(self.codes), prompt=self.prompt)

    @property
    def tokens(self) -> PretrainedTokens:
        """The model's tokenizer."""
        return self._loaded[1]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights' names and shapes, and of the first numbers of each."""
        parts = []
        for name, value in self._loaded[0].named_parameters():
            some = value.detach().reshape(-1)[:_SAMPLE].contiguous().numpy().tobytes().hex()
            parts.append(f"{name} {list(value.shape)} {some}")
        return text_hash(*parts)

    def module(self) -> nn.Module:
        """Return the model with what is to be learned of it, everything else frozen."""
        if self.lora:
            return add_lora(self._loaded[0], rank=self.lora, alpha=2 * self.lora)
        return copy.deepcopy(self._loaded[0])

    def material(self, pairs: Sequence[SentencePair], *, group: int = -1, limit: int = 64) -> Material:
        """Return pairs as a material; those too long are left out.

        Raises:
            DataError: no pair is left.
            LanguageError: the model does not know a language.
        """
        known = [pair for pair in pairs if pair.source.strip() and pair.target.strip()]
        if not known:
            raise DataError(
                f"expected sentence pairs to learn from, found none of {len(pairs)} that can be used."
            )
        both = known[0].source_language, known[0].target_language
        sources = self.tokens.sources([pair.source for pair in known], *both)
        targets = self.tokens.targets([pair.target for pair in known], both[1])
        given = len(self.tokens.prefix(both[1]))
        kept = [i for i, ids in enumerate(targets) if len(ids) - given <= limit >= len(sources[i])]
        if not kept:
            raise DataError(f"expected pairs of at most {limit} tokens a side, found only longer ones.")
        return Material(
            tuple(targets[i] for i in kept),
            TokenSources(tuple(sources[i] for i in kept)),
            group,
            tagged=False,
            given=given,
        )

    def translate(
        self,
        model: Writer,
        texts: Sequence[str],
        languages: tuple[str, str],
        *,
        width: int = 4,
        batch: int = 32,
    ) -> list[str]:
        """Return a draft of each text; empty ones stay empty.

        Placeholders stand in the text, and the model may change them.

        Args:
            model: what writes.
            texts: in the source language.
            languages: source and target.
            width: of the beam; 1 is greedy.
            batch: texts at a time.

        Raises:
            LanguageError: the model does not know a language.
        """
        found = list(texts)
        order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(texts[i]))
        how = Decoding(Limits(), self.tokens.unsayable)
        prefix = self.tokens.prefix(languages[1])
        with progress("translating", len(order)) as advance:
            for start in range(0, len(order), batch):
                places = order[start : start + batch]
                inputs = self.tokens.inputs([texts[i] for i in places], *languages)
                begun: Any = [prefix] * len(places)
                if width == 1:
                    best = greedy(model, begun, inputs, how)
                else:
                    best = [each[0] for each in beam(model, begun, inputs, how, width=width)]
                for place, hypothesis in zip(places, best, strict=True):
                    found[place] = self.tokens.decode(hypothesis.ids)
                advance(len(places))
        return found
