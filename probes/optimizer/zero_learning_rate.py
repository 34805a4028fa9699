"""The learning rate is zero for the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

LEAST_STEPS = 10  # of a watched loop
SHOWN = 4  # parameter groups told one by one

DOC = ProbeDoc(
    code="OPT604",
    name="zero-learning-rate",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="The learning rate is zero at every step of the planned run.",
    why="Each update is multiplied by the learning rate, so no parameter ever moves.",
    fix="Give the optimizer a learning rate above zero, and check that the schedule leaves its warm-up.",
    before="LambdaLR(optimizer, lambda epoch: epoch // 10)",
    after="LambdaLR(optimizer, lambda epoch: min(1, (epoch + 1) / 10))",
    consequences=("parameters-not-updated", "cannot-overfit", "stuck-at-chance", "fails-on-reference-data"),
)


def run(ctx: Context) -> Findings:
    """A dry run of the whole schedule; a warm-up that starts at zero is fine."""
    optimizer = ctx.pipeline.optimizer
    groups = [group for group in optimizer.param_groups if "lr" in group] if optimizer is not None else []
    if not groups:
        raise Skip("the optimizer has no learning rate")
    lrs = ctx.learning_rates()
    if lrs and max(lrs) == 0 and not _moves(ctx):
        yield DOC.finding(
            "the learning rate is 0 at all {steps} steps looked at", where=ctx.optimizer_at(), steps=len(lrs)
        )
    shown = "; ".join(_told(group) for group in groups[:SHOWN])
    more = f"; and {len(groups) - SHOWN} more groups" if len(groups) > SHOWN else ""
    peak = f", peak {max(lrs):g} over {len(lrs):,} steps" if lrs and max(lrs) != min(lrs) else ""
    return shown + more + peak


def watched(loop: Loop) -> Findings:
    """Optimizers whose highest rate is zero at every step of the run."""
    stepped = [optimizer for optimizer in loop.optimizers if optimizer.steps >= LEAST_STEPS and optimizer.lrs]
    if not stepped:
        raise Skip(f"no optimizer made {LEAST_STEPS} steps")
    if loop.ended not in {"end", "exit"}:
        raise Skip("the run was not watched to its end: a warm-up may begin at zero")
    for optimizer in stepped:
        if all(lr == 0 for _, lr in optimizer.lrs):
            yield DOC.finding(
                "the learning rate is 0 at all {steps} steps looked at",
                where=(*optimizer.where, *optimizer.step_at),
                steps=optimizer.steps,
            )
            return ""
    return "; ".join(f"lr {max(lr for _, lr in optimizer.lrs):g}" for optimizer in stepped[:SHOWN])


def _told(group: Mapping[str, Any]) -> str:
    decay = f", weight decay {float(group['weight_decay']):g}" if "weight_decay" in group else ""
    return f"lr {float(group['lr']):g}{decay}"


def _moves(ctx: Context) -> bool:
    """Whether a step of the user's own sets the learning rate by itself."""
    if not ctx.facts.custom_step:
        return False
    try:
        return any(update > 0 for p in ctx.updates().parameters for update in p.updates)
    except Skip:
        return False
