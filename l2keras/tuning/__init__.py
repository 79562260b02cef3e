"""Which strength: a cross-validation that trains all its models at once."""
