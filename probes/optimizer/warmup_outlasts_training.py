"""The run ends before the learning rate has warmed up."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.optimizer._schedule import lr_curve, severity_of_plan
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT613",
    name="warmup-outlasts-training",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="The learning rate is still rising when the planned run ends.",
    why="The run never trains at the learning rate that was chosen, and never decays from it.",
    fix="Shorten the warm-up to 1-10 % of the run, and give it in the unit in which the scheduler is stepped.",
    before="LinearLR(optimizer, start_factor=0.01, total_iters=5000)",
    after="LinearLR(optimizer, start_factor=0.01, total_iters=planned_steps // 20)",
    consequences=("slow-to-learn", "stuck-at-chance", "learning-rate-too-low", "below-expected-curve"),
    references=("torch.optim.lr_scheduler documentation",),
)
LATE = 0.9  # share of the run at which a warm-up should long be over
RISE = 1.5  # from the first to the last lr, below which it is no warm-up


def run(ctx: Context) -> Findings:
    """A dry run of the schedule: does it rise to its very end?"""
    if ctx.pipeline.scheduler is None:
        raise Skip("there is no scheduler")
    lrs = ctx.learning_rates()
    if len(set(lrs)) < 2:
        raise Skip("the learning rate does not change in the planned run")
    peak = max(lrs)
    rises = all(later >= earlier for earlier, later in pairwise(lrs))
    if rises and lrs.index(peak) >= LATE * (len(lrs) - 1) and peak > RISE * lrs[0]:
        yield DOC.finding(
            "the learning rate rises from {first:.3g} to {last:.3g} through all {steps:,} steps of {epochs} epochs",
            first=lrs[0],
            last=lrs[-1],
            steps=ctx.planned_steps(),
            epochs=ctx.facts.epochs,
            where=ctx.scheduler_at(),
            evidence=(lr_curve(lrs),),
            severity=severity_of_plan(ctx),
        )
        return ""
    return f"lr {lrs[0]:.3g} at the start, {peak:.3g} at its peak, {lrs[-1]:.3g} at the end"
