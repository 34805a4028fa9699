"""A batch or two that cannot be memorised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Stage
from probes.learning._curves import loss_curve
from probes.results import Grade

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Trace

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

STALLED_SHARE = 0.5  # of the gap between chance and the floor of the targets; above it a longer run may memorise


def run(ctx: Context) -> Findings:
    trace = ctx.overfit()
    first, last = trace.points[0], trace.points[-1]
    if trace.stopped == "memorised":
        return fact(trace) + compared(ctx.overfit_as_configured())
    if trace.stopped == "nonfinite":
        yield DOC.finding(
            "On {samples} samples the loss became {loss} after {steps} steps.",
            samples=trace.samples,
            loss=trace.losses[-1],
            steps=trace.steps,
            evidence=(loss_curve(trace),),
        )
        return ""
    share = trace.share
    way = f"after {trace.steps} steps the loss went from {first.train_loss:.3f} to {last.train_loss:.3f}"
    if share is None and last.train_score is None:
        if trace.outcome == "learns":
            return f"{way} (a loss without a known floor)"
        raise Inconclusive(f"{way}, and this loss has no known floor to compare with")
    if share is None and trace.above_chance:
        return f"{way}, accuracy {last.train_score:.0%} (a loss without a known level of guessing)"
    if share is not None and share >= STALLED_SHARE:
        raise Inconclusive(f"{way}, {share:.0%} of the way from guessing to its floor: partly memorised")
    if trace.falling:
        raise Inconclusive(f"{way}, and it is still falling")
    if later := ctx.learns_later():
        raise Inconclusive(f"{way}; on more samples {later}")
    more = ctx.subset()  # a rate that is too small for a batch is the finding of that stage, with its experiments
    if more.outcome == "learns" or (more.outcome == "slow" and more.val_above_chance):
        first_loss, last_loss = more.points[0].train_loss, more.points[-1].train_loss
        raise Inconclusive(f"{way}; on more samples it goes from {first_loss:.3f} to {last_loss:.3f}, above guessing")
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


def fact(trace: Trace) -> str:
    last = trace.points[-1]
    score = "" if last.train_score is None else f", accuracy {last.train_score:.0%}"
    return (
        f"{trace.samples} samples memorised in {trace.steps} steps: "
        f"loss {trace.points[0].train_loss:.2f} to {last.train_loss:.2f}{score}"
    )


def compared(trace: Trace | None) -> str:
    """What regularisation makes of the same batch in as many steps."""
    return "" if trace is None else f"; {trace.points[-1].train_loss:.2f} with dropout and weight decay as configured"
