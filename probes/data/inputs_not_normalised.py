"""Inputs far from the scale that networks are initialised for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data import inputs_normalised_twice, wrong_normalisation_statistics
from probes.data._standardised import gain_by_standardising, normalises_first
from probes.learning._repairs import LEARNING_FAILURES
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT137",
    name="inputs-not-normalised",
    stage=Stage.SUBSET,
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
    """The pipeline as it is and with standardised inputs; only where the scale is unusual. Which wrong scale it is
    decides the name."""
    scan = ctx.scan("train")
    mean, std = abs(scan.input_mean), scan.input_std
    if "float" not in scan.input_dtype or not std:
        raise Skip("the inputs are not real numbers, or constant")
    if NARROW <= std <= WIDE and mean <= FAR * std:
        raise Skip(f"the inputs have mean {scan.input_mean:.3g} and standard deviation {std:.3g}")
    if normalises_first(ctx):
        raise Skip("the model begins with a normalising layer")
    gain = gain_by_standardising(ctx)
    if gain is None:
        return f"mean {scan.input_mean:.3g} and standard deviation {std:.3g}, but standardising does not help much"
    doc = DOC
    if len(scan.input_shape) > 2 and mean > FAR * std and scan.input_min < 0:  # something was taken off
        doc = wrong_normalisation_statistics.DOC
    elif len(scan.input_shape) > 2 and std < NARROW:
        doc = inputs_normalised_twice.DOC
    yield doc.finding(
        "inputs of mean {mean:.3g} and standard deviation {std:.3g}: {gain}",
        mean=scan.input_mean,
        std=std,
        gain=gain.text,
        severity=None if gain.repairs else Severity.WARNING,
        evidence=gain.evidence,
        **gain.values,
    )
    return ""
