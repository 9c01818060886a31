"""Teach a model a new language from a handful of examples."""

__version__ = "0.1.0"
