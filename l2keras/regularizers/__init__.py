"""The penalties: one formula for each regularizer."""
