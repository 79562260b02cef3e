"""What happens inside `fit`: callbacks, and the split of the loss."""
