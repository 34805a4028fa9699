"""Controlled experiments: change one thing, keep everything else (seed, batches, initial weights), compare."""
