"""Anything → `Corpus`."""
