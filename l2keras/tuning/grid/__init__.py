"""The engine that trains many replicas of one model at once."""
