"""How strongly: numbers, schedules, and what they read."""
