"""Known normalisations of pictures, and what is left of the range [0, 1] after using them rightly and wrongly."""

from __future__ import annotations

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
Affine = Callable[[float, float, float], float]  # (value, mean, std) -> value


def pictures(ctx: Context) -> Scan:
    """The training scan, where it holds pictures (N, C, H, W) of real numbers; else Skip."""
    scan = ctx.scan("train")
    if len(scan.input_shape) != 4 or "float" not in scan.input_dtype or not scan.channel_min:
        raise Skip("the inputs are not pictures of real numbers")
    if scan.input_std == 0:
        raise Skip("the inputs are constant")
    return scan


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
