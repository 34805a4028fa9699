"""Running a pipeline: one step, a short trial, the full training."""
