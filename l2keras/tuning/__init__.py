"""The search for a strength by cross-validation."""
