"""The device ran out of memory."""

from __future__ import annotations

from probes.api import ProbeDoc, Stage

DOC = ProbeDoc(
    code="ENV904",
    name="device-out-of-memory",
    stage=Stage.SMOKE,
    summary="The device ran out of memory.",
    why="The training cannot take a single step with this batch size and model on this device.",
    fix="Use a smaller batch (with gradient accumulation to keep its effective size), mixed precision, or "
    "activation checkpointing.",
    judged_by="worker",
)
