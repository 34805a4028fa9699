"""The measurements behind the probes.

Each is a function from a fresh pipeline, or its data, to a record of ``probes.records``. ``of_data``, ``of_passes`` and
``of_steps`` say when each is taken, on which pipeline, and what it needs first; ``diagnose.context`` lists them all.
"""
