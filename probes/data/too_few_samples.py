"""So few samples that more of them would help more than anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Severity, Table

if TYPE_CHECKING:
    from probes.measurements import Context

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
KNOWN = 0.97  # training accuracy: learned by heart
GAP = 0.08  # between training and validation accuracy
RISING = 0.03  # validation accuracy that the second half of the samples added
ENOUGH = 100  # validation samples


def run(ctx: Context) -> Findings:
    """Where a small split is learned by heart: the same training on half of it, for the learning curve."""
    trace = ctx.subset()
    last, total = trace.points[-1], ctx.scan("train").total
    if last.val_score is None or last.train_score is None or not trace.classes or total is None:
        raise Skip("the task has no accuracy, or the number of samples is not known")
    if total > FEW * trace.classes or (trace.trained_on or 0) < total:
        return f"{total:,} training samples of {trace.classes} classes"
    if trace.val_samples < ENOUGH:
        raise Skip(f"only {trace.val_samples} validation samples")
    longer = ctx.learned_by_heart(1.0)
    whole = longer.points[-1]
    if (whole.train_score or 0.0) < KNOWN or (whole.val_score or 0.0) > (whole.train_score or 0.0) - GAP:
        return f"train accuracy {whole.train_score or 0:.1%}, val accuracy {whole.val_score or 0:.1%}"
    half = ctx.learned_by_heart(0.5).points[-1]
    if (half.val_score or 0.0) > (whole.val_score or 0.0) - RISING:
        return f"half of the samples give {half.val_score or 0:.1%} on val, all of them {whole.val_score or 0:.1%}"
    yield DOC.finding(
        "{total} samples of {classes} classes are learned to {train:.0%}, and validation reaches {val:.1%}; with "
        "half of "
        "them it was {half:.1%}, so the curve still rises",
        total=total,
        classes=trace.classes,
        train=whole.train_score,
        val=whole.val_score,
        half=half.val_score,
        evidence=(
            Table(
                ("samples", "train accuracy", "val accuracy"),
                [(total // 2, half.train_score, half.val_score), (total, whole.train_score, whole.val_score)],
            ),
        ),
    )
    return ""
