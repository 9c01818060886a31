"""Benchmarks of models that write: language modelling and translation."""
