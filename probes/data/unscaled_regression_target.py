"""A regression target far from anything that the model puts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.learning._curves import proof
from probes.learning._repairs import LEARNING_FAILURES, SENTENCE, figures, nothing_repairs, repairing_arm
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT138",
    name="unscaled-regression-target",
    stage=Stage.SUBSET,
    severity=Severity.WARNING,
    experiment=True,
    hampers=True,
    summary="The target is far from the scale of the outputs, and the model does not learn it; standardised it does.",
    why="The model spends its steps on reaching the target's mean, or the large errors blow the gradient up.",
    fix="Standardise the target with the mean and standard deviation of the training split, and undo it on "
    "predictions.",
    consequences=(
        *LEARNING_FAILURES, "learning-rate-too-high", "learning-rate-too-low", "exploding-gradient", "initial-loss-off",
        "diverging", "nonfinite-training",
    ),
    before="y = torch.tensor(prices)",
    after="y = (y - y_train.mean()) / y_train.std()",
)  # fmt: skip
WIDE = 10.0  # standard deviation of the target, or its inverse
FAR = 5.0  # the target's mean, in units of its standard deviation


def run(ctx: Context) -> Findings:
    """The pipeline as it is and with a standardised target, over seeds; only where the scale is unusual."""
    if ctx.facts.task != "regression":
        raise Skip(f"judged for regression, not for {ctx.facts.task}")
    scan = ctx.scan("train")
    mean, std = scan.label_mean, scan.label_std
    if mean is None or not std:
        raise Skip("the targets are no numbers, or constant")
    if not unscaled(ctx):
        raise Skip(f"the target has mean {mean:.3g} and standard deviation {std:.3g}")
    if ctx.overfit().stopped == "memorised" and ctx.subset().outcome == "learns":
        return f"the target has mean {mean:.3g} and standard deviation {std:.3g}, and is learned as it is"
    ablation = ctx.ablation("targets")
    arm = repairing_arm(ablation)
    if arm is None:
        return nothing_repairs(ablation)
    yield DOC.finding(
        "With a target of mean {mean:.3g} and standard deviation {std:.3g}, " + SENTENCE,
        mean=mean,
        std=std,
        evidence=proof(ablation),
        **figures(ablation, arm),
    )
    return ""


def unscaled(ctx: Context) -> bool:
    """Whether the numbers to predict lie far from what a fresh model puts out."""
    scan = ctx.scan("train")
    mean, std = scan.label_mean, scan.label_std
    if ctx.facts.task != "regression" or mean is None or not std:
        return False
    return not 1 / WIDE <= std <= WIDE or abs(mean) > FAR * std
