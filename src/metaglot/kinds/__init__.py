"""What is predicted: each kind says what gets a label, by which features, and how an answer is read off."""

from metaglot.kinds.base import Kind, Units
from metaglot.registry import Registry

__all__ = ["KINDS", "Kind", "Units"]

KINDS = Registry(
    "kind",
    {
        "classification": "metaglot.kinds.classification:Classification",
        "pairs": "metaglot.kinds.pairs:Pairs",
        "relations": "metaglot.kinds.relations:Relations",
        "tagging": "metaglot.kinds.tagging:Tagging",
        "frames": "metaglot.kinds.frames:Frames",
        "parsing": "metaglot.kinds.parsing:Parsing",
    },
)
