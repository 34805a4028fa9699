"""The best weights, kept without a copy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage

if TYPE_CHECKING:
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="LOP309",
    name="best-weights-by-reference",
    stage=Stage.WATCH,
    summary="The best weights are kept by reference, so they are overwritten by the later ones.",
    why=(
        "model.state_dict() shares its memory with the model: what is restored or saved at the end are the last "
        "weights, not the best."
    ),
    fix="Keep a copy: copy.deepcopy(model.state_dict()), or save to a file at once.",
    judged_by="watch",
    before="best = model.state_dict()",
    after="best = copy.deepcopy(model.state_dict())",
)


def watched(loop: Loop) -> Findings:
    """State dicts taken some steps ago that share the model's memory, and are loaded or saved as better ones."""
    for seen in loop.weights:
        if seen.kind in {"self-load", "self-save"}:
            done = "loaded into the model again" if seen.kind == "self-load" else "saved"
            yield DOC.finding(
                "a state dict that was taken {steps} steps earlier is {done}, but it is the model's own memory: the "
                "steps since have changed it too",
                where=(*seen.taken, *seen.where),
                steps=seen.steps,
                done=done,
                before=seen.taken[0].text if seen.taken else "",
                after=_copied(seen.taken[0].text) if seen.taken else "",
            )
            return ""
    return "no state dict was used that had changed since it was taken"


def _copied(line: str) -> str:
    """The user's line with the copy; empty where the call is not found in it."""
    found = re.search(r"[\w.]+\.state_dict\(\)", line)
    return line.replace(found[0], f"copy.deepcopy({found[0]})") if found and "deepcopy" not in line else ""
