"""Models that write: translation and language modelling, learned across languages."""

from metaglot.registry import Registry

__all__ = ["WRITING"]

WRITING = Registry(
    "kind of models that write",
    {
        "translation": "metaglot.generation.corpora:translation",
        "language-modelling": "metaglot.generation.corpora:language_modelling",
    },
    plural="writing_kinds",
)
"""Kinds whose answers are texts: each makes materials of a recipe's corpus."""
