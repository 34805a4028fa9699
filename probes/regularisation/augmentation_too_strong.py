"""Augmentation that leaves nothing to learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.learning._repairs import LEARNING_FAILURES, turned

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="REG702",
    name="augmentation-too-strong",
    stage=Stage.SUBSET,
    experiment=True,
    hampers=True,
    summary="The random augmentation is so strong that the model does not learn; without it, it does.",
    why="Crops, noise and erasing that hide most of a sample leave too little of what its label stands for.",
    fix="Weaken the augmentation until training accuracy rises again: flips and small crops first.",
    consequences=(*LEARNING_FAILURES, "no-generalisation"),
    before="RandomResizedCrop(32, scale=(0.01, 0.1))",
    after="RandomCrop(32, padding=4)",
)


def run(ctx: Context) -> Findings:
    return (yield from turned(ctx, DOC, "augmentation", "With random augmentation, ", lambda arm: {"where": arm.where}))
