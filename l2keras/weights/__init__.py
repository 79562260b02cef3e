"""Which weights: their paths, their kinds, and rules that name them."""
