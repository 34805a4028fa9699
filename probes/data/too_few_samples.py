"""So few samples that more of them would help more than anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Severity, Table

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Point, Trace

DOC = ProbeDoc(
    code="DAT139",
    name="too-few-samples",
    stage=Stage.SUBSET,
    severity=Severity.WARNING,
    grade=Grade.SUSPECTED,
    summary="The training split is so small that the model knows it by heart, and validation still gains by more "
    "samples.",
    why="What the samples do not show, no training can find; validation stays well below training.",
    fix="Collect or label more samples, start from pretrained weights, or augment.",
    consequences=("overfitting", "no-generalisation"),
    references=("Hestness et al. 2017, Deep Learning Scaling is Predictable, Empirically",),
)
FEW = 40  # training samples of a class
FEW_NUMBERS = 80  # training samples, where the target is a number
KNOWN = 0.97  # training score: learned by heart
GAP = 0.08  # between training and validation score
RISING = 0.03  # validation score that the second half of the samples added
ENOUGH = 100  # validation samples


def run(ctx: Context) -> Findings:
    """Where a small split is learned by heart: the same training on half of it, for the learning curve."""
    trace, total = ctx.subset(), ctx.scan("train").total
    last = trace.points[-1]
    if total is None or _scores(trace, last) is None or (last.val_score is not None and not trace.classes):
        raise Skip("the task has no accuracy and no loss of guessing, or the number of samples is not known")
    kind, most = ("accuracy", FEW * (trace.classes or 0)) if last.val_score is not None else ("share", FEW_NUMBERS)
    if total > most or (trace.trained_on or 0) < total:
        return f"{total:,} training samples" + (f" of {trace.classes} classes" if trace.classes else "")
    if trace.val_samples < ENOUGH:
        raise Skip(f"only {trace.val_samples} validation samples")
    longer = ctx.learned_by_heart(1.0)
    train, val = _scores(longer, longer.points[-1]) or (0.0, 0.0)
    if train < KNOWN or val > train - GAP:
        return f"train {kind} {train:.1%}, val {kind} {val:.1%}"
    shorter = ctx.learned_by_heart(0.5)
    half_train, half = _scores(shorter, shorter.points[-1]) or (0.0, 0.0)
    if half > val - RISING:
        return f"half of the samples give {half:.1%} on val, all of them {val:.1%}"
    yield DOC.finding(
        "{total} samples are learned to {train:.0%} ({kind}), and validation reaches {val:.1%}; with half of them it "
        "was {half:.1%}, so the curve still rises",
        total=total,
        classes=trace.classes,
        kind="accuracy" if kind == "accuracy" else "share of the way from guessing to the floor",
        train=train,
        val=val,
        half=half,
        evidence=(
            Table(("samples", f"train {kind}", f"val {kind}"), [(total // 2, half_train, half), (total, train, val)]),
        ),
    )
    return ""


def _scores(trace: Trace, point: Point) -> tuple[float, float] | None:
    """(train, val): the accuracy, or the share of the way from the loss of guessing to the lowest; None if unknown."""
    if point.train_score is not None and point.val_score is not None:
        return point.train_score, point.val_score
    if trace.constant is None or trace.floor is None or trace.constant <= trace.floor or point.val_loss is None:
        return None
    gap = trace.constant - trace.floor
    return (trace.constant - point.train_loss) / gap, (trace.constant - point.val_loss) / gap
