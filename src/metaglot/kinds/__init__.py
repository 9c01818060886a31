"""What is predicted: each kind says what gets a label, by which features, and how an answer is read off."""

from metaglot.kinds.base import Kind, Units
from metaglot.registry import Registry

__all__ = ["KINDS", "Kind", "Units"]

KINDS = Registry("kind", {"classification": "metaglot.kinds.classification:Classification"})
