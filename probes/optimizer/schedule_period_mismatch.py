"""The schedule was made for a run of another length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.loop._schedules import per_batch, steps_of_a_pass
from probes.optimizer._schedule import lr_curve, severity_of_plan
from probes.results import Finding, Number, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.measurements import Context
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="OPT614",
    name="schedule-period-mismatch",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    severity=Severity.WARNING,
    summary="The schedule's length does not fit the length of the run.",
    why="Too long, it never decays; too short, the learning rate is 0 for the rest, rises again, or the scheduler ends "
    "with an error in the middle of the run.",
    fix="Give the scheduler the length of the run in the unit in which it is stepped: epochs, or epochs times batches.",
    before="CosineAnnealingLR(optimizer, T_max=200)  # the run has 50 epochs",
    after="CosineAnnealingLR(optimizer, T_max=epochs)",
    consequences=("plateau", "below-expected-curve", "loss-spike"),
    references=("torch.optim.lr_scheduler documentation",),
)
TOO_LONG = 1.5  # the schedule's length over that of the run
TOO_SHORT = 0.67
GONE = 1e-3  # of the peak
IDLE = 0.25  # share of the run that is spent there
RESTARTS = 2  # in one epoch
COLLAPSED = 0.2  # ends before this share: that is schedule-collapses
UNUSED = 0.1  # of the peak: a decay to zero that has fallen by less at the end of the run was planned for a longer one
CURVE = 8  # steps of a schedule, at least, for its curve to be judged
ROUNDING = 1e-6  # relative: two falls that are as close are the same
# Where a scheduler keeps its length, in its own steps.
LENGTHS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}


@dataclass(frozen=True)
class _Part:
    kind: str
    length: int
    available: int


def run(ctx: Context) -> Findings:
    """The scheduler's own length against the steps that it will be given; then the shape of the dry run."""
    scheduler = ctx.pipeline.scheduler
    if scheduler is None:
        raise Skip("there is no scheduler")
    per_step = ctx.pipeline.scheduler_interval == "step"
    given, unit = (ctx.planned_steps(), "steps") if per_step else (ctx.facts.epochs, "epochs")
    if per_step and (found := _counts_epochs(ctx, scheduler)):
        yield found
        return ""
    for part in _parts(scheduler, given):
        ratio = part.length / max(1, part.available)
        if ratio > TOO_LONG or ratio < TOO_SHORT:
            yield DOC.finding(
                "{kind} is made for {length:,} {unit}, and gets {available:,}",
                kind=part.kind,
                length=part.length,
                unit=unit,
                available=part.available,
                where=ctx.scheduler_at(),
                evidence=(
                    Number("length of the schedule over that of the run", ratio, "about 1"),
                    lr_curve(ctx.learning_rates()),
                ),
                severity=severity_of_plan(ctx),
            )
            return ""
    yield from _idle_tail(ctx, ctx.learning_rates())
    yield from _hardly_begun(ctx, given, unit)
    return f"{type(scheduler).__name__}, given {given:,} {unit}"


def watched(loop: Loop) -> Findings:
    """A cosine that is stepped per batch, and goes down and up again several times in each pass over the loader."""
    timed = [scheduler for scheduler in loop.schedulers if scheduler.length and scheduler.optimizer >= 0]
    if not timed:
        raise Skip("no scheduler of a known length was stepped")
    each = steps_of_a_pass(loop)
    for scheduler in timed:
        steps = loop.optimizers[scheduler.optimizer].steps
        often = scheduler.kind == "CosineAnnealingLR" and scheduler.length * RESTARTS <= each < steps
        if often and per_batch(loop, scheduler.optimizer, steps):
            yield DOC.finding(
                "{kind} is made for {length} steps and stepped after every batch: the learning rate goes down and up "
                "again within each pass of {each} batches",
                kind=scheduler.kind,
                length=scheduler.length,
                each=each,
                where=scheduler.where,
            )
            return ""
    return "the schedules do not begin anew within a pass"


def _idle_tail(ctx: Context, lrs: Sequence[float]) -> Iterator[Any]:
    """The rate is gone well before the end, for schedules that keep no length of their own."""
    peak = max(lrs, default=0.0)
    if peak <= 0:
        return
    alive = max(i for i, lr in enumerate(lrs) if lr >= GONE * peak) + 1
    if COLLAPSED * len(lrs) < alive < (1 - IDLE) * len(lrs):
        yield DOC.finding(
            "the learning rate is below a thousandth of its peak for the last {idle:.0%} of the run",
            idle=1 - alive / len(lrs),
            where=ctx.scheduler_at(),
            evidence=(lr_curve(lrs),),
            severity=severity_of_plan(ctx),
        )


def _counts_epochs(ctx: Context, scheduler: Any) -> Finding | None:
    """Restarts after a number of steps that would do as a number of epochs, and several times in each epoch."""
    cycle, epochs = getattr(scheduler, "T_0", None), ctx.facts.epochs
    each = ctx.planned_steps() // max(1, epochs)
    if not isinstance(cycle, int) or getattr(scheduler, "T_mult", 1) != 1 or cycle > epochs or each < RESTARTS * cycle:
        return None
    return DOC.finding(
        "{kind} restarts every {cycle} steps, {times:.0f} times in each of the {epochs} epochs",
        kind=type(scheduler).__name__,
        cycle=cycle,
        times=each / cycle,
        epochs=epochs,
        where=ctx.scheduler_at(),
        evidence=(Number("restarts in an epoch", each / cycle, "below 1"), lr_curve(ctx.learning_rates())),
        severity=severity_of_plan(ctx),
    )


def _hardly_begun(ctx: Context, given: int, unit: str) -> Iterator[Finding]:
    """A decay to zero, in a line or a cosine, whose end lies far beyond the run.

    For schedules that keep no length of their own. What decays exponentially or by a root falls less with each step,
    and has no end that it could miss.
    """
    lrs = list(ctx.learning_rates())
    if unit == "epochs":
        lrs = lrs[:: max(1, len(lrs) // given)]
    if len(lrs) < max(given, CURVE) or max(lrs) <= 0:  # a longer run than was played through, or a very short one
        return
    falling = lrs[len(lrs) - 1 - lrs[::-1].index(max(lrs)) :]
    falls = [before - after for before, after in pairwise(falling)]
    if len(falls) < max(CURVE, len(lrs) // 2) or min(falls) <= 0:
        return
    half = len(falls) // 2
    keeps_falling = sum(falls[-half:]) >= (1 - ROUNDING) * sum(falls[:half])
    if keeps_falling and sum(falls) < UNUSED * falling[0]:
        yield DOC.finding(
            "the decay has hardly begun when the run ends: in {given:,} {unit} the learning rate falls by {fallen:.2%} "
            "of its peak",
            given=given,
            unit=unit,
            fallen=sum(falls) / falling[0],
            where=ctx.scheduler_at(),
            evidence=(lr_curve(ctx.learning_rates()),),
            severity=severity_of_plan(ctx),
        )


def _parts(scheduler: Any, given: int, offset: int = 0) -> Iterator[_Part]:
    """The schedulers that know their length, with the steps that each is given."""
    inner = getattr(scheduler, "_schedulers", None)
    if inner:
        milestones = list(getattr(scheduler, "_milestones", ()))
        starts = [0, *milestones] if milestones else [0] * len(inner)
        ends = [*milestones, given - offset] if milestones else [given - offset] * len(inner)
        for part, start, end in zip(inner, starts, ends, strict=False):
            yield from _parts(part, offset + min(end, given), offset + start)
        return
    attribute = LENGTHS.get(type(scheduler).__name__)
    length = getattr(scheduler, attribute, None) if attribute else None
    if isinstance(length, (int, float)) and given > offset:
        yield _Part(type(scheduler).__name__, int(length), given - offset)
