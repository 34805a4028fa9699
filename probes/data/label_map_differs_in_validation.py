"""Validation labels name the classes otherwise than training labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._copies import told_apart_by_a_mask
from probes.data._relabelled import RIGHT, renaming
from probes.results import Finding, Table

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT132",
    name="label-map-differs-in-validation",
    stage=Stage.DATA,
    summary="The validation labels number the classes in another order than the training labels.",
    why="Each split built its own mapping from class names to numbers, so right predictions count as wrong: validation "
    "stays at or below chance while training goes well.",
    fix="Build the mapping from class names to numbers once, from the training split, and use it for all splits.",
    before="classes = sorted(set(names))  # in each split's data set",
    after="class_to_idx = train_set.class_to_idx  # handed to the validation data set",
    consequences=("no-generalisation", "metric-loss-disagree", "stuck-at-chance"),
)
AS_GOOD = 0.8  # of the accuracy within train, that the renamed labels of val must reach
KNOWN = 0.5  # accuracy of the neighbours within train: below, they know too little to speak for val


def run(ctx: Context) -> Findings:
    """What train's nearest neighbours say of val samples, against val's own labels."""
    if "val" in ctx.facts.splits and told_apart_by_a_mask(ctx, "val"):
        raise Skip("both splits are one batch, and the targets a mask over it")
    within = ctx.association()
    if not within.labels:
        raise Skip("judged for one class label per sample")
    if within.scores["nearest neighbours"] < KNOWN:
        raise Skip("nearest neighbours know too little of these data; the short training will tell")
    predicted, labels = ctx.predicted_across()
    yield from findings(
        predicted, labels, "the nearest training samples", AS_GOOD * within.scores["nearest neighbours"]
    )
    right = sum(p == y for p, y in zip(predicted, labels, strict=True)) / max(1, len(labels))
    return f"{right:.0%} of the val labels are those of the nearest training samples"


def findings(predicted: Sequence[int], labels: Sequence[int], by: str, right: float = RIGHT) -> list[Finding]:
    """At most one; also asked by the probe of a training that does not generalise."""
    found = renaming(predicted, labels, right)
    if found is None:
        return []
    return [
        DOC.finding(
            "{by} predict {plain:.0%} of the val labels, and {renamed:.0%} once {count} classes are renamed",
            by=by,
            plain=found.as_labelled,
            renamed=found.renamed,
            count=len(found.moved),
            evidence=(Table(("class in train", "label in val"), sorted(found.moved.items())[:20], "The renaming"),),
        )
    ]
