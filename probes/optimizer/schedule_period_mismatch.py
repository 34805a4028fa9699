"""The schedule was made for a run of another length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.optimizer._schedule import lr_curve, severity_of_plan
from probes.results import Number, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT614",
    name="schedule-period-mismatch",
    stage=Stage.SMOKE,
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
COLLAPSED = 0.1  # ends before this share: that is schedule-collapses
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
    for part in _parts(scheduler, given):
        ratio = part.length / max(1, part.available)
        if ratio > TOO_LONG or ratio < TOO_SHORT:
            yield DOC.finding(
                "{kind} is made for {length:,} {unit}, and gets {available:,}",
                kind=part.kind,
                length=part.length,
                unit=unit,
                available=part.available,
                where=ctx.optimizer_at(),
                evidence=(
                    Number("length of the schedule over that of the run", ratio, "about 1"),
                    lr_curve(ctx.learning_rates()),
                ),
                severity=severity_of_plan(ctx),
            )
            return ""
    yield from _idle_tail(ctx, ctx.learning_rates())
    return f"{type(scheduler).__name__}, given {given:,} {unit}"


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
            where=ctx.optimizer_at(),
            evidence=(lr_curve(lrs),),
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
