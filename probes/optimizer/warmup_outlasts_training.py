"""The run ends before the learning rate has warmed up."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.optimizer._schedule import lr_curve, severity_of_plan
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="OPT613",
    name="warmup-outlasts-training",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    severity=Severity.WARNING,
    summary="The learning rate is still rising when the planned run ends.",
    why="The run never trains at the learning rate that was chosen, and never decays from it.",
    fix="Shorten the warm-up to 1-10 % of the run, and give it in the unit in which the scheduler is stepped.",
    before="LinearLR(optimizer, start_factor=0.01, total_iters=5000)",
    after="LinearLR(optimizer, start_factor=0.01, total_iters=planned_steps // 20)",
    consequences=("slow-to-learn", "stuck-at-chance", "learning-rate-too-low", "below-expected-curve"),
    references=("torch.optim.lr_scheduler documentation",),
)
LEAST_STEPS = 50  # of a watched run: a shorter one is commonly a trial
LEAST_CHANGES = 10  # of its rate
EVEN = 0.1  # of the rise lies in the first half of the run, at least: a range test multiplies the rate instead
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


def watched(loop: Loop) -> Findings:
    """The rates that were in force, in a run that came to its own end."""
    if loop.ended not in {"end", "exit"}:
        raise Skip("the run was not watched to its end")
    if not any(optimizer.steps >= LEAST_STEPS and len(optimizer.lrs) > LEAST_CHANGES for optimizer in loop.optimizers):
        raise Skip("no learning rate was changed often enough")
    for index, optimizer in enumerate(loop.optimizers):
        lrs = optimizer.lrs
        if optimizer.steps < LEAST_STEPS or len(lrs) <= LEAST_CHANGES:
            continue
        end = max((look.total for look in optimizer.looks), default=0)
        if any(o.looks and o.looks[0].total > end for o in loop.optimizers):  # a range test, or a first phase
            continue
        first, last = lrs[0][1], lrs[-1][1]
        rises = all(later > earlier for (_, earlier), (_, later) in pairwise(lrs))
        halfway = max(lr for step, lr in lrs if step <= optimizer.steps / 2)
        even = halfway - first >= EVEN * (last - first)
        if rises and even and lrs[-1][0] >= LATE * (optimizer.steps - 1) and last > RISE * first:
            yield DOC.finding(
                "the learning rate rises from {first:.3g} to {last:.3g} through all {steps:,} steps of the run",
                first=first,
                last=last,
                steps=optimizer.steps,
                where=next((s.where for s in loop.schedulers if s.optimizer == index), optimizer.where),
            )
            return ""
    return "no learning rate rises to the end of the run"
