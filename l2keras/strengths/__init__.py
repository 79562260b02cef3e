"""Strengths: numbers, schedules, and the step that these read."""
