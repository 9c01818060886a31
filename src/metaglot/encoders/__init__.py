"""Text → features."""
