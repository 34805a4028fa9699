"""All targets are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Skip, Stage
from probes.data._labels import attempted, class_call, ignored, representative, uses_targets

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT109",
    name="constant-labels",
    stage=Stage.DATA,
    summary="All training targets are the same.",
    why="The model learns to give one answer whatever it sees: the loss falls to zero, and nothing was learned.",
    fix="Check where the targets are read: a wrong column, a wrong folder, or a filter that keeps one class.",
    consequences=(
        "missing-classes",
        "incomplete-dataset",
        "initial-loss-off",
        "predicts-one-class",
        "unshuffled-training-data",
    ),
)


def run(ctx: Context) -> Findings:
    """Smallest and largest target of the scan; a part read in order says nothing about the rest."""
    if ctx.facts.task == "custom" or not uses_targets(ctx):
        raise Skip("the loss is not known to use the targets")
    scan = ctx.scan("train")
    if scan.label_min is None or scan.label_max is None or scan.seen < MIN_SEEN:
        raise Skip("there are no numeric targets, or too few to judge")
    if scan.label_min == scan.label_max == ignored(class_call(attempted(ctx))):
        return f"all targets are {scan.label_min:g}, which the loss leaves out: see all-targets-ignored"
    if scan.label_min == scan.label_max:
        if not representative(scan):
            raise Inconclusive(f"the first {scan.seen:,} targets are the same, and the rest was not read")
        yield DOC.finding("all {seen} training targets are {value:g}", seen=scan.seen, value=scan.label_min)
    if ctx.facts.task == "classification" and scan.labels:
        return f"{len(set(scan.labels))} classes, labels {min(scan.labels)} to {max(scan.labels)}"
    return f"targets {scan.label_min:g} to {scan.label_max:g}"


MIN_SEEN = 16  # samples: fewer may agree by chance
