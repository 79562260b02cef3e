"""Functions on a whole model: apply, strip, audit, set the step or scales."""
