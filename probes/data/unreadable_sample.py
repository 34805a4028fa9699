"""Reading the data raises an exception."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.environment import user_code_error
from probes.results import Trace

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT102",
    name="unreadable-sample",
    stage=Stage.DATA,
    summary="Reading a sample raises an exception.",
    why="Training stops as soon as the loader reaches this sample, which may be hours after the start.",
    fix="Repair or remove the sample, or skip it in __getitem__; the last frame is the line that failed.",
)


def run(ctx: Context) -> Findings:
    """Tells the failure of each split's scan, with how far it came."""
    facts = []
    for split in ctx.facts.splits or ("train",):
        scan = ctx.scan(split)
        if scan.failure is None:
            facts.append(f"{split} {scan.seen:,} samples read")
            continue
        if scan.failure.name == user_code_error.DOC.name:  # a val split is read here alone
            yield scan.failure.finding(user_code_error.DOC)
            return ""
        if scan.failure.name != DOC.name:
            continue
        lines = scan.failure.message.strip().splitlines()
        yield DOC.finding(
            "reading the {split} split raised {type} after {seen} samples: {text}",
            where=scan.failure.frames[-1:],
            evidence=(Trace(scan.failure.type, scan.failure.message, tuple(scan.failure.frames)),),
            split=split,
            type=scan.failure.type,
            seen=scan.seen,
            text=lines[-1] if lines else "(no message)",
        )
    return ", ".join(facts)
