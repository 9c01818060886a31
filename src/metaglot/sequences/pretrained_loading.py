"""Pretrained models that write from a source, by name or from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metaglot.errors import ArtifactError, MissingExtraError, Where
from metaglot.sequences.pretrained import PretrainedTranslation
from metaglot.sequences.pretrained_tokens import PretrainedTokens

_KNOWN = "facebook/nllb-200-distilled-600M, facebook/m2m100_418M, google/mt5-small, google/byt5-small"


def load_pretrained(
    name: str | Path,
    *,
    revision: str = "main",
    offline: bool = False,
    codes: Mapping[str, str] | None = None,
    prompt: str = "",
    limit: int = 256,
) -> tuple[PretrainedTranslation, PretrainedTokens]:
    """Load a model and its tokenizer: NLLB, M2M100, mT5, ByT5, Marian or another of their like.

    Parameters are in float32, whatever the file has, so that inner steps are not lost in rounding, and
    dropout is off. No code of the model's own is run.

    Args:
        name: the hub's name, or a folder that `save_pretrained` wrote, with the tokenizer's files.
        revision: of the hub's repository: a branch, a tag or a commit.
        offline: look in the local Hugging Face cache alone.
        codes: see `PretrainedTokens`.
        prompt: see `PretrainedTokens`.
        limit: see `PretrainedTokens`.

    Raises:
        ArtifactError: there is no such model or it cannot be reached, it does not write from a source, or
            its files are damaged or incomplete.
        MissingExtraError: its tokenizer needs sentencepiece, which is not installed.
        LanguageError: `codes` has what the model does not know.
        SettingsError: the model or an option is not fit.
    """
    import transformers as hf  # noqa: PLC0415 - slow to import

    if isinstance(name, Path) and not name.is_dir():
        raise ArtifactError("expected the folder of a model, found none.", where=Where(name))
    place: dict[str, Any] = {"revision": revision, "local_files_only": offline}
    config = _loaded(hf.AutoConfig, name, place)
    if type(config) not in hf.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        raise ArtifactError(
            f"expected a model that writes from a source, found {name} of the type {config.model_type!r}.",
            hint=f"Such as {_KNOWN} or Helsinki-NLP/opus-mt-….",
        )
    if Path(name).is_dir() and not any(Path(name).glob("tokenizer*.json")):
        # For some, an empty one would be made up.
        raise ArtifactError(
            "expected the files of a tokenizer beside the model's, found none.",
            where=Where(Path(name)),
            hint="Save it there: tokenizer.save_pretrained(folder).",
        )
    base, info = _loaded(hf.AutoModelForSeq2SeqLM, name, place, output_loading_info=True)
    if info["missing_keys"]:
        some = sorted(info["missing_keys"])
        raise ArtifactError(
            f"expected all of the model's parameters in {name}, found {len(some)} missing, such as "
            f"{some[0]}.",
            hint="Download or save it anew.",
        )
    tokenizer = _loaded(hf.AutoTokenizer, name, place)
    model = PretrainedTranslation(base.float().eval())
    return model, PretrainedTokens(tokenizer, model, codes=codes, prompt=prompt, limit=limit)


def _loaded(kind: Any, name: str | Path, place: Mapping[str, Any], **options: Any) -> Any:
    """What a class of `transformers` reads, or an error that says what is wrong."""
    try:
        return kind.from_pretrained(str(name), **place, **options)
    except ImportError as error:
        raise MissingExtraError("sentencepiece", "translate", f"The tokenizer of {name}") from error
    except Exception as error:  # a damaged file gives errors of every kind
        said = str(error).strip().partition("\n")[0]
        if "sentencepiece" in str(error).casefold() and find_spec("sentencepiece") is None:
            raise MissingExtraError("sentencepiece", "translate", f"The tokenizer of {name}") from error
        found = f"{kind.__name__}: {type(error).__name__}: {said}"
        if Path(name).is_dir():
            raise ArtifactError(
                f"expected the folder of a model with its tokenizer, found what cannot be read ({found}).",
                where=Where(Path(name)),
                hint="Save both with save_pretrained, or download them anew.",
            ) from error
        raise ArtifactError(
            f"expected a model of the Hugging Face hub or a folder, found no {str(name)!r} ({found}).",
            hint="Check its name and the network, or give the folder of a downloaded model.",
        ) from error
