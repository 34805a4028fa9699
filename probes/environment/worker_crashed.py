"""The process that ran the user's code died: a segmentation fault, an abort, an exit or a signal."""

from __future__ import annotations

from probes.api import ProbeDoc, Stage

DOC = ProbeDoc(
    code="ENV902",
    name="worker-crashed",
    stage=Stage.SMOKE,
    summary="The process that ran the user's code died: a segmentation fault, an abort, an exit or a signal.",
    why="A native crash leaves no Python exception; in a training run it would end the job without a word.",
    fix="Look at the last line of the user's code that ran. Exits belong into exceptions; native "
    "crashes often come from mismatched binary packages or from custom extensions.",
    judged_by="worker",
)
