"""Inputs are scaled, and then scaled again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Stage
from probes.data._scales import again_by_own, made_by, pictures, twice
from probes.results import Grade, Number

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT124",
    name="inputs-normalised-twice",
    stage=Stage.DATA,
    summary="The inputs were scaled or normalised twice.",
    why="After the second division hardly any contrast is left, or the values lie far from 0: the first layer sees "
    "nearly the same input for every sample, and weights made for one scale do not fit the other.",
    fix="Scale once: ToTensor divides pictures of bytes by 255 already, and Normalize belongs in one place.",
    before='Compose([ToTensor(), Lambda(lambda x: x / 255)])',
    after="Compose([ToTensor()])",
    consequences=(
        "slow-to-learn", "cannot-overfit", "stuck-at-chance", "no-generalisation", "learning-rate-too-low",
        "vanishing-initialisation", "initial-loss-off", "inputs-not-normalised",
    ),
    references=("torchvision.transforms.v2.ToDtype documentation: scale=True",),
)  # fmt: skip
BYTE = 1 / 255
NEAR = 0.05  # relative: pictures need not use their whole range


def run(ctx: Context) -> Findings:
    """Two Normalize transforms, a range divided by 255 twice, or exactly what a known recipe, or the data's
    own, leaves twice."""
    scan = pictures(ctx)
    low, high = min(scan.channel_min), max(scan.channel_max)
    figures: dict[str, Any] = {"low": low, "high": high, "std": scan.input_std}
    evidence = (Number("standard deviation of the inputs", scan.input_std, "about 0.3 to 1"),)
    if len(scan.normalisations) > 1 and scan.normalisations[0] == scan.normalisations[1]:
        yield DOC.finding(
            "the transforms hold {count} equal Normalize in a row; the inputs have mean {mean:.3g} and std {std:.3g}",
            count=len(scan.normalisations), mean=scan.input_mean, evidence=evidence, **figures,
        )  # fmt: skip
    elif low >= 0 and abs(high - BYTE) <= NEAR * BYTE:
        yield DOC.finding(
            "the values lie between {low:.3g} and {high:.3g}, which is 1/255: divided by 255 twice",
            evidence=evidence, **figures,
        )  # fmt: skip
    elif recipe := made_by(scan, twice):
        yield DOC.finding(
            "the values lie between {low:.3g} and {high:.3g}, which is what normalising with {recipe}'s mean and std "
            "twice makes of [0, 1]",
            recipe=recipe, evidence=evidence, **figures,
        )  # fmt: skip
    elif again_by_own(scan):
        yield DOC.finding(
            "values from {low:.3g} to {high:.3g} with mean {mean:.3g} and std {std:.3g}: their lowest is mean (1 + "
            "std), which is what normalising twice with the data's own mean and std leaves of values from 0 up",
            mean=scan.input_mean, evidence=evidence, grade=str(Grade.SUPPORTED), **figures,
        )  # fmt: skip
    return f"values from {low:.3g} to {high:.3g}, std {scan.input_std:.3g}"
