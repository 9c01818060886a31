"""Meta-learning algorithms."""
