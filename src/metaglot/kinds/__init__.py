"""What is predicted: each kind says how features become outputs, with which loss and metric."""

from metaglot.registry import Registry

KINDS = Registry("kind", {"classification": "metaglot.kinds.classification:Classification"})
