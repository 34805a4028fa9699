"""An optimizer that outlives its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="LOP306",
    name="optimizer-reused-across-models",
    stage=Stage.WATCH,
    summary="The optimizer still holds the tensors of an earlier model.",
    why="The new model is never updated: a step moves tensors that nobody uses any more.",
    fix="Create the optimizer (and the scheduler) anew with every model.",
    judged_by="watch",
    before="optimizer = Adam(model.parameters())\nfor fold in folds:\n    model = Net()",
    after="for fold in folds:\n    model = Net()\n    optimizer = Adam(model.parameters())",
    consequences=(
        "parameters-missing-from-optimizer",
        "parameters-not-updated",
        "stuck-at-chance",
        "training-on-validation-data",
    ),
)


def watched(loop: Loop) -> Findings:
    """Held tensors that had gradients once, and have none since another model runs."""
    if not any(optimizer.looks for optimizer in loop.optimizers):
        raise Skip("no optimizer was stepped")
    for optimizer in loop.optimizers:
        if optimizer.fed_before and optimizer.missing:
            yield DOC.finding(
                "{count} of {held} tensors in {kind} belong to a model that no longer runs; {missing} tensors of the "
                "one that runs are in no optimizer",
                where=(*optimizer.where, *optimizer.step_at),
                count=optimizer.fed_before,
                held=optimizer.held,
                kind=optimizer.kind,
                missing=len(optimizer.missing),
            )
            return ""
    return "every optimizer is used with one model"
