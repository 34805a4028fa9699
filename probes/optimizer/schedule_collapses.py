"""The learning rate is gone after a fraction of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.loop._schedules import in_units_of_epochs, left_at
from probes.results import Series, Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

EARLY = 0.1  # share of the run
SOON = 0.2  # share of the run, for a schedule that is stepped per batch
GONE = 0.01  # of the peak learning rate
FOR_GOOD = 1e-4  # of the peak learning rate, at the end: what is meant to fine-tune goes on at some rate
MIN_STEPS = 20  # of the planned run; a fifth of fewer is one or two steps

DOC = ProbeDoc(
    code="OPT606",
    name="schedule-collapses",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="The schedule lowers the learning rate to almost nothing at the beginning of the run.",
    why="A schedule made for epochs but stepped per batch runs through its whole decay within the first epochs.",
    fix="Step the scheduler once per epoch, or give it the length of the run in steps.",
    before="scheduler = StepLR(optimizer, step_size=10)  # stepped after every batch",
    after="scheduler = StepLR(optimizer, step_size=10 * len(train_loader))",
    consequences=(
        "stuck-at-chance",
        "slow-to-learn",
        "plateau",
        "below-expected-curve",
        "parameters-not-updated",
        "schedule-period-mismatch",
    ),
    references=("torch.optim.lr_scheduler documentation",),
)
FALLS = (
    "the learning rate falls from {peak:g} to less than a hundredth of that within {step} of {steps} steps and never "
    "comes back ({rest:.1e} at most after a fifth of the run)"
)
FELL = (
    "the learning rate falls from {peak:g} to a hundredth of that or less within {step} of {steps} steps and never "
    "comes back: {idle:.0%} of the run is left without it"
)


def run(ctx: Context) -> Findings:
    """A dry run of the schedule: does it fall early, and never come back? A warm-up has its peak later."""
    lrs = ctx.learning_rates()
    if len(lrs) < MIN_STEPS:
        raise Skip(f"the planned run has {len(lrs)} steps, too few for a schedule to be judged")
    peak = max(lrs)
    if peak <= 0:
        raise Skip("the learning rate is 0 throughout")
    rest, later = (max(lrs[int(share * len(lrs)) :]) for share in (EARLY, SOON))
    per_batch = ctx.pipeline.scheduler_interval == "step" and lrs[-1] < FOR_GOOD * peak
    if rest < GONE * peak or (per_batch and later < GONE * peak):
        left = next(step for step in range(lrs.index(peak), len(lrs)) if lrs[step] < GONE * peak)
        thinned = lrs[:: max(1, len(lrs) // 200)]
        yield DOC.finding(
            FALLS,
            where=ctx.scheduler_at(),
            evidence=(
                Series(
                    "learning rate", [float(i * max(1, len(lrs) // 200)) for i in range(len(thinned))], list(thinned)
                ),
            ),
            peak=peak,
            rest=later,
            step=left,
            steps=len(lrs),
        )
    if peak == min(lrs):
        return f"lr {peak:g} throughout"
    return f"lr {lrs[0]:g} at the start, {peak:g} at its peak, {lrs[-1]:g} at the end of {len(lrs):,} steps"


def watched(loop: Loop) -> Findings:
    """The learning rates that were in force, over the steps of the whole run or of one pass."""
    if not any(len(optimizer.lrs) > 1 for optimizer in loop.optimizers):
        raise Skip("the learning rate was never changed")
    whole = loop.ended in {"end", "exit"}
    for index, optimizer in enumerate(loop.optimizers):
        if optimizer.steps < MIN_STEPS or len(optimizer.lrs) < 2:
            continue
        length = max((loader.batches or 0 for loader in loop.loaders if loader.steps), default=0)
        horizon = int(EARLY * optimizer.steps) if whole else length
        left = left_at(optimizer.lrs)
        if left is None or not 0 < horizon < optimizer.steps:
            continue
        peak = max(lr for _, lr in optimizer.lrs)
        within = max(lr for step, lr in optimizer.lrs if step >= left)
        collapsed = left <= horizon and within < GONE * peak
        hurried = whole and in_units_of_epochs(loop, index, left)
        if not (collapsed or hurried):
            continue
        idle = 1 - left / optimizer.steps
        curve = optimizer.lrs[:200]
        yield DOC.finding(
            FELL,
            severity=None if collapsed or hurried == "soon" else Severity.WARNING,
            where=next((s.where for s in loop.schedulers if s.optimizer == index), optimizer.where),
            evidence=(Series("learning rate", [float(step) for step, _ in curve], [lr for _, lr in curve]),),
            peak=peak,
            step=left,
            steps=optimizer.steps,
            idle=idle,
        )
        return ""
    return "the learning rate lasts"
