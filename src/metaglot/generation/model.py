"""A model that writes, the learner that adapts it, and the languages that it was adapted to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn

from metaglot.errors import SettingsError
from metaglot.generation.material import Material
from metaglot.generation.pretrained import PretrainedSide
from metaglot.generation.recipe import GenerationRecipe
from metaglot.generation.translation import Codec, StateSide, TokenSide
from metaglot.learners.base import Learner
from metaglot.learners.modules import ModuleModel
from metaglot.sequences.blocks import StackConfig
from metaglot.sequences.loss import token_cross_entropy
from metaglot.sequences.transformer import (
    LanguageModel,
    LanguageModelConfig,
    TranslationConfig,
    TranslationModel,
)
from metaglot.sequences.vocabulary import BEGIN, END, Vocabulary
from metaglot.sequences.writing import Writer
from metaglot.space import Groups
from metaglot.types import Params


@dataclass(frozen=True)
class WrittenLanguage:
    """What a learner made of one language's examples.

    Attributes:
        language: the code.
        own: the language's own parameters, in float32 values that float16 holds exactly.
        examples: how many sequences it was made from.
        updates: the inner steps that it took.
        multiple: of the learner's rates.
        estimate: nats per token on a part of the examples that was kept apart, before and after; None where
            there were too few.
    """

    language: str
    own: Params
    examples: int
    updates: int
    multiple: float
    estimate: dict[str, float] | None = None


@dataclass
class GenerationModel:
    """A trained model that writes.

    Attributes:
        recipe: what made it.
        vocabulary: of what it writes; None where a pretrained model has its own.
        source: how sources come in, or the pretrained model; None for language modelling.
        groups: what the source languages are grouped by.
        learner: what adapts it.
        meta: the learner's meta-parameters.
        facts: source and held-out languages, the data's fingerprint, measurements.
        adaptations: code → what was made of its examples.
    """

    recipe: GenerationRecipe
    vocabulary: Vocabulary | None
    source: TokenSide | StateSide | PretrainedSide | None
    groups: Groups
    learner: Learner
    meta: Params
    facts: Mapping[str, Any]
    adaptations: dict[str, WrittenLanguage] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`"translation"` or `"language-modelling"`."""
        return self.recipe.kind

    @cached_property
    def module(self) -> nn.Module:
        """The model's structure, with its random start."""
        return build(self.recipe, self.vocabulary, self.source)

    @cached_property
    def task_model(self) -> ModuleModel:
        """The model as the learner sees it."""
        return task_model(self.module, self.groups, self.recipe.train.precision)

    @cached_property
    def codec(self) -> Codec | PretrainedSide:
        """What a translation model reads and writes.

        Raises:
            SettingsError: the model does not translate.
        """
        if self.source is None:
            raise SettingsError(
                "expected a model that translates, found one of language modelling.",
                hint="`metaglot generate` has it write.",
            )
        if isinstance(self.source, PretrainedSide):
            return self.source
        assert self.vocabulary is not None
        return Codec(self.vocabulary, self.source)

    def writer(self, language: str) -> Writer:
        """Return the module with a language's parameters: adapted, or what the language would start from."""
        adapted = self.adaptations.get(language)
        some = self._some(language)
        begin, common = self.learner.begin(self.task_model, self.meta, [some.batch([0])])  # type: ignore[attr-defined]
        own = {n: v.squeeze(0) for n, v in begin.items()} if adapted is None else adapted.own
        params = {n: v.detach() for n, v in common.items()} | own
        found = copy.deepcopy(self.module).eval()
        with torch.no_grad():
            for name, value in found.named_parameters():
                if name in params:  # what is frozen is as it was
                    value.copy_(params[name])
        return cast("Writer", found)

    def _some(self, language: str) -> Material:
        """A material of nothing much, in the language's group: what `begin` wants to be shown."""
        return Material(((BEGIN, END),), group=self.groups.number(language))


def build(
    recipe: GenerationRecipe,
    vocabulary: Vocabulary | None,
    source: TokenSide | StateSide | PretrainedSide | None,
) -> nn.Module:
    """Return a recipe's model at its random start, or as it was pretrained."""
    if isinstance(source, PretrainedSide):
        return source.module()
    assert vocabulary is not None
    sizes = {"d": recipe.width, "heads": recipe.heads, "d_inner": 4 * recipe.width}
    decoder = StackConfig(layers=recipe.layers, **sizes)
    seed = recipe.train.seed % 2**63
    if source is None:
        return LanguageModel(LanguageModelConfig(len(vocabulary), decoder, seed))
    if isinstance(source, StateSide):
        encoder = StackConfig(layers=recipe.layers - 1, **sizes)
        config = TranslationConfig(
            len(vocabulary), d_states=source.width, decoder=decoder, encoder=encoder, seed=seed
        )
    else:
        config = TranslationConfig(
            len(vocabulary),
            source_vocabulary=len(source.vocabulary),
            decoder=decoder,
            encoder=decoder,
            seed=seed,
        )
    return TranslationModel(config)


def task_model(module: nn.Module, groups: Groups, precision: str = "float32") -> ModuleModel:
    """Return a model as learners see it."""
    return ModuleModel(module, token_cross_entropy, groups=groups.names, precision=precision)
