"""Many replicas of one model, trained as one."""
