"""Training improves, validation stays at chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Skip, Stage
from probes.learning._curves import curves
from probes.results import Grade

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="FIT004",
    name="no-generalisation",
    stage=Stage.SUBSET,
    symptom=True,
    grade=Grade.SUSPECTED,
    summary="The training samples are learned, but the validation samples stay at chance.",
    why="What was learned does not carry over: the labels have nothing to do with the inputs, the validation data are "
    "prepared or labelled in another way, or there are far too few samples.",
    fix="Compare a few training and validation samples and their labels side by side, as the model gets them.",
)

CLEARLY_LEARNED = 0.15  # share of the way on training samples, below which validation may simply lag behind
ENOUGH = 100  # validation samples, below which chance and a weak model cannot be told apart
PER_CLASS = 20  # training samples of each class, below which a healthy model may learn them by heart first


def run(ctx: Context) -> Findings:
    trace = ctx.subset()
    last = trace.points[-1]
    if not trace.val_samples:
        raise Skip("there is no validation split")
    if last.val_score is None or trace.chance is None or last.train_score is None:
        raise Skip("the task has no accuracy to compare with chance")
    if trace.val_above_chance:
        return f"val accuracy {last.val_score:.1%}, guessing {trace.chance:.1%}"
    if trace.outcome != "learns":
        raise Skip("the training samples were not learned either")
    if trace.val_samples < ENOUGH:
        raise Inconclusive(f"only {trace.val_samples} validation samples")
    if trace.trained_on is not None and trace.classes and trace.trained_on < PER_CLASS * trace.classes:
        raise Inconclusive(
            f"{trace.trained_on} training samples of {trace.classes} classes may be too few to generalise"
        )
    if (trace.share or 0.0) < CLEARLY_LEARNED:
        raise Inconclusive("the training samples are only partly learned after these steps, and validation lags behind")
    yield DOC.finding(
        "After {steps} steps the training accuracy is {train_accuracy:.1%}, the validation accuracy {accuracy:.1%}, "
        "which is what guessing gives ({chance:.1%}).",
        steps=trace.steps,
        train_accuracy=last.train_score,
        accuracy=last.val_score,
        chance=trace.chance,
        evidence=curves(trace, "as configured"),
    )
    return ""
