"""Rendering of saved results: a pure function of a run folder, without torch and without the user's code."""
