"""What is done to, and known of, a whole model."""
