"""Training and validation data are prepared differently."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Severity, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probes.measurements import Context
    from probes.records.data import Scan
    from probes.results import Finding

MIN_SEEN = 20  # samples per split: below, two samples of one distribution may look as far apart
APART = 0.8  # Kolmogorov-Smirnov distance between per-sample means (or stds); 1: they do not overlap at all
RATIO = 1.3  # of the typical per-sample std
SHIFT = 0.5  # of the means, in units of the typical per-sample std
APART_AUGMENTED = 0.9  # where train is augmented at random, which moves both on purpose
RATIO_AUGMENTED = 1.8  # mean 0.5, std 0.5 left out changes the std by 2; ImageNet's by 4.4
SHIFT_AUGMENTED = 1.0
SHIFT_UNWIDENED = 2.0  # the same in units of val's own std, where train's is widened by noise
UNLIKE = 0.5  # between the channels of train and val
GAIN = 0.1  # score (accuracy, for numbers the correlation) that turning the val samples round must add
RESTORED = 0.85  # of the score within train, that it must reach
ONE_CLASS = frozenset({"classification", "multilabel"})  # tasks with one class per sample, or possibly
LEVEL = 1e-4  # significance of the samples gained against those lost; some thirty changes are tried

DOC = ProbeDoc(
    code="DAT115",
    name="train-val-preprocessing-mismatch",
    stage=Stage.DATA,
    grade=Grade.SUPPORTED,
    summary="Training and validation data are scaled or laid out differently.",
    why=(
        "The model is validated on inputs of a scale that it was never trained on, so validation looks far "
        "worse than it is."
    ),
    fix=(
        "Use the same deterministic transforms (scaling, normalisation) for both splits; leave out only "
        "random augmentation."
    ),
    before="val_transform = ToTensor()",
    after="val_transform = Compose([ToTensor(), Normalize(mean, std)])",
    consequences=("no-generalisation", "metric-loss-disagree"),
)


def run(ctx: Context) -> Findings:
    """Two samples of per-sample means and standard deviations: are they apart, and by how much?"""

    train, val = ctx.scan("train"), ctx.scan("val")
    if not train.seen or not val.seen:
        raise Skip("a split is empty")
    if ("float" in train.input_dtype) != ("float" in val.input_dtype):
        yield DOC.finding("train inputs are {train}, val inputs {val}", train=train.input_dtype, val=val.input_dtype)
        return ""
    if min(len(train.sample_mean), len(val.sample_mean)) < MIN_SEEN:
        raise Skip("inputs are not floating-point, or too few to compare")
    if train.nonfinite or val.nonfinite:
        raise Skip("some inputs are not finite")
    plain = ctx.plain_scan()
    augmented = plain is not train
    train, val, plain = _of_shared_classes(ctx, train, val, plain)
    if min(len(train.sample_mean), len(val.sample_mean)) < MIN_SEEN:
        raise Skip("the splits hold different classes, whose samples may well differ: see missing-classes")
    apart, ratio, shift = _apart(train, val, fixed=_is_fixed(ctx))
    # Without its transforms train is as val: these may lack in val, or they may be augmentation that is too strong.
    by_transforms = augmented and not _apart(plain, val, fixed=True)[0]
    if apart:
        rows = [(scan.split, scan.input_mean, scan.input_std, scan.input_min, scan.input_max) for scan in (train, val)]
        yield DOC.finding(
            "train inputs have mean {train_mean:.3g} and std {train_std:.3g}, val inputs {val_mean:.3g} and "
            "{val_std:.3g}" + ("; without the transforms of train they are alike" if by_transforms else ""),
            severity=Severity.WARNING if by_transforms else None,
            grade=str(Grade.SUSPECTED if by_transforms else Grade.SUPPORTED),
            evidence=(Table(("split", "mean", "std", "min", "max"), rows, "Inputs as the model gets them"),),
            where=ctx.loader_at("val"),
            train_mean=train.input_mean,
            train_std=train.input_std,
            val_mean=val.input_mean,
            val_std=val.input_std,
            ratio=ratio,
            shift=shift,
        )
        return ""
    if (text := _normalised_apart(train, val)) and not apart:
        yield DOC.finding(
            "{text}; without that they are alike (val has mean {mean:.3g} and std {std:.3g}, train {train_mean:.3g} "
            "and {train_std:.3g})",
            text=text,
            mean=val.input_mean,
            std=val.input_std,
            train_mean=train.input_mean,
            train_std=train.input_std,
            where=ctx.loader_at("val"),
        )
        return ""
    yield from _turned(ctx)
    return (
        f"mean {train.input_mean:.3g} / {val.input_mean:.3g}, std {train.input_std:.3g} / {val.input_std:.3g} "
        f"(train / val)"
    )


def _of_shared_classes(ctx: Context, train: Scan, *others: Scan) -> tuple[Scan, ...]:
    """The scans with the means and deviations of those samples alone whose class occurs in each of them; as they are
    where there is not one class for each sample."""
    scans = (train, *others)
    if ctx.facts.task not in ONE_CLASS or any(len(s.labels) != len(s.sample_mean) for s in scans):
        return scans
    shared = set.intersection(*(set(s.labels) for s in scans))
    return tuple(
        replace(s, sample_mean=_kept(s.sample_mean, s, shared), sample_std=_kept(s.sample_std, s, shared))
        for s in scans
    )


def _kept(values: Sequence[float], scan: Scan, shared: set[int]) -> tuple[float, ...]:
    return tuple(value for value, label in zip(values, scan.labels, strict=True) if label in shared)


def _apart(train: Scan, val: Scan, *, fixed: bool) -> tuple[bool, float, float]:
    """(whether the samples of the two lie apart, ratio of their deviations, distance of their means in deviations).
    ``fixed``: train is free of random augmentation."""
    import numpy as np

    means = [np.asarray(scan.sample_mean) for scan in (train, val)]
    stds = [np.asarray(scan.sample_std) for scan in (train, val)]
    typical = [float(np.median(std)) for std in stds]
    ratio = max(typical) / max(min(typical), 1e-12) if max(typical) else 1.0
    distance = abs(float(np.median(means[0]) - np.median(means[1])))
    shift = distance / max(*typical, 1e-12)
    apart, least_ratio, least_shift = (
        (APART, RATIO, SHIFT) if fixed else (APART_AUGMENTED, RATIO_AUGMENTED, SHIFT_AUGMENTED)
    )
    # Random noise and erasing widen the training samples; only the other way round is the scale at fault for certain.
    widened = not fixed and typical[0] > typical[1]
    by_std = _distance(*stds) >= apart and ratio >= least_ratio and not widened
    by_mean = _distance(*means) >= apart and (
        shift >= least_shift or (widened and distance >= SHIFT_UNWIDENED * max(typical[1], 1e-12))
    )
    return bool(by_std or by_mean), ratio, shift


def _normalised_apart(train: Scan, val: Scan) -> str:
    """How the splits' own Normalize differ, where that is all that lies between their channels; else empty."""
    ours, theirs = train.normalisations, val.normalisations
    if (
        ours == theirs
        or len(train.channel_mean) != len(val.channel_mean)
        or not min(*train.channel_std, *val.channel_std)
    ):
        return ""
    given = _between(_moments(train), _moments(val))
    raw = _between(_undone(train), _undone(val))
    if given < UNLIKE or raw > given / 2:
        return ""
    if ours and theirs:
        return "train and val are normalised with different statistics"
    return f"{'train' if ours else 'val'} is normalised, {'val' if ours else 'train'} is not"


def _moments(scan: Scan) -> list[tuple[float, float]]:
    return list(zip(scan.channel_mean, scan.channel_std, strict=True))


def _undone(scan: Scan) -> list[tuple[float, float]]:
    """The (mean, std) of each channel before the split's Normalize."""
    found = _moments(scan)
    for means, stds in reversed(scan.normalisations):
        if {len(means), len(stds)} <= {1, len(found)}:
            every = len(found) // len(means), len(found) // len(stds)
            each = zip([*means] * every[0], [*stds] * every[1], strict=True)
            found = [(m * s + at, d * s) for (m, d), (at, s) in zip(found, each, strict=True)]
    return found


def _between(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> float:
    """How far the channels lie apart: in the smaller deviation, and in the logarithm of their ratio."""
    from math import log

    return max(abs(m - n) / min(s, t) + abs(log(s / t)) for (m, s), (n, t) in zip(a, b, strict=True))


def _turned(ctx: Context) -> Iterator[Finding]:
    """Equal scales, but another order of the pixels or columns."""
    from scipy.stats import binomtest

    try:
        found = ctx.turned_validation()
    except Skip:
        return
    surely = found.gains and binomtest(found.gains, found.gains + found.losses, alternative="greater").pvalue < LEVEL
    if surely and found.best > RESTORED * found.within and found.best > found.as_given + GAIN:
        yield DOC.finding(
            "val samples fit train when they are {how}: the nearest neighbours in train then tell their targets with a "
            "score of {best:.2f}, {as_given:.2f} as they are, and {within:.2f} within train",
            where=ctx.loader_at("val"),
            how=found.how,
            best=found.best,
            as_given=found.as_given,
            within=found.within,
        )


def _is_fixed(ctx: Context) -> bool:
    """Whether train is known to be free of random augmentation."""
    try:
        return ctx.reread("train").changed == 0
    except Skip:
        return False


def _distance(a: Any, b: Any) -> float:
    """Kolmogorov-Smirnov distance of two samples, from 0 (alike) to 1 (no overlap)."""
    import numpy as np

    grid = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(x), grid, side="right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]).max())
