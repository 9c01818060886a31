"""What a tuning run is told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from metaglot.config import NotNegativeNumber, Positive, PositiveNumber
from metaglot.encoders import Pooling
from metaglot.errors import SettingsError, suggestion

Share = Annotated[float, Field(ge=0, le=1)]
# By what adapts: new parts start at zero and have further to go.
RATES = {"layers": 5e-5, "lora": 5e-4}
# By kind, the losses that it has; the first is taken where none was asked for.
LOSSES = {
    "classification": ("contrastive", "classification", "both"),
    "pairs": ("classification",),
}


def _layers(value: Any) -> Any:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not number and value not in ("all", "lora"):
        raise PydanticCustomError("layers", "Input should be 'all', 'lora' or a number of layers")
    return value


def _validation(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
    if not share and not (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)):
        raise PydanticCustomError("validation", "Input should be languages or a share from 0 to below 1")
    return value


class TuneSettings(BaseModel):
    """How an encoder is tuned on source languages.

    Attributes:
        encoder: what is tuned: a name, a folder, or a model of the hub.
        pooling: `mean`, `cls` or `last`; by default what the encoder's files say.
        prefix: what is put before every text; by default what the encoder's files say.
        layers: what adapts: `"all"` layers, the last few (a number), or `"lora"`: low-rank updates of all
            layers, which are merged into the weights in the end.
        embeddings: whether the embeddings adapt too. Rows of words that the sources do not have would
            stay where they are while the layers above move away from them.
        rank: of the low-rank updates.
        loss: `"contrastive"`, `"classification"` or `"both"`, their sum; by default `"contrastive"` for texts
            and `"classification"` for pairs, which have no other: it would need to know what a label means.
        temperature: τ of the contrastive loss.
        languages: how many of them a batch has.
        labels: how many of them a batch has.
        examples: how many a batch has of each label in each language.
        epochs: how often as many texts are drawn as there are.
        steps: how many batches, in place of `epochs`.
        minutes: of wall time at most; the schedule is planned to end by then.
        rate: AdamW's largest; by default 5e-5, and 5e-4 for LoRA.
        warmup: share of the steps over which the rate rises.
        schedule: how it goes down after that.
        weight_decay: AdamW's.
        clip: the largest norm of the whole gradient; 0 does not clip.
        max_length: tokens of a text that are read; the tuned encoder reads as many as before.
        precision: of matrix products; by default bfloat16 where the processor has it.
        validation: source languages that are not tuned on but judged on, or their share of the sources.
        judgements: how many are made on the way; each takes some seconds.
        patience: judgements without a better one after which tuning ends.
        keep: the share of the pretrained weights in the mean with the tuned ones; by default the one that
            is best on the validation languages.
        checkpoint_minutes: between two checkpoints.
        seed: of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "e5-small"
    pooling: Pooling | None = None
    prefix: str | None = None
    layers: Annotated[Literal["all", "lora"] | int, BeforeValidator(_layers)] = "all"
    embeddings: bool = False
    rank: Positive = 8
    loss: Literal["contrastive", "classification", "both"] | None = None
    temperature: PositiveNumber = 0.05
    languages: Positive = 4
    labels: Annotated[int, Field(ge=2)] = 8
    examples: Positive = 2
    epochs: PositiveNumber = 3.0
    steps: Positive | None = None
    minutes: PositiveNumber | None = None
    rate: PositiveNumber | None = None
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    weight_decay: NotNegativeNumber = 0.01
    clip: NotNegativeNumber = 1.0
    max_length: Annotated[int, Field(ge=8)] = 128
    precision: Literal["float32", "bfloat16"] | None = None
    validation: Annotated[float | tuple[str, ...], BeforeValidator(_validation)] = 0.15
    judgements: Positive = 8
    patience: Positive = 3
    keep: Share | None = None
    checkpoint_minutes: NotNegativeNumber = 3.0
    seed: int = 0

    @property
    def top_rate(self) -> float:
        """The rate, given or by what adapts."""
        return self.rate or RATES["lora" if self.layers == "lora" else "layers"]

    def for_kind(self, kind: str) -> TuneSettings:
        """Return these settings with a loss that the kind has.

        Raises:
            SettingsError: nothing tunes on the kind, or not with this loss.
        """
        if kind not in LOSSES:
            raise SettingsError(
                f"expected a corpus of the kind {' or '.join(map(repr, LOSSES))} to tune an encoder on, "
                f"found {kind!r}.",
                hint="Its loss takes one label a text or pair: tune on such a corpus first.",
            )
        if self.loss is not None and self.loss not in LOSSES[kind]:
            raise SettingsError(
                f"expected the loss {' or '.join(map(repr, LOSSES[kind]))} for the kind {kind!r}, "
                f"found {self.loss!r}.",
                hint="Which pairs belong close together depends on what a label means: leave the loss out.",
            )
        return self.model_copy(update={"loss": self.loss or LOSSES[kind][0]})


def tune_settings(**values: Any) -> TuneSettings:
    """Return settings; None is "not given".

    Raises:
        SettingsError: some are wrong; every one of them is named.
    """
    try:
        return TuneSettings.model_validate({name: v for name, v in values.items() if v is not None})
    except ValidationError as error:
        lines = [f"found {error.error_count()} wrong setting(s):"]
        for fault in error.errors():
            name = ".".join(str(part) for part in fault["loc"])
            if fault["type"] == "extra_forbidden":
                lines.append(
                    f"  {name}: no such setting. {suggestion(name, TuneSettings.model_fields)}".rstrip()
                )
            else:
                lines.append(f"  {name}: {fault['msg']}, found {fault.get('input')!r}.")
        raise SettingsError("\n".join(lines)) from error
