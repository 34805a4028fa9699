"""A short training on a part of the data that gets no better than guessing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Stage
from probes.learning._curves import curves
from probes.results import Grade

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="FIT002",
    name="stuck-at-chance",
    stage=Stage.SUBSET,
    symptom=True,
    grade=Grade.SUSPECTED,
    summary="After a short training the model is still no better than guessing.",
    why="A pipeline that learns leaves chance within a few hundred steps, on a tenth of the data too. One that does "
    "not will usually spend its long run there.",
    fix="See the causes that were found with it. If there are none, compare the samples with their labels, and try "
    "other learning rates.",
    consequences=("predicts-one-class", "slow-to-learn"),
)

ENOUGH = 100  # validation samples, below which chance and a weak model cannot be told apart


def run(ctx: Context) -> Findings:
    trace = ctx.subset()
    first, last = trace.points[0], trace.points[-1]
    if trace.outcome == "unknown":
        raise Inconclusive("the task has no known chance level, and the loss did not clearly fall")
    later = ctx.learns_later()
    if trace.outcome == "slow" and not later and trace.val_samples >= ENOUGH and trace.val_above_chance is False:
        raise Inconclusive(
            f"after {trace.steps} steps the training samples are told a little better than by guessing, but the "
            f"validation samples are not ({last.val_score:.1%}, guessing {trace.chance:.1%})"
        )
    if trace.outcome in {"learns", "slow"}:
        score = "" if last.val_score is None else f", val accuracy {last.val_score:.1%}"
        return f"loss {first.train_loss:.2f} to {last.train_loss:.2f} in {trace.steps} steps{score}"
    if later:
        return later
    if trace.falling and trace.outcome == "stuck":
        raise Inconclusive(
            f"after {trace.steps} steps the loss went from {first.train_loss:.3f} to {last.train_loss:.3f}: hardly "
            "better than guessing, but still falling"
        )
    message = (
        "After {steps} steps the loss is {loss_last:.3f} (start {loss_first:.3f}, guessing {constant:.3f}) and the "
        "accuracy {accuracy:.1%} (guessing {chance:.1%})."
        if last.train_score is not None and trace.chance is not None
        else "After {steps} steps the loss is {loss_last:.3f} (start {loss_first:.3f}, guessing {constant:.3f})."
    )
    if trace.outcome == "nonfinite":
        message = "The loss stopped being a finite number after {steps} steps."
    yield DOC.finding(
        message,
        steps=trace.steps,
        loss_first=first.train_loss,
        loss_last=last.train_loss,
        constant=float("nan") if trace.constant is None else trace.constant,
        accuracy=last.val_score if last.val_score is not None else last.train_score,
        chance=trace.chance,
        share_closed=trace.share,
        evidence=curves(trace, "as configured"),
    )
    return ""
