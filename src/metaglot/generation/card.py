"""The README of a trained model that writes."""

from __future__ import annotations

from metaglot.generation.model import GenerationModel
from metaglot.languages import language_name


def card(model: GenerationModel) -> str:
    """Return a model card: what the model does, what it was made from, how to use it."""
    facts, recipe = model.facts, model.recipe
    corpus = facts["corpus"]
    sources = ", ".join(f"{language_name(code)} ({code})" for code in facts["sources"])
    held_out = ", ".join(f"{language_name(code)} ({code})" for code in facts["held_out"]) or "none"
    if model.kind == "translation":
        pivot = f"{language_name(facts['pivot'])} ({facts['pivot']})"
        does = f"translates from many languages into {pivot}" if facts["into"] else (
            f"translates from {pivot} into many languages"
        )  # fmt: skip
        adapt = "pairs.tsv"
        use = 'metaglot translate . --language swh "…"'
    else:
        does, adapt, use = "models language", "text.txt", "metaglot generate . --language swh"
    return f"""# A model that {does}

Made by [metaglot](https://pypi.org/project/metaglot) with the learner `{recipe.learner}`:
{facts["parameters"]:,} parameters, trained jointly for {recipe.joint.steps:,} steps and then on
{recipe.train.steps:,} × {recipe.train.episodes} episodes of one language each.

- **Corpus**: {corpus["name"]}{f", {corpus['licence']}" if corpus["licence"] else ""}, fingerprint
  `{corpus["fingerprint"][:16]}`
- **Languages that it has learned from**: {sources}
- **Held out**: {held_out}

It is small, and what it writes are drafts for people to correct.

## A new language

```sh
metaglot adapt . --language swh --examples {adapt}
{use}
```

The recipe is in `recipe.toml`; the same recipe on the same corpus makes the same model on one machine.
"""
