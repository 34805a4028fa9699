"""A batch or two that cannot be memorised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from probes.api import Inconclusive, ProbeDoc, Skip, Stage
from probes.learning._curves import loss_curve
from probes.results import Finding, Grade

if TYPE_CHECKING:
    from probes.measurements import Context, Trace

DOC = ProbeDoc(
    code="FIT001",
    name="cannot-overfit",
    stage=Stage.OVERFIT,
    symptom=True,
    grade=Grade.SUSPECTED,
    summary="The pipeline cannot memorise one or two batches, even without dropout and weight decay.",
    why="A working network drives the loss of a handful of samples to its floor within a few hundred steps. One that "
    "cannot has a fault in the data, the model, the loss or the optimizer.",
    fix="Look at the causes that were found with it. If there are none, try a learning rate ten times smaller and ten "
    "times larger, and look at the samples and their labels.",
    references=("A Recipe for Training Neural Networks, A. Karpathy, 2019: overfit a single batch",),
)

MEMORISED_SHARE = 0.95  # of the gap between chance and the floor of the targets; the rest is a matter of more steps
STALLED_SHARE = 0.80  # between the two, the run was too short to tell
STARTED_SHARE = 0.2  # a curve that has closed less has not begun to memorise, even if it falls
LEFT_TO_FALL = 0.05  # share of its own fall that a curve made in its last third: it is still moving


def run(ctx: Context) -> Iterator[Finding]:
    trace = ctx.overfit()
    first, last = trace.points[0], trace.points[-1]
    if trace.stopped == "memorised":
        return fact(trace)
    if trace.stopped == "nonfinite":
        yield DOC.finding(
            "On {samples} samples the loss became {loss} after {steps} steps.",
            samples=trace.samples,
            loss=trace.losses[-1],
            steps=trace.steps,
            evidence=(loss_curve(trace),),
        )
        return ""
    if trace.constant is None and trace.chance is None:
        raise Skip("the task has no known floor and no accuracy, so memorising cannot be judged")
    share = trace.share
    if share is not None and share >= STALLED_SHARE:
        raise Inconclusive(
            f"after {trace.steps} steps the loss closed {share:.0%} of the gap to its floor; memorised is {MEMORISED_SHARE:.0%}"
        )
    if share is not None and share > STARTED_SHARE and still_falling(trace):
        raise Inconclusive(
            f"the loss is still falling after {trace.steps} steps ({first.train_loss:.3f} to {last.train_loss:.3f})"
        )
    yield DOC.finding(
        "{samples} samples could not be memorised in {steps} steps without dropout and weight decay: "
        "loss {loss_first:.3f} to {loss_last:.3f}, where {floor:.3f} is possible and {constant:.3f} is guessing.",
        samples=trace.samples,
        steps=trace.steps,
        loss_first=first.train_loss,
        loss_last=last.train_loss,
        floor=0.0 if trace.floor is None else trace.floor,
        constant=float("nan") if trace.constant is None else trace.constant,
        accuracy=last.train_score,
        chance=trace.chance,
        evidence=(loss_curve(trace),),
    )
    return ""


def still_falling(trace: Trace) -> bool:
    first, last = trace.points[0].train_loss, trace.points[-1].train_loss
    earlier = trace.points[len(trace.points) * 2 // 3].train_loss
    return earlier - last > LEFT_TO_FALL * max(first - last, 1e-9)


def fact(trace: Trace) -> str:
    last = trace.points[-1]
    score = "" if last.train_score is None else f", accuracy {last.train_score:.0%}"
    return f"{trace.samples} samples memorised in {trace.steps} steps: loss {trace.points[0].train_loss:.2f} to {last.train_loss:.2f}{score}"
