"""Inputs far from the scale that networks are initialised for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._standardised import normalises_first
from probes.learning._curves import proof
from probes.learning._repairs import LEARNING_FAILURES, SENTENCE, figures, nothing_repairs, repairing_arm

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT137",
    name="inputs-not-normalised",
    stage=Stage.SUBSET,
    experiment=True,
    summary="The inputs are not normalised, and the model does not learn; with standardised inputs it does.",
    why="Initialisation and usual learning rates assume inputs around 0 with a spread around 1. Inputs in the hundreds "
    "make activations and gradients as much larger; inputs far from 0 make all samples look alike.",
    fix="Subtract the mean and divide by the standard deviation of the training data, or begin with a batch norm.",
    consequences=(
        *LEARNING_FAILURES, "learning-rate-too-high", "learning-rate-too-low", "exploding-gradient", "initial-loss-off",
        "exploding-initialisation", "saturated-activations", "dead-relu", "diverging", "nonfinite-training",
        "weight-decay-too-strong",
    ),
    before="x = torch.tensor(images).float()",
    after="x = torch.tensor(images).float() / 255",
    references=("LeCun et al. 1998, Efficient BackProp",),
)  # fmt: skip
WIDE = 4.0  # standard deviation of the inputs: twice-normalised pictures reach 4.4, healthy ones about 1
NARROW = 0.1
FAR = 4.0  # their mean over it


def run(ctx: Context) -> Findings:
    """The pipeline as it is and with standardised inputs, over seeds; only where the scale is unusual."""
    scan = ctx.scan("train")
    mean, std = abs(scan.input_mean), scan.input_std
    if NARROW <= std <= WIDE and mean <= FAR * std:
        raise Skip(f"the inputs have mean {scan.input_mean:.3g} and standard deviation {std:.3g}")
    if normalises_first(ctx):
        raise Skip("the model begins with a normalising layer")
    ablation = ctx.ablation("inputs")
    arm = repairing_arm(ablation)
    if arm is None:
        return nothing_repairs(ablation)
    yield DOC.finding(
        "With inputs of mean {mean:.3g} and standard deviation {std:.3g}, " + SENTENCE,
        mean=scan.input_mean,
        std=std,
        evidence=proof(ablation),
        **figures(ablation, arm),
    )
    return ""
