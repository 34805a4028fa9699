"""For trainings that a library drives: callbacks that watch them, and Lightning modules as targets.

Each adapter lives in a module of its own and imports its library there; all of them are optional.
"""
