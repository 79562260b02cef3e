"""Changes of weights past the gradient: weight decay, proximal steps."""
