"""Settings of models that write: one recipe reproduces a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from metaglot.config import NotNegative, Positive, PositiveNumber, Settings, Share, TrainSettings, groups_of

_FOR_PAIRS = ("into", "out_of", "source", "columns", "corpus_options", "model")
_OWN = ("source", "vocabulary", "width", "layers", "heads")
_FOR_LABELS = ("balance", "shots", "queries", "feature_dropout", "prior_noise", "mixup")


class JointSettings(Settings):
    """Joint training on all source languages: what meta-training starts from.

    Attributes:
        steps: outer steps; 0 leaves the model at its random start.
        batch: sequences of each, of all languages together.
        rate: Adam's step size, which falls to zero along a cosine.
        untagged: share of sequences without their language's tag, so that a new language can begin so.
    """

    steps: NotNegative = 2000
    batch: Annotated[int, Field(ge=2)] = 32
    rate: PositiveNumber = 2e-3
    untagged: Share = 0.2


class EpisodeSettings(TrainSettings):
    """The outer loop of models that write: `TrainSettings` with other defaults.

    Attributes:
        support: sequences that an episode adapts on; as many as its inner steps are on where absent.
        query: sequences that it is judged on.
        fresh: share of the source languages that joint training leaves to the episodes, so that these are of
            languages that the model does not know yet; with 0 all languages are in both.
    """

    steps: Positive = 200
    episodes: Positive = 2
    pool: NotNegative = 0
    clip: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    accumulate: NotNegative = 1
    checkpoint_every: Positive = 50
    support: Positive | None = None
    query: Positive = 16
    fresh: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _of_sequences(self) -> EpisodeSettings:
        usual = {name: field.default for name, field in TrainSettings.model_fields.items()}
        if given := [name for name in _FOR_LABELS if getattr(self, name) != usual[name]]:
            raise PydanticCustomError(
                "for_labels", "{name} is a setting of kinds with labels", {"name": given[0]}
            )
        return self


class GenerationRecipe(Settings):
    """Everything that a run depends on, but the data's content.

    Attributes:
        corpus: what `metaglot.bitext.load_bitext` takes, or for language modelling `load_texts`.
        kind: `"translation"` or `"language-modelling"`.
        columns: field → the column that holds it.
        encoding: of the corpus's text files.
        corpus_options: options of a named corpus.
        into: the language that is translated into, many others being translated from.
        out_of: the language that is translated from, into many others; the corpus's pivot is what is
            translated into where neither is given.
        source: how sources come in: `"subwords"` of their own (where absent), or states of an encoder
            (`"e5-small"`), of a layer if wished (`"e5-small@0"`: its embeddings).
        model: a pretrained model to be used in place of a compact one, a name or a folder
            (`"facebook/nllb-200-distilled-600M"`); it has its own vocabulary, sizes and start.
        lora: rank of the low-rank updates that are learned of it, 8 where absent; 0 learns all of it.
        codes: language → what the pretrained model calls it, or a language in whose name it goes.
        prompt: what stands before each source text of a pretrained model without tags of languages (mT5,
            ByT5); `{source}` and `{target}` in it become the languages' names.
        vocabulary: rows of the target's vocabulary, special ones and bytes included; 0 is bytes alone. 4,000
            for translation and 0 for language modelling where absent.
        width: of the model.
        layers: of its decoder, and of its encoder where sources are subwords; of states, one less.
        heads: of attention.
        limit: tokens of a block or a side at most; 128 and 64 where absent.
        most: sequences of a source language at most, drawn by chance; 0 is all.
        held_out: languages that are not learned from.
        sources: languages that are; every other one where absent.
        learner: a learner's name.
        learner_options: its own options.
        groups: what languages are grouped by, for learners that use groups.
        joint: joint training.
        train: meta-training.
    """

    corpus: str
    kind: Literal["translation", "language-modelling"]
    columns: dict[str, str] = Field(default_factory=dict)
    encoding: str = "utf-8"
    corpus_options: dict[str, Any] = Field(default_factory=dict)
    into: str = ""
    out_of: str = ""
    source: str = ""
    model: str = ""
    lora: NotNegative | None = None
    codes: dict[str, str] = Field(default_factory=dict)
    prompt: str = ""
    vocabulary: NotNegative | None = None
    width: Positive = 192
    layers: Positive = 2
    heads: Positive = 4
    limit: Annotated[int, Field(ge=4)] | None = None
    most: NotNegative = 5000
    held_out: tuple[str, ...] = ()
    sources: tuple[str, ...] | None = None
    learner: str = "fomaml"
    learner_options: dict[str, Any] = Field(default_factory=dict)
    groups: Annotated[Literal["branch", "family", "none"] | dict[str, str], BeforeValidator(groups_of)] = (
        "branch"
    )
    joint: JointSettings = JointSettings()
    train: EpisodeSettings = EpisodeSettings()

    @model_validator(mode="after")
    def _fits_the_kind(self) -> GenerationRecipe:
        if self.into and self.out_of:
            raise PydanticCustomError("direction", "into and out_of should not both be given")
        given = [name for name in _FOR_PAIRS if name in self.model_fields_set and getattr(self, name)]
        if given and self.kind == "language-modelling":
            raise PydanticCustomError("direction", "{name} is a setting of translation", {"name": given[0]})
        for name in _OWN if self.model else ("lora", "codes", "prompt"):
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                why = "the pretrained model's own" if self.model else "for a pretrained model"
                raise PydanticCustomError("model", "{name} is {why}", {"name": name, "why": why})
        return self

    @property
    def rows(self) -> int:
        """Rows of the target's vocabulary; 0 is bytes alone."""
        if self.vocabulary is not None:
            return self.vocabulary
        return 4000 if self.kind == "translation" else 0

    @property
    def length(self) -> int:
        """Tokens of a block or a side at most."""
        return self.limit or (64 if self.kind == "translation" else 128)
