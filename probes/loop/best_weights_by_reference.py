"""The best weights, kept without a copy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop, WeightsSeen
    from probes.results import Finding

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
            yield _finding(
                seen,
                "a state dict that was taken {steps} steps earlier is {done}, but it is the model's own memory: the "
                "steps since have changed it too",
                done=done,
            )
            return ""
    for seen in loop.weights:
        if seen.kind == "kept" and seen.where != seen.taken:
            yield _finding(
                seen,
                "{name} is the model's own memory and no copy: to load it into the model changes nothing, and whatever "
                "was kept there over {steps} steps before, they have changed too",
                severity=Severity.WARNING,
                name=seen.names[0] if seen.names else "a state dict",
            )
            return ""
        if seen.kind == "kept":
            name = seen.names[0] if seen.names else "several state dicts"
            yield _finding(
                seen,
                "{name} was kept over {steps} steps without a copy: it is the model's own memory, which they have "
                "changed (that it was used afterwards was not seen)",
                severity=Severity.WARNING,
                name=name,
            )
            return ""
    return "no state dict was used that had changed since it was taken"


def _finding(seen: WeightsSeen, message: str, severity: Severity | None = None, **values: Any) -> Finding:
    line = seen.taken[0].text if seen.taken else ""
    return DOC.finding(
        message,
        severity=severity,
        where=tuple(dict.fromkeys((*seen.taken, *seen.where))),
        steps=seen.steps,
        before=line,
        after=_copied(line),
        **values,
    )


def _copied(line: str) -> str:
    """The user's line with the copy; empty where the call is not found in it."""
    found = re.search(r"[\w.]+\.state_dict\(\)", line)
    return line.replace(found[0], f"copy.deepcopy({found[0]})") if found and "deepcopy" not in line else ""
