"""Training improves, validation stays at chance."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Skip, Stage
from probes.data import label_map_differs_in_validation
from probes.learning._curves import curves
from probes.results import Grade

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Trace

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

RARE_EVENTS = 0.9  # accuracy of guessing, above which only the loss can tell
LEVEL = 1e-3  # significance
WELL_LEARNED = 0.5  # the same where there is no accuracy
CLEARLY_LEARNED = 0.15  # share of the way on training samples, below which validation may simply lag behind
ENOUGH = 100  # validation samples, below which chance and a weak model cannot be told apart
ENOUGH_TO_TELL = 200  # training samples, on which a relation between inputs and targets shows
LONG_ENOUGH = 600  # steps, those of a trial: what is planned to be shorter may be a test
PER_CLASS = 20  # training samples of each class, below which a healthy model may learn them by heart first


def run(ctx: Context) -> Findings:
    trace = ctx.subset()
    if not trace.val_samples:
        raise Skip("there is no validation split")
    trace = ctx.subset_given_time()
    last = trace.points[-1]
    if last.val_score is None or trace.chance is None or last.train_score is None or trace.chance > RARE_EVENTS:
        yield from _by_loss(ctx, trace)
        return "validation loss is better than that of a constant prediction"
    renamed = label_map_differs_in_validation.findings(trace.val_predicted, trace.val_labels, "the trained model")
    if renamed and trace.outcome == "learns":
        yield from renamed
        return ""
    if trace.val_above_chance or _better_than_guessing_there(trace):
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
    if told := _as_well_as_simple_predictors(ctx, last.val_score, trace.val_samples):
        raise Inconclusive(told)
    if _of_a_part(ctx, trace):
        trace, part = ctx.learned_by_heart(1.0), last
        last = trace.points[-1]
        if trace.val_above_chance or _better_than_guessing_there(trace):
            return f"val accuracy {last.val_score:.1%} with all of the data, guessing {trace.chance:.1%}"
        learned = trace.outcome == "learns" and (trace.share or 0.0) >= CLEARLY_LEARNED
        if not learned and not _is_the_plan(ctx, trace) and not _nothing_tells_the_target(ctx):
            raise Inconclusive(
                f"a part of the training samples is learned by heart (val accuracy {part.val_score:.1%}, guessing "
                f"{trace.chance:.1%}), and all of them are only partly learned after {trace.steps} steps"
            )
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


def _by_loss(ctx: Context, trace: Trace) -> Findings:
    """For tasks without an accuracy: is the validation loss no better than that of the best constant prediction?"""
    last = trace.points[-1]
    if trace.constant is None or trace.floor is None or last.val_loss is None or trace.constant <= trace.floor:
        raise Skip("the task has neither an accuracy nor a known loss of guessing")
    if trace.outcome != "learns":
        raise Skip("the training samples were not learned either")
    constant, gap = trace.constant, trace.constant - trace.floor
    best = min(point.val_loss for point in trace.points[1:] if point.val_loss is not None)
    val_share = (constant - best) / gap
    if val_share > CLEARLY_LEARNED:
        return ""
    # It was stopped as soon as it learned: see it through, with all of the data, as of a part little may carry over.
    if (trace.share or 0.0) < WELL_LEARNED or _of_a_part(ctx, trace):
        trace = ctx.learned_by_heart(1.0)
        last = trace.points[-1]
        best = min(point.val_loss for point in trace.points[1:] if point.val_loss is not None)
        val_share = (constant - best) / gap
        if val_share > CLEARLY_LEARNED:
            return ""
        nothing = val_share <= 0 and (_is_the_plan(ctx, trace) or _nothing_tells_the_target(ctx))
        if (trace.share or 0.0) < WELL_LEARNED and not nothing:
            raise Inconclusive(f"validation loss {best:.3g} at its best, a constant prediction has {constant:.3g}: the "
                               "training samples are only partly learned")  # fmt: skip
    if val_share > 0 or trace.val_samples < ENOUGH:
        raise Inconclusive(
            f"validation loss {best:.3g} at its best, a constant prediction has {constant:.3g}: hardly better"
        )
    yield DOC.finding(
        "After {steps} steps the training loss is {train_loss:.3g}, and the validation loss was {val_loss:.3g} at its "
        "best, where a constant prediction has {constant:.3g}.",
        steps=trace.steps,
        train_loss=last.train_loss,
        val_loss=best,
        constant=constant,
        evidence=curves(trace, "as configured"),
    )
    return ""


def _as_well_as_simple_predictors(ctx: Context, score: float, samples: int) -> str:
    """Where the target can only be guessed a little better than at random, few validation samples do not show that the
    model does worse there than it could."""
    from scipy.stats import binomtest

    try:
        found = ctx.association(thorough=True)
    except Skip:
        return ""
    if not found.related:
        return ""
    worse = float(binomtest(round(score * samples), samples, min(1.0, found.best), alternative="less").pvalue)
    if worse < LEVEL:
        return ""
    return (
        f"val accuracy {score:.1%} on {samples} samples, where simple predictors reach {found.best:.0%} on training "
        "samples that they have not seen: too few to tell the two apart"
    )


def _of_a_part(ctx: Context, trace: Trace) -> bool:
    """Whether the data hold more samples than the training drew from: of few ratings of each user, say, little carries
    over to others."""
    total = ctx.scan("train").total
    return trace.trained_on is not None and total is not None and trace.trained_on < total


def _is_the_plan(ctx: Context, trace: Trace) -> bool:
    """Whether it is the whole run that the user plans, and no short one: what it has not learned then it never will."""
    return ctx.facts.epochs_stated and LONG_ENOUGH <= ctx.planned_steps() <= trace.steps


def _nothing_tells_the_target(ctx: Context) -> bool:
    """Whether simple predictors, cross-validated on many training samples, find no relation either. Of the names of
    things, users and words say, they find too little to be asked."""
    if "float" not in ctx.scan("train").input_dtype:
        return False
    try:
        found = ctx.association(thorough=True)
    except Skip:
        return False
    return found.samples >= ENOUGH_TO_TELL and not found.related


def _better_than_guessing_there(trace: Trace) -> bool:
    """Against the classes of the validation split, which may be mixed otherwise than those of training."""
    from scipy.stats import binomtest

    if not trace.val_labels:
        return False
    right = sum(a == b for a, b in zip(trace.val_labels, trace.val_predicted, strict=True))
    guess = max(Counter(trace.val_labels).values()) / len(trace.val_labels)
    return float(binomtest(right, len(trace.val_labels), guess, alternative="greater").pvalue) < LEVEL
