"""What shrinks weights past the gradient."""
