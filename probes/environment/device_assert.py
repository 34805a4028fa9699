"""An assertion failed on the device, most often a label or an index out of range."""

from __future__ import annotations

from probes.api import ProbeDoc, Stage

DOC = ProbeDoc(
    code="ENV906",
    name="device-assert",
    stage=Stage.SMOKE,
    summary="An assertion failed on the device, most often a label or an index out of range.",
    why="The device reports it late and at the wrong line, and the process cannot use the device afterwards.",
    fix="Run with --device cpu: the same fault then names its true line. "
    "Check labels and indices against the number of classes or embeddings.",
    judged_by="worker",
)
