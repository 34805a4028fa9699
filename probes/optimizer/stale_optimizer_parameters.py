"""The optimizer holds tensors that are not the model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="OPT602",
    name="stale-optimizer-parameters",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="The optimizer holds tensors that are no longer part of the model.",
    why="It was built before a layer was replaced or the model copied, so it updates tensors that nobody uses.",
    fix="Build the optimizer last, after layers were replaced and the model was copied or re-created.",
    before="optimizer = Adam(model.parameters())\nmodel.fc = nn.Linear(512, 10)",
    after="model.fc = nn.Linear(512, 10)\noptimizer = Adam(model.parameters())",
    consequences=(
        "parameters-missing-from-optimizer",
        "parameters-not-updated",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
        "slow-to-learn",
    ),
)


def run(ctx: Context) -> Findings:
    """By identity. Foreign tensors beside a complete set are noted only: a loss or a second model may learn too."""
    coverage = ctx.coverage()
    if {"multiple-optimizers", "partial-optimizer"} & ctx.facts.intents:
        raise Skip("optimizers for several models are declared as meant")
    if coverage.stray:
        complete = not coverage.missing
        yield DOC.finding(
            "{count} of {held} tensors in the optimizer are not the model's; {missing} of the model's are "
            "missing from it",
            severity=Severity.NOTE if complete or _moves(ctx, coverage.missing) else None,
            where=coverage.where,
            count=len(coverage.stray),
            held=coverage.optimized,
            missing=len(coverage.missing),
        )
    return f"all {coverage.optimized} tensors in the optimizer are the model's"


def watched(loop: Loop) -> Findings:
    """Held tensors of no model that runs, while the models that run are in no optimizer."""
    if not any(optimizer.looks for optimizer in loop.optimizers):
        raise Skip("no optimizer was stepped")
    for optimizer in loop.optimizers:
        if optimizer.strays and optimizer.missing and not optimizer.fed_before:
            yield DOC.finding(
                "{count} of {held} tensors in the optimizer never had a gradient and are of no model that runs; "
                "{missing} tensors with a gradient are in no optimizer",
                where=(*optimizer.where, *optimizer.step_at),
                count=len(optimizer.strays),
                held=optimizer.held,
                missing=len(optimizer.missing),
            )
            return ""
    return "what the optimizers hold is used"


def _moves(ctx: Context, names: Sequence[str]) -> bool:
    """Whether the model's own step updates these parameters all the same, with an optimizer of its own."""
    if not ctx.facts.custom_step:
        return False
    try:
        updates = ctx.updates()
    except Skip:
        return False
    return all(any(update > 0 for update in p.updates) for p in updates.parameters if p.name in names)
