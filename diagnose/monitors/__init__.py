"""Watching a training as it runs, whoever's loop it is: ``monitor.Monitor`` is told of each step and epoch.

Not covered: what a finding means for the run as a whole (``diagnose.diagnosis``), and where its figures are written.
"""
