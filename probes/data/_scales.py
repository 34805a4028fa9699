"""What normalising leaves of the inputs, rightly and wrongly: by known statistics of pictures, and by their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from probes.api import Skip

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Scan

Stats = tuple[Sequence[float], Sequence[float]]
# Published with each data set's usual recipe, for values from 0 to 1.
KNOWN: dict[str, Stats] = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR-10 ": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR-100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "MNIST": ((0.1307,), (0.3081,)),
    "Fashion-MNIST": ((0.2860,), (0.3530,)),
    "0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "0.5 ": ((0.5,), (0.5,)),
}
TOLERANCE = 0.02  # of the range, for both ends of every channel
USUAL = (0.5, 2.0)  # standard deviation; values from 0 to 1 have at most 0.5, so normalised twice at least 2
OWN = 0.01  # of the range, for figures that were taken from the same data
COLUMNS = 3  # with one or two, an equation between mean and spread may hold by chance
SAMPLED = 4.0  # standard errors, where the statistics may be those of more samples than were read
UNLIKE = 1.5  # largest over smallest spread of the columns: in standardised data all are alike
FLAT = 0.05  # standard deviation of the inputs
OFFSET = 20.0  # their mean over it: 0-255 statistics on 0-1 pictures give about 500
Affine = Callable[[float, float, float], float]  # (value, mean, std) -> value


def pictures(ctx: Context) -> Scan:
    """The training scan, where it holds pictures (N, C, H, W) of real numbers; else Skip."""
    scan = ctx.scan("train")
    if len(scan.input_shape) != 4 or "float" not in scan.input_dtype or not scan.channel_min:
        raise Skip("the inputs are not pictures of real numbers")
    if scan.input_std == 0:
        raise Skip("the inputs are constant")
    return scan


def reals(ctx: Context) -> Scan:
    """The training scan, where its first input holds real numbers that are not all the same; else Skip."""
    scan = ctx.scan("train")
    if "float" not in scan.input_dtype or not scan.input_std:
        raise Skip("the inputs are not real numbers, or constant")
    return scan


def moments(scan: Scan) -> tuple[Sequence[float], Sequence[float]]:
    """(mean, standard deviation) of each channel of pictures, each column of a table, each feature of a sequence
    (the shorter of its two axes); empty where the samples do not make a table."""
    shape = scan.input_shape[1:]
    if len(shape) > 2:
        return scan.channel_mean, scan.channel_std
    size = math.prod(shape)
    if not shape or scan.rows is None or scan.rows.bag or scan.rows.features.shape[1] < size:
        return (), ()
    values = scan.rows.features[:, :size].double()
    if len(shape) == 2:
        values = values.reshape(-1, *shape)
        values = (values if shape[1] < shape[0] else values.transpose(1, 2)).reshape(-1, min(shape))
    return values.mean(0).tolist(), values.std(0).tolist()


def is_faint(scan: Scan) -> bool:
    """Whether every channel or column is nearly constant, and they lie far from 0, on the side to which subtracting a
    mean takes them."""
    means, stds = moments(scan)
    if not means or scan.input_min >= 0:
        return False
    offset, within = (math.sqrt(math.fsum(v * v for v in values) / len(values)) for values in (means, stds))
    return 0 < within < FLAT and offset > OFFSET * within


def swapped_own(scan: Scan) -> int:
    """The number of channels or columns if every one is as (x - std) / mean leaves it: |1 - mean| equals std. 0 where
    they are not, or are so few or so much alike that it may be chance."""
    means, stds = moments(scan)
    if len(means) < COLUMNS or not min(stds) > 0 or max(stds) < UNLIKE * min(stds):
        return 0
    judged = scan.seen if len(scan.input_shape) > 3 or scan.rows is None else len(scan.rows.features)
    room = TOLERANCE + (0.0 if scan.complete and judged == scan.seen else SAMPLED / math.sqrt(judged))
    fits = all(abs(abs(1 - mean) - std) <= room * std for mean, std in zip(means, stds, strict=True))
    return len(means) if fits else 0


def again_by_own(scan: Scan) -> bool:
    """Whether every channel is as normalising twice by its own statistics leaves values from 0 up, whatever they were
    divided by before: the lowest is mean (1 + std). With statistics of another scale it is mean / (1 - std).
    Not judged on a usual scale, where the equation may hold by chance."""
    if made_by(scan, once) or any(USUAL[0] < std < USUAL[1] for std in scan.channel_std):
        return False
    ends = zip(scan.channel_min, scan.channel_max, scan.channel_mean, scan.channel_std, strict=True)
    return bool(scan.channel_min) and all(
        mean < 0 < std
        and abs(low - mean * (1 + std)) <= OWN * (high - low)
        and (std >= 1 or abs(low - mean / (1 - std)) > 2 * OWN * (high - low))
        for low, high, mean, std in ends
    )


def made_by(scan: Scan, change: Affine, low: float = 0.0, high: float = 1.0) -> str:
    """The name of the known statistics with which ``change`` takes [low, high] to just the range of every channel."""
    for name, (means, stds) in KNOWN.items():
        if change is swapped and means == stds:
            continue  # swapping them changes nothing
        if len(means) == len(scan.channel_min) and all(
            _same_range(change(low, m, s), change(high, m, s), seen_low, seen_high)
            for m, s, seen_low, seen_high in zip(means, stds, scan.channel_min, scan.channel_max, strict=True)
        ):
            return name.strip()
    return ""


def _same_range(low: float, high: float, seen_low: float, seen_high: float) -> bool:
    room = TOLERANCE * abs(high - low)
    return abs(low - seen_low) <= room and abs(high - seen_high) <= room


def once(value: float, mean: float, std: float) -> float:
    return (value - mean) / std


def twice(value: float, mean: float, std: float) -> float:
    return once(once(value, mean, std), mean, std)


def swapped(value: float, mean: float, std: float) -> float:
    return (value - std) / mean


def of_bytes(value: float, mean: float, std: float) -> float:
    """Statistics of values from 0 to 255."""
    return once(value, 255 * mean, 255 * std)
