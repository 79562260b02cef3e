"""Callbacks for `fit`, and the split of the loss inside it."""
