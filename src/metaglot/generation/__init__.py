"""Models that write: translation and language modelling, learned across languages."""
