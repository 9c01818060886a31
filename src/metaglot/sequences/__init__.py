"""Texts as sequences of subwords: vocabularies, Transformers that read and write them, decoding.

Knows of no corpora and no learners. `vocabulary` imports no PyTorch.
"""
