"""Tasks and the episodes drawn from them."""
