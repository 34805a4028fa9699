"""Whether a squared error ever comes below what a constant prediction has: the variance of the targets."""

from __future__ import annotations

import math
from statistics import fmean

from torch import Tensor

from probes import catalogue
from probes.data.unscaled_regression_target import FAR, WIDE
from probes.results import Finding

LEAST_LOOKS = 10
LAST = 0.25  # of the looks


class TargetScale:
    """Mean and spread of the targets of mean squared errors, from some of the steps."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = 0.0
        self._losses: list[float] = []
        self._batches: list[tuple[float, float]] = []  # mean, and mean square, of the targets of each

    def look(self, given: Tensor, target: Tensor, loss: Tensor) -> None:
        """``loss``: the mean over all elements of the squared differences."""
        if given.shape != target.shape or not target.is_floating_point() or loss.numel() != 1:
            return
        values = target.detach().double()
        self._losses.append(float(loss.detach()))
        self._batches.append((float(values.mean()), float(values.square().mean())))
        self._count += values.numel()
        self._sum += float(values.sum())
        self._squares += float(values.square().sum())

    def finding(self, steps: int) -> Finding | None:
        """After ``steps`` steps: on an unusual scale, and not learned."""
        if len(self._losses) < LEAST_LOOKS:
            return None
        mean = self._sum / self._count
        variance = max(0.0, self._squares / self._count - mean**2)
        last = self._batches[-max(1, round(LAST * len(self._losses))) :]
        base = fmean(s - 2 * mean * m + mean**2 for m, s in last)
        loss, std = fmean(self._losses[-max(1, round(LAST * len(self._losses))) :]), math.sqrt(variance)
        if (std <= WIDE and abs(mean) <= FAR * std) or not loss > max(variance, base) or not variance > 0:
            return None
        return catalogue.doc("unscaled-regression-target").finding(
            "after {steps} steps the mean squared error is {loss:.4g}, more than that of always naming the mean of the "
            "targets ({variance:.4g}); they have mean {mean:.3g} and standard deviation {std:.3g}",
            steps=steps,
            loss=loss,
            variance=variance,
            mean=mean,
            std=std,
        )
