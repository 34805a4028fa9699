"""From what the user named to complete pipelines: found (``locate``), called with ``--set`` (``arguments``), completed
by flags, functions beside it (``parts``) and defaults. ``source`` is where the others ask.
"""
