"""Normalised with figures that belong to another scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.data._scales import made_by, of_bytes, once, pictures, swapped
from probes.results import Grade, Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT125",
    name="wrong-normalisation-statistics",
    stage=Stage.SMOKE,
    summary="The inputs were normalised with a mean and standard deviation that do not belong to them.",
    why="Statistics of 0-255 pictures turn 0-1 pictures into nearly a constant; those of 0-1 pictures leave 0-255 "
    "pictures in the hundreds.",
    fix="Use the mean and standard deviation of the training data in the scale in which they reach Normalize.",
    before="Normalize(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])  # after ToTensor",
    after="Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
    requires=("inputs-normalised-twice",),
    consequences=(
        "slow-to-learn", "cannot-overfit", "stuck-at-chance", "no-generalisation", "initial-loss-off",
        "inputs-not-normalised", "learning-rate-too-low", "learning-rate-too-high", "exploding-gradient",
        "exploding-initialisation", "dead-relu", "saturated-activations",
    ),
    references=("torchvision.transforms.v2.Normalize documentation",),
)  # fmt: skip
FLAT = 0.05  # standard deviation of the inputs
OFFSET = 20.0  # their mean over it: 0-255 statistics on 0-1 pictures give about 500
HIGH = 100.0  # a value that only pictures of bytes reach
SHIFTED = (-10.0, 0.0)  # where a mean from 0 to 1 over a std from 0.1 to 0.6 takes black
NORMALISED = 10.0  # spread at the first layer: a model that brings the inputs down to it normalises them itself


def run(ctx: Context) -> Findings:
    """The ends of every channel's range, against what known statistics make of them; then mean against spread."""
    scan = pictures(ctx)
    low, high = min(scan.channel_min), max(scan.channel_max)
    mean, std = scan.input_mean, scan.input_std
    told = f"the values lie between {low:.3g} and {high:.3g} (mean {mean:.3g}, std {std:.3g})"
    text, recipe = "", ""
    if recipe := made_by(scan, once, high=255.0):
        text = "what {recipe}'s statistics for 0-1 make of pictures from 0 to 255"
    elif recipe := made_by(scan, of_bytes):
        text = "what {recipe}'s statistics for 0-255 make of pictures from 0 to 1"
    elif recipe := made_by(scan, swapped):
        text = "what {recipe}'s mean and std make of [0, 1] when they are swapped"
    elif std < FLAT and abs(mean) > OFFSET * std:
        text = "nearly constant, far from 0: the statistics belong to a larger scale"
    elif SHIFTED[0] <= low < 0 and high > HIGH and not _normalised_inside(ctx):
        text = "a mean was taken off, but the values were not brought to its scale"
    if text:
        yield DOC.finding(
            "the values lie between {low:.3g} and {high:.3g} (mean {mean:.3g}, std {std:.3g}): " + text,
            low=low, high=high, mean=mean, std=std, recipe=recipe,
            grade=str(Grade.PROVED if recipe else Grade.SUPPORTED),
            severity=Severity.WARNING if _normalised_inside(ctx) else None,
            evidence=(Number("mean over standard deviation", abs(mean) / std, f"below {OFFSET:g}"),),
        )  # fmt: skip
    return told


def _normalised_inside(ctx: Context) -> bool:
    """Whether the model brings its inputs to a usual scale before its first weights."""
    import torch

    first = next((m for m in ctx.pipeline.model.modules() if not list(m.children())), None)
    if isinstance(first, torch.nn.modules.batchnorm._NormBase):
        return True
    layers = ctx.inspection().layers
    return bool(layers) and layers[0].input_std < NORMALISED < ctx.scan("train").input_std
