"""A training that fails in a trial, in a run that is planned to be much longer: does it learn later, by itself?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diagnose.experiments.change import AS_CONFIGURED
from diagnose.experiments.judge import COME_FAR, STUCK_SHARE, Learning
from diagnose.experiments.knobs import arms
from diagnose.experiments.trials import Wanted
from diagnose.experiments.usual import suspects_first
from probes.api import Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from probes.records.trials import Trace

LONGER = 3  # times the steps of a trial


@dataclass(frozen=True)
class Longer:
    """The unchanged pipeline over LONGER times the steps, of ``planned``. ``learns``: it does, or is on its way."""

    trace: Trace
    planned: int
    learns: bool

    @property
    def told(self) -> str:
        word = "learns within" if self.trace.outcome == Learning.LEARNS else "begins to learn by"
        return f"as configured it starts slowly, but {word} {self.trace.steps:,} steps"


def given_longer(ctx: MeasuringContext, steps: int) -> Longer | None:
    """None where it learns in ``steps`` steps, where no more can help, or where the planned run is not as long."""
    control = ctx.trainings.trial(AS_CONFIGURED, ctx.seed, steps)
    planned = ctx.planned_steps()
    if control.outcome not in {Learning.STUCK, Learning.SLOW} or not _moves(control) or planned < LONGER * steps:
        return None
    wait = Wanted(replace(AS_CONFIGURED, label=f"{AS_CONFIGURED.label}, for longer"), ctx.seed, LONGER * steps)
    ctx.trainings.ahead([wait, *_wanted_next(ctx, steps)])
    trace = ctx.trainings.trial(wait.change, wait.seed, wait.steps)
    return Longer(trace, planned, trace.outcome == Learning.LEARNS or reaches(trace, planned))


def _wanted_next(ctx: MeasuringContext, steps: int) -> list[Wanted]:
    """The first trial that the search makes next, whatever comes of the wait."""
    for knob in suspects_first(ctx):
        try:
            return [Wanted(arms(ctx, knob)[-1], ctx.seed, steps)]
        except Skip:
            continue
    return []


def _moves(trace: Trace) -> bool:
    """Whether its loss changed at all: with a learning rate of 0 there is nothing to wait for."""
    return any(point.train_loss != trace.points[0].train_loss for point in trace.points)


def reaches(trace: Trace, planned: int) -> bool:
    """Whether one that is leaving chance will have come far by the end of the plan, at the pace of its last third."""
    if not trace.falling or trace.share is None or trace.constant is None or trace.floor is None:
        return False
    if trace.share < STUCK_SHARE:  # a bad start that falls towards guessing has learned nothing
        return False
    last, earlier = trace.points[-1], trace.points[len(trace.points) * 2 // 3]
    pace = (earlier.train_loss - last.train_loss) / (last.step - earlier.step) / (trace.constant - trace.floor)
    return trace.share + pace * (planned - last.step) >= COME_FAR
