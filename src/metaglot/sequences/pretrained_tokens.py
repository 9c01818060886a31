"""Texts ↔ numbers for a pretrained model: its own tokenizer, and its own codes of languages.

Models of many languages want to be told which language they read and write, each family in its way:

    NLLB, M2M100, mBART-50    `swh_Latn`, `__sw__`, `sw_KE`: the source's tag in the source, the target's
                              after the decoder's first token
    Marian, many targets      `>>swa<<` of the target, before the source's text
    Marian, one target        nothing
    T5, mT5, ByT5             nothing of their own; a `prompt` where it is wanted

Languages are given as metaglot writes them (ISO 639-3); the model's own codes will do, too. Numbers are
metaglot's: 0 is padding, 2 the end (`metaglot.sequences.pretrained`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from metaglot.errors import DataError, LanguageError, SettingsError, suggestion
from metaglot.families import branch, family
from metaglot.languages import language_name, parse_language
from metaglot.sequences.vocabulary import END, PADDING
from metaglot.types import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from metaglot.sequences.pretrained import PretrainedTranslation

# What tags of languages look like; the code is the group that is there.
_IN_TEXT = re.compile(r">>([A-Za-z][\w-]*)<<")
_AT_START = re.compile(r"__([a-z]{2,3})__|([a-z]{2,3}_[A-Z](?:[a-z]{3}|[A-Z]))")
_MEANT = {"ns": "nso"}  # M2M100's, which no standard knows
_SHOWN = 6


class PretrainedTokens:
    """The tokenizer of a pretrained model.

    Args:
        tokenizer: the model's own, of `transformers`.
        model: the model.
        codes: language that the model does not know → the code or the language in whose name it goes: a
            neighbour's, whose words it shares, or one that is not needed.
        prompt: what stands before each source text, for models without tags of languages; `{source}` and
            `{target}` in it become the languages' English names.
        limit: tokens of a source or a target; what is longer is cut.

    Attributes:
        languages: those that the model has tags for, in metaglot's codes; none where it has no tags.
        unsayable: what is never a part of a text, but for the end: to be banned in decoding.

    Raises:
        SettingsError: the tokenizer is not the model's, a prompt is given to a model that has tags, or
            the limit is below 4.
        LanguageError: `codes` has what the model does not know.
    """

    def __init__(
        self,
        tokenizer: Any,
        model: PretrainedTranslation,
        *,
        codes: Mapping[str, str] | None = None,
        prompt: str = "",
        limit: int = 256,
    ) -> None:
        self._tokenizer, self._prompt, self._limit = tokenizer, prompt, limit
        self._rows: list[int] = model.rows.tolist()
        self._numbers: list[int] = torch.argsort(model.rows).tolist()
        self._start = model.start
        self._tags, self._in_text = _tags(tokenizer)
        size = max([len(tokenizer), *(row + 1 for row in self._tags.values())])
        if size > len(self._rows) or limit < 4:
            raise SettingsError(
                f"expected a tokenizer of at most the model's {len(self._rows)} tokens and a limit of at "
                f"least 4, found {size} and {limit}.",
                hint="Load the tokenizer that belongs to the model.",
            )
        if (prompt and self._tags) or (codes and not self._tags):
            has = "tags" if self._tags else "no tags"
            raise SettingsError(
                f"expected a prompt for a model without tags of languages, codes for one with them; the "
                f"model has {has}, found prompt={prompt!r} and codes={dict(codes or {})}."
            )
        if self._tags and not self._in_text and not hasattr(tokenizer, "src_lang"):
            raise SettingsError(
                f"expected a tokenizer that is told the source's language (src_lang), found "
                f"{type(tokenizer).__name__}.",
                hint="Load it by the class that was made for the model, such as NllbTokenizer.",
            )
        ends = (self._rows[PADDING], self._rows[END])
        if (tokenizer.pad_token_id, tokenizer.eos_token_id) != ends:
            raise SettingsError(
                f"expected a tokenizer with the model's padding {ends[0]} and end {ends[1]}, found "
                f"{tokenizer.pad_token_id} and {tokenizer.eos_token_id}.",
                hint="Load the tokenizer that belongs to the model.",
            )
        self._codes = {_language(code): code for code in self._tags}
        self.languages = tuple(sorted(self._codes))
        self._given: dict[str, str] = {}
        given = {name: self.code(code) for name, code in (codes or {}).items()}
        self._given = {_language(name): code for name, code in given.items()} | given
        special = {*tokenizer.all_special_ids, *self._tags.values(), *range(len(tokenizer), len(self._rows))}
        self.unsayable = tuple(sorted({self._numbers[row] for row in special} - {END}))

    def code(self, language: str) -> str:
        """Return the model's code of a language; an empty string where the model has no tags.

        A script may be left out where the model has the language in one, and is left out of account where
        the model knows of none.

        Raises:
            LanguageError: the model does not know the language.
        """
        if not self._tags:
            return ""
        if not language:
            raise LanguageError(
                "expected a language, for the model wants to be told, found none.",
                hint="Say source_language and target_language.",
            )
        asked = _language(language)
        base = asked.partition("_")[0]
        in_scripts = [known for known in self._codes if known.partition("_")[0] == base]
        if language in self._given or asked in self._given:
            return self._given.get(language) or self._given[asked]
        if language in self._tags:
            return language
        if asked in self._codes:
            return self._codes[asked]
        if base in self._codes and asked != base:
            return self._codes[base]
        if asked == base and len(in_scripts) == 1:
            return self._codes[in_scripts[0]]
        raise LanguageError(
            f"expected a language that the model knows, found {language_name(language)} ({language!r}).",
            hint=self._advice(base, in_scripts, language),
        )

    def prefix(self, target_language: str = "") -> list[int]:
        """Return the numbers that a target begins with: the first token, and the language's tag if any.

        Raises:
            LanguageError: the model does not know the language.
        """
        if not self._tags or self._in_text:
            return [self._start]
        return [self._start, self._numbers[self._tags[self.code(target_language)]]]

    def sources(
        self, texts: Sequence[str], source_language: str = "", target_language: str = ""
    ) -> list[list[int]]:
        """Return the numbers of source texts, with what tells the model of the languages.

        Raises:
            DataError: there is no text.
            LanguageError: the model does not know a language that it wants to be told.
        """
        before = self._prompt.replace("{source}", language_name(source_language))
        before = before.replace("{target}", language_name(target_language))
        if self._in_text:
            before = f">>{self.code(target_language)}<< "
        elif self._tags:
            self._tokenizer.src_lang = self.code(source_language)
        written = [before + text for text in _some(texts)]
        return self._encoded(written, truncation=True, max_length=self._limit)

    def targets(self, texts: Sequence[str], target_language: str = "") -> list[list[int]]:
        """Return the numbers of target texts: the prefix, the text, the end unless the text was cut.

        Raises:
            DataError: there is no text.
            LanguageError: the model does not know the language.
        """
        first = self.prefix(target_language)
        if self._tags and not self._in_text:
            self._tokenizer.tgt_lang = self.code(target_language)
        found = self._encoded(text_target=_some(texts), add_special_tokens=False)
        return [[*first, *ids, END][: self._limit] for ids in found]

    def inputs(
        self, texts: Sequence[str], source_language: str = "", target_language: str = ""
    ) -> dict[str, Tensor]:
        """Return `source` `[n, S]` and `source_mask` `[n, S]`: what decoding wants.

        Raises:
            DataError: there is no text.
            LanguageError: the model does not know a language that it wants to be told.
        """
        source = _padded(self.sources(texts, source_language, target_language))
        return {"source": source, "source_mask": source != PADDING}

    def batch(
        self,
        texts: Sequence[str],
        translations: Sequence[str],
        source_language: str = "",
        target_language: str = "",
        *,
        group: int = -1,
    ) -> Batch:
        """Return sentence pairs as what learners take, with `token_cross_entropy` for a loss.

        Inputs are `source`, `source_mask` and `target`; targets `[n, T]` are 0 where there is nothing to
        predict: at padding, and at the prefix, which is always given.

        Raises:
            DataError: there is no text, or there are not as many translations.
            LanguageError: the model does not know a language that it wants to be told.
        """
        if len(texts) != len(translations):
            raise DataError(
                f"expected a translation for each of {len(texts)} texts, found {len(translations)}."
            )
        inputs = self.inputs(texts, source_language, target_language)
        ids = _padded(self.targets(translations, target_language))
        targets = ids[:, 1:].clone()
        targets[:, : len(self.prefix(target_language)) - 1] = 0
        return Batch(inputs | {"target": ids[:, :-1]}, targets, torch.arange(0), group=group)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that numbers stand for; special tokens and tags stand for none.

        Raises:
            DataError: a number is out of range.
        """
        unsayable, rows = {*self.unsayable, END}, []
        for number in ids:
            if not 0 <= number < len(self._rows):
                raise DataError(f"expected numbers from 0 to {len(self._rows) - 1}, found {number}.")
            if number not in unsayable:
                rows.append(self._rows[number])
        text: str = self._tokenizer.decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _encoded(self, *texts: list[str], **options: Any) -> list[list[int]]:
        # What looks like a special token in a text is text.
        found = self._tokenizer(*texts, **options, split_special_tokens=True)["input_ids"]
        return [[self._numbers[row] for row in rows] for rows in found]

    def _advice(self, base: str, in_scripts: Sequence[str], language: str) -> str:
        """What to do about a language that the model does not know."""
        if in_scripts:
            return f"It has it as {' and '.join(sorted(in_scripts))}: say which."
        near: list[str] = []
        for kinship in (branch, family):
            kin = kinship(base)
            if kin:
                near += [known for known in self.languages if kinship(known) == kin and known not in near]
        shown = ", ".join(f"{known} ({language_name(known)})" for known in near[:_SHOWN])
        nearest = f"The nearest that it knows: {shown}. " if near else ""
        meant = suggestion(language, [*self.languages, *self._tags])
        example = near[0] if near else self.languages[0]
        return (
            f"{meant + ' ' if meant and not near else ''}{nearest}A language that the model does not know "
            f"may go in the name of a neighbour, or of one that is not needed: "
            f"codes={{{language!r}: {example!r}}}."
        )


def _tags(tokenizer: Any) -> tuple[dict[str, int], bool]:
    """The model's codes of languages → their tokens' rows, and whether they are written into source texts."""
    vocabulary = tokenizer.get_vocab()
    # M2M100's tokenizer keeps its tags beside its vocabulary.
    beside = getattr(tokenizer, "lang_token_to_id", None) or {}
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab(), *beside}
    for pattern, names in ((_AT_START, special), (_IN_TEXT, special | set(vocabulary))):
        found = {next(filter(None, m.groups())): m[0] for m in map(pattern.fullmatch, names) if m}
        if found:
            rows = {code: tokenizer.convert_tokens_to_ids(name) for code, name in sorted(found.items())}
            return rows, pattern is _IN_TEXT
    return {}, False


def _language(code: str) -> str:
    """The house's code for a language, or what was given where no standard knows it."""
    try:
        return parse_language(_MEANT.get(code, code))
    except LanguageError:
        return code


def _some(texts: Sequence[str]) -> list[str]:
    if not texts or isinstance(texts, str):
        raise DataError(f"expected a list of at least one text, found {texts!r}.")
    return list(texts)


def _padded(ids: Sequence[Sequence[int]]) -> Tensor:
    found = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.int64)
    for row, numbers in zip(found, ids, strict=True):
        row[: len(numbers)] = torch.tensor(numbers)
    return found
