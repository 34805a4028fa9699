"""The kernel killed the process because the machine ran out of memory."""

from __future__ import annotations

from probes.api import ProbeDoc, Stage

DOC = ProbeDoc(
    code="ENV903",
    name="killed-out-of-memory",
    stage=Stage.SMOKE,
    summary="The kernel killed the process because the machine ran out of memory.",
    why="The kernel kills without warning; a long run would be lost at that moment.",
    fix="Use a smaller batch, fewer loader workers, or load samples lazily instead of keeping them all in memory.",
    judged_by="worker",
)
