"""The measurements behind the probes: each is a function from a fresh pipeline to a record of probes.measurements."""
