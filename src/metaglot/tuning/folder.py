"""What tuning leaves behind: an ordinary Hugging Face folder, with the way it is to be used.

DIR/model.safetensors config.json tokenizer …      what any library loads
DIR/modules.json 1_Pooling/ …                      how it is used, in the layout of sentence-transformers
DIR/tuning.json                                    settings, languages, curves
DIR/README.md                                      a model card
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from metaglot.encoders.base import EncoderOptions
from metaglot.encoders.hub import ModelSettings
from metaglot.encoders.transformer import TransformerEncoder
from metaglot.errors import EncoderError, SettingsError, Where
from metaglot.languages import language_name
from metaglot.storage import atomic_folder, write_json
from metaglot.tensor_files import write_tensors

FACTS = "tuning.json"
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "*.model"),
)


def check_free(folder: Path) -> None:
    """Raise a `SettingsError` unless `folder` is absent or empty, and can be made."""
    if folder.name in {"", ".."}:
        raise SettingsError(f"expected a folder with a name of its own, found {str(folder)!r}.")
    if file := next((place for place in folder.parents if place.is_file()), None):
        raise SettingsError("expected a folder to put the encoder in, found a file.", where=Where(file))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise SettingsError(
            "expected a new folder for the tuned encoder, found something there; it is left as it is.",
            where=Where(folder),
            hint="Give --out a new name, or remove it.",
        )


def stored_half(base: Path) -> bool:
    """Whether a model's own files hold float16, so that the tuned one's may."""
    for file in base.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            return any(opened.get_slice(name).get_dtype() == "F16" for name in opened.keys())  # noqa: SIM118
    return False


def write_folder(
    folder: Path, model: nn.Module, base: Path, settings: ModelSettings, facts: Mapping[str, Any]
) -> None:
    """Write a tuned model, whole or not at all.

    Args:
        folder: where; absent or empty.
        model: with its tuned weights.
        base: the folder that it was loaded from, whose configuration and tokenizer are taken over.
        settings: pooling, prefix and length.
        facts: for `tuning.json` and the model card.

    Raises:
        EncoderError: what was written does not give the vectors of the model in memory.
        StorageError: it could not be written; nothing is left behind.
    """
    dtype = torch.float16 if stored_half(base) else torch.float32
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    with atomic_folder(folder) as beside:
        # Copies, for the format refuses tensors that share memory.
        tensors = {
            name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).clone()
            for name, value in model.state_dict().items()
        }
        write_tensors(beside / "model.safetensors", tensors, {"format": "pt"})
        shutil.copyfile(base / "config.json", beside / "config.json")
        for pattern in _TOKENIZER:
            for file in base.glob(pattern):
                shutil.copyfile(file, beside / file.name)
        _write_use(beside, settings)
        write_json(beside / FACTS, dict(facts))
        (beside / "README.md").write_text(card(facts), encoding="utf-8")
        _check(beside, model, settings)


def _write_use(folder: Path, settings: ModelSettings) -> None:
    kind = "sentence_transformers.models"
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": p, "type": f"{kind}.{name}"}
            for i, (p, name) in enumerate(parts)
        ],
    )
    mode = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}[settings.pooling]
    (folder / "2_Normalize").mkdir()
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": settings.width, f"pooling_mode_{mode}": True}
        | ({} if mode == "mean_tokens" else {"pooling_mode_mean_tokens": False}),
    )
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": settings.max_length, "do_lower_case": False}
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": settings.prefix}, "default_prompt_name": "query"},
    )


def _check(folder: Path, model: nn.Module, settings: ModelSettings) -> None:
    """Refuse to leave a folder whose weights a loader would take for others, without a word."""
    encoder = TransformerEncoder(
        "tuned", folder, EncoderOptions(dtype="float32", cache=False), identity="check"
    )
    if encoder.settings != settings:
        raise EncoderError(f"expected the folder to say {settings}, found {encoder.settings}.")
    engine = encoder.engine
    places = dict(engine.model.named_parameters())
    for name, value in model.named_parameters():
        found = places.get(name)
        if found is None or not torch.allclose(
            found.cpu(), value.detach().float().cpu(), rtol=2e-3, atol=1e-6
        ):
            raise EncoderError(
                f"the tuned encoder cannot be written so that it is read back: {name!r} differs.",
                hint="Its values are too large for float16, or its configuration names another architecture.",
            )


def card(facts: Mapping[str, Any]) -> str:
    """Return the README of a tuned encoder, from its facts."""
    settings, corpus = facts["settings"], facts["corpus"]
    names = {
        key: ", ".join(f"{language_name(code)} (`{code}`)" for code in facts[key]) or "none"
        for key in ("tuned_on", "validation", "held_out")
    }
    judged = "".join(f"| {step} | {zero:.3f} | {few:.3f} |\n" for step, zero, few in facts["curve"])
    ways = "".join(f"| {share:g} | {zero:.3f} | {few:.3f} |\n" for share, zero, few in facts["ways"])
    given = "".join(f"| {name} | {json.dumps(value)} |\n" for name, value in settings.items())
    table = "steps | zero-shot | few-shot |\n|---:|---:|---:|\n"
    curves = f"| {table}{judged}" if judged else "No language was kept apart, so nothing was judged.\n"
    if ways:
        curves += "\nShare of the way from the pretrained weights to the tuned ones:\n\n"
        curves += f"| share | {table[8:]}{ways}"
    base, made = facts["base"], facts["versions"]
    pairs = corpus["kind"] == "pairs"
    count = f"{facts['texts']:,}, of which {facts['drawn']:,} were drawn, some several times"
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
language: {json.dumps(facts["tuned_on"])}
---

# {base["name"]}, tuned on {corpus["name"]}

| | |
|---|---|
| Tuned from | `{base["name"]}`, fingerprint `{base["fingerprint"][:16]}` |
| Licence of the weights | that of `{base["name"]}` |
| Corpus | `{corpus["name"]}`, fingerprint `{corpus["fingerprint"][:16]}` |
| Licence of the data | {corpus["licence"] or "not stated by the corpus: ask its owner"} |
| {"Pairs" if pairs else "Texts"} | {count} |
| Length | {facts["steps"]} steps, {facts["seconds"] / 60:.1f} minutes |
| Share of the pretrained weights | {1 - facts["share"]:.2f} |
| Made with | metaglot {made["metaglot"]}, torch {made["torch"]} |

**Tuned on**: {names["tuned_on"]}.

**Judged on** (sources, not tuned on): {names["validation"]}.

**Held out**: {names["held_out"]}. Nothing here has seen them.

## Curves

{curves}
## How to use it

```
metaglot train CORPUS --encoder DIR{"" if pairs else "+ngrams"} --out MODEL
```

Texts take the prefix `{base["prefix"]}`. A vector is made of the last layer's states (pooling:
{base["pooling"]}) and has length 1.

## Limits

It was tuned to tell the labels of one corpus apart. For other tasks, and for languages unlike those
that it was tuned on, it may be worse than what it was tuned from.

## Settings

| | |
|---|---|
{given}"""
