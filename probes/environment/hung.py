"""The user's code gave no sign of life for longer than its budget."""

from __future__ import annotations

from probes.api import ProbeDoc, Stage

DOC = ProbeDoc(
    code="ENV905",
    name="hung",
    stage=Stage.SMOKE,
    summary="The user's code gave no sign of life for longer than its budget.",
    why="A loop that does not end, a deadlock between loader workers or a wait for input stops a run for ever.",
    fix="Look at the line that was running when the time ended. Loader workers that hang "
    "often come from threads started before a fork: try num_workers=0.",
    judged_by="worker",
)
