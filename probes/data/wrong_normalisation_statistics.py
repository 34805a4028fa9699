"""Normalised with figures that belong to another scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data import inputs_normalised_twice
from probes.data._scales import FLAT, OFFSET, is_faint, made_by, moments, of_bytes, once, reals, swapped, swapped_own
from probes.data._standardised import normalises_first
from probes.results import Grade, Number, Severity, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probes.measurements import Context
    from probes.records.data import Scan
    from probes.results import Finding

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
BYTES = 255.0
FULL = 1.0  # what pictures span before any statistics, and more after the usual ones
NORMALISED_BEFORE = 2.5  # spread times 255, of pictures by statistics of bytes: above, they reached further than 0 to 1
DIVIDED_BEFORE = 0.02  # the same: below, they reached less far by another factor of 255
ALIKE = 1.05  # largest over smallest spread of the columns: a wrong scale divides all of them by the same
HIGH = 100.0  # a value that only pictures of bytes reach
SHIFTED = (-10.0, 0.0)  # where a mean from 0 to 1 over a std from 0.1 to 0.6 takes black
CENTRED, SPREAD = 0.1, 1.2  # mean over spread, and factor of a spread of 1, of values that were normalised well
NORMALISED = 10.0  # spread at the first layer: a model that brings the inputs down to it normalises them itself


def run(ctx: Context) -> Findings:
    """The ends of every channel's range, against what known statistics make of them; then mean against spread."""
    scan = reals(ctx)
    if columns := swapped_own(scan):
        yield DOC.finding(
            "in each of {columns} columns or channels the standard deviation is the distance of the mean from 1, which "
            "is what mean and std leave when they are swapped",
            columns=columns,
            grade=str(Grade.SUPPORTED),
            evidence=(Table(("mean", "standard deviation"), list(zip(*moments(scan), strict=True))[:10]),),
        )
        return ""
    if len(scan.input_shape) == 4 and scan.channel_min:
        return (yield from _pictures(ctx, scan))
    if is_faint(scan):
        yield from _faint(ctx, scan)
    return f"mean {scan.input_mean:.3g}, std {scan.input_std:.3g}"


def _pictures(ctx: Context, scan: Scan) -> Findings:
    low, high = min(scan.channel_min), max(scan.channel_max)
    mean, std = scan.input_mean, scan.input_std
    told = f"the values lie between {low:.3g} and {high:.3g} (mean {mean:.3g}, std {std:.3g})"
    doc, text, recipe = DOC, "", ""
    if recipe := made_by(scan, once, high=255.0):
        text = "what {recipe}'s statistics for 0-1 make of pictures from 0 to 255"
    elif recipe := made_by(scan, of_bytes):
        text = "what {recipe}'s statistics for 0-255 make of pictures from 0 to 1"
    elif not _standardised(scan) and (recipe := made_by(scan, swapped)):
        text = "what {recipe}'s mean and std make of [0, 1] when they are swapped"
    elif (std < FLAT and abs(mean) > OFFSET * std) or (low < 0 and _flat_channels(scan)):
        text = "nearly constant, far from 0: the statistics belong to a larger scale"
        if low < 0 and not DIVIDED_BEFORE <= BYTES * max(moments(scan)[1]) <= NORMALISED_BEFORE:
            doc = inputs_normalised_twice.DOC
            text = "nearly constant, far from 0: scaled or normalised already when they were normalised"
    elif SHIFTED[0] <= low < 0 and high > HIGH and not _normalised_inside(ctx):
        text = "a mean was taken off, but the values were not brought to its scale"
    if text:
        yield doc.finding(
            "the values lie between {low:.3g} and {high:.3g} (mean {mean:.3g}, std {std:.3g}): " + text,
            low=low, high=high, mean=mean, std=std, recipe=recipe,
            grade=str(Grade.PROVED if recipe else Grade.SUPPORTED if doc is DOC else Grade.SUSPECTED),
            severity=Severity.WARNING if _normalised_inside(ctx) else None,
            evidence=(Number("mean over standard deviation", abs(mean) / std, f"below {OFFSET:g}"),),
        )  # fmt: skip
    return told


def _flat_channels(scan: Scan) -> bool:
    """Whether each channel is nearly constant, whatever distance the statistics of each leave between them. A few
    bright spots on black vary little, but far."""
    narrow = all(high - low < FULL for low, high in zip(scan.channel_min, scan.channel_max, strict=True))
    return narrow and all(std < FLAT and abs(mean) > OFFSET * std for mean, std in zip(*moments(scan), strict=True))


def _standardised(scan: Scan) -> bool:
    """Whether every channel has a mean near 0 and a spread near 1: whatever the ends of its range say, that fits."""
    return all(
        abs(mean) < CENTRED * std and 1 / SPREAD < std < SPREAD for mean, std in zip(*moments(scan), strict=True)
    )


def _faint(ctx: Context, scan: Scan) -> Iterator[Finding]:
    """Tables and sequences may be meant to be faint, so it must also keep the model from learning a batch by heart."""
    attempt = ctx.attempt()
    if attempt.failure is not None or normalises_first(ctx):
        raise Skip("the model normalises its inputs first, or does not run")
    trace = ctx.overfit()
    if trace.stopped == "memorised" or trace.outcome == "learns":
        return
    stds = moments(scan)[1]
    again = len(stds) > 1 and max(stds) > ALIKE * min(stds)
    yield (inputs_normalised_twice.DOC if again else DOC).finding(
        "the inputs are nearly constant and far from 0 (mean {mean:.3g}, standard deviations of the columns "
        "{least:.3g} to {most:.3g}), and {steps} steps do not teach the model a batch: " + (
            "normalised already when the statistics of the raw values were used, it seems"
            if again else "the statistics belong to values {factor:.0f} times as large"
        ),
        mean=scan.input_mean, least=min(stds), most=max(stds), steps=trace.steps, factor=1 / max(stds),
        grade=str(Grade.SUSPECTED),
    )  # fmt: skip


def _normalised_inside(ctx: Context) -> bool:
    """Whether the model brings its inputs to a usual scale before its first weights."""
    import torch

    first = next((m for m in ctx.pipeline.model.modules() if not list(m.children())), None)
    if isinstance(first, torch.nn.modules.batchnorm._NormBase):
        return True
    layers = ctx.inspection().layers
    return bool(layers) and layers[0].input_std < NORMALISED < ctx.scan("train").input_std
