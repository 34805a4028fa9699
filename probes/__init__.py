"""The probes: what each one looks for, why it matters and how it judges.

One defect is one file: ``probes/<group>/<name_with_underscores>.py``. See ``probes.api`` for what a probe is.
"""
