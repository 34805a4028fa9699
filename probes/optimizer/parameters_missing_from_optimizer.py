"""Trainable parameters that the optimizer does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity, Text

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

SHOWN = 5  # parameters named in the message
ON_PURPOSE = frozenset({"frozen", "partial-optimizer", "multiple-optimizers"})

DOC = ProbeDoc(
    code="OPT601",
    name="parameters-missing-from-optimizer",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="The optimizer does not hold some trainable parameters.",
    why="They get a gradient at every step and are never updated: this part of the model stays as it was initialised.",
    fix="Give the optimizer all parameters; freeze with requires_grad_(False) what is meant to stay.",
    before="optimizer = Adam(model.head.parameters())",
    after="optimizer = Adam(model.parameters())",
    consequences=(
        "parameters-not-updated",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
        "slow-to-learn",
    ),
    references=("torch.optim documentation, Constructing it",),
)


def run(ctx: Context) -> Findings:
    """By identity. A parameter that moves all the same belongs to another optimizer; an unused one is not missed."""
    meant = sorted(ON_PURPOSE & ctx.facts.intents)
    if meant and _any_held(ctx):
        raise Skip(f"{meant[0]} is declared as meant")
    coverage = ctx.coverage()
    used = _used(ctx)
    missing = [name for name in coverage.missing if used is None or name in used]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        yield DOC.finding(
            "{count} of {trainable} trainable tensors are not in the optimizer: {names}",
            where=coverage.where,
            evidence=(Text("Not in the optimizer", "\n".join(missing)),),
            count=len(missing),
            trainable=coverage.trainable,
            names=", ".join(missing[:SHOWN]) + more,
        )
    rest = f", {len(coverage.frozen)} frozen" if coverage.frozen else ""
    if coverage.missing and not missing:
        rest += "; the others move by another optimizer, or get no gradient"
    held = coverage.trainable - len(coverage.missing)
    return f"the optimizer holds {held} of {coverage.trainable} trainable tensors{rest}"


def watched(loop: Loop) -> Findings:
    """Parameters of the trained models that have gradients, are in no optimizer and stay as they are."""
    if not any(optimizer.looks for optimizer in loop.optimizers):
        raise Skip("no optimizer was stepped")
    for optimizer in loop.optimizers:
        missing = optimizer.missing or optimizer.apart
        if missing and not optimizer.strays:
            # A loaded model of which only a part is trained is commonly meant so, and so may a whole model that is not:
            # a target to be imitated.
            severity = None if optimizer.missing else Severity.NOTE
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            yield DOC.finding(
                "{count} tensors with a gradient are in no optimizer and do not move: {names}",
                severity=Severity.NOTE if optimizer.loaded else severity,
                where=(*optimizer.where, *optimizer.step_at),
                evidence=(Text("Not in an optimizer", "\n".join(missing)),),
                count=len(missing),
                names=", ".join(missing[:SHOWN]) + more,
            )
            return ""
    return "every parameter with a gradient is in an optimizer"


def _any_held(ctx: Context) -> bool:
    """Whether the optimizer holds a parameter that gets a gradient, or moves."""
    try:
        updates = ctx.updates()
    except Skip:
        return True
    norms = [norm for p in updates.parameters if p.optimized for norm in (*p.gradients, *p.updates)]
    return any(norm is not None and norm != 0 for norm in norms)


def _used(ctx: Context) -> set[str] | None:
    """Names of parameters that get a gradient and do not move; None where that could not be measured."""
    try:
        updates = ctx.updates()
    except Skip:
        return None
    return {
        p.name
        for p in updates.parameters
        if any(norm is not None for norm in p.gradients) and not any(update > 0 for update in p.updates)
    }
