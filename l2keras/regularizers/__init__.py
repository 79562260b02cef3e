"""What is paid: one formula for each regularizer."""
