"""The model card that lies in every artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaglot.languages import language_name

# What the Hugging Face hub calls the kinds; the others are sorts of its text classification.
_PIPELINES = {"tagging": "token-classification", "frames": "token-classification"}


def model_card(manifest: Mapping[str, Any]) -> str:
    """Return the README of an artifact, from its manifest."""
    facts = manifest["facts"]
    corpus = facts["corpus"]
    sources = ", ".join(f"{language_name(code)} (`{code}`)" for code in facts["sources"])
    labels = ", ".join(f"`{label}`" for label in manifest["labels"])
    return f"""---
library_name: metaglot
pipeline_tag: {_PIPELINES.get(manifest["kind"], "text-classification")}
language: {facts["sources"]}
---

# {manifest["kind"].capitalize()} that learns a new language from a handful of examples

| | |
|---|---|
| Encoder | `{manifest["encoder"]["name"]}`, fingerprint `{manifest["encoder"]["fingerprint"][:16]}` |
| Licence of the encoder | {_encoder_licence(manifest["encoder"]["name"])} |
| Learner | `{manifest["learner"]}`, seed {manifest["seed"]} |
| Corpus | `{corpus["name"]}`, {corpus["examples"]:,} examples, fingerprint `{corpus["fingerprint"][:16]}` |
| Licence of the data | {corpus["licence"] or "not stated by the corpus: ask its owner"} |
| Made with | metaglot {manifest["versions"]["metaglot"]}, torch {manifest["versions"]["torch"]} |

**Learned from** {len(facts["sources"])} languages: {sources}.

**Labels** ({len(manifest["labels"])}): {labels}.

## How good it is

On each source language, by a head that was learned from the others (no example of the language):
mean {_metric(facts["metrics"]["metric"])} {facts["metrics"]["cross_fitted"]:.3f}. On a new language
expect less where it is unlike all of the sources or the encoder has seen little of it, and more after
adapting; `metaglot adapt` prints an estimate from your own examples.

## How to use it

```
metaglot predict DIR --language swh "..."
metaglot adapt DIR --language swh --examples swahili.csv
```

## Limits

It chooses among the labels above (and those of your examples) whatever the text: a text that
belongs to none of them gets one all the same. Its probabilities are calibrated on the source
languages. What biases the encoder's and the corpus's texts have, it has.
"""


def _metric(name: str) -> str:
    return name.replace("_", " ").replace("f1", "F1")


def _encoder_licence(name: str) -> str:
    """The licences of an encoder's weights, as far as metaglot knows them."""
    parts = [part for part in name.split("+") if part.partition(":")[0] != "ngrams"]
    if not parts:
        return "none: character n-grams have no weights"
    return "; ".join(
        "MIT (multilingual-e5-small)" if p == "e5-small" else f"see the card of `{p}`" for p in parts
    )
