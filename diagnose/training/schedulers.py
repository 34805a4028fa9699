"""Schedulers by name: ``--scheduler cosine --set scheduler.warmup=500``. Which one suits when: docs/training.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from diagnose.errors import UsageError

Interval = Literal["epoch", "step"]

INTERVALS: Mapping[str, Interval] = {
    "step": "epoch", "multi-step": "epoch", "exponential": "epoch", "cosine": "step", "plateau": "epoch",
    "one-cycle": "step",
}  # fmt: skip
"""How often each is stepped, unless ``scheduler.interval`` says otherwise."""
WARMUP_START = 0.01  # share of the learning rate that a warm-up begins with


def step(
    optimizer: Optimizer, epochs: int, steps_per_epoch: int, step_size: int | None = None, gamma: float = 0.1,
    warmup: int = 0, interval: Interval = "epoch",
) -> LRScheduler:  # fmt: skip
    """Times ``gamma`` every ``step_size`` intervals, a third of the training by default."""
    size = step_size or max(1, _length(epochs, steps_per_epoch, interval) // 3)
    return _warmed(optimizer, StepLR(optimizer, size, gamma), warmup)


def multi_step(
    optimizer: Optimizer, epochs: int, steps_per_epoch: int, gamma: float = 0.1, warmup: int = 0,
    interval: Interval = "epoch",
) -> LRScheduler:  # fmt: skip
    """Times ``gamma`` after half and after three quarters of the training."""
    length = _length(epochs, steps_per_epoch, interval)
    return _warmed(
        optimizer, MultiStepLR(optimizer, sorted({max(1, length // 2), max(1, length * 3 // 4)}), gamma), warmup
    )


def exponential(
    optimizer: Optimizer, epochs: int, steps_per_epoch: int, gamma: float | None = None, warmup: int = 0,
    interval: Interval = "epoch",
) -> LRScheduler:  # fmt: skip
    """Times ``gamma`` each interval; by default down to a hundredth at the end."""
    factor = gamma if gamma is not None else 0.01 ** (1 / _length(epochs, steps_per_epoch, interval))
    return _warmed(optimizer, ExponentialLR(optimizer, factor), warmup)


def cosine(
    optimizer: Optimizer, epochs: int, steps_per_epoch: int, eta_min: float = 0.0, warmup: int = 0,
    interval: Interval = "step",
) -> LRScheduler:  # fmt: skip
    """Half a cosine from the optimizer's learning rate to ``eta_min`` at the end of the training."""
    length = _length(epochs, steps_per_epoch, interval)
    if warmup >= length:
        raise UsageError(f"--set scheduler.warmup={warmup}: the training has {length} {interval}s; expected fewer.")
    return _warmed(optimizer, CosineAnnealingLR(optimizer, length - warmup, eta_min), warmup)


def plateau(
    optimizer: Optimizer, factor: float = 0.1, patience: int = 3, threshold: float = 1e-3, min_lr: float = 0.0,
    interval: Interval = "epoch",
) -> LRScheduler:  # fmt: skip
    """Times ``factor`` after ``patience`` epochs in which the validation loss has not fallen."""
    if interval != "epoch":
        raise UsageError("--set scheduler.interval=step: plateau follows the validation loss, so it goes by epochs.")
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=threshold, min_lr=min_lr)


def one_cycle(
    optimizer: Optimizer, epochs: int, steps_per_epoch: int, max_lr: float | None = None, pct_start: float = 0.3,
    interval: Interval = "step",
) -> LRScheduler:  # fmt: skip
    """Up to ``max_lr`` (ten times the optimizer's by default) and down to nearly nothing; it warms up by itself."""
    highest: Any = max_lr if max_lr is not None else [10 * group["lr"] for group in optimizer.param_groups]
    total = _length(epochs, steps_per_epoch, interval)
    return OneCycleLR(optimizer, highest, total_steps=total, pct_start=pct_start)


BY_NAME: Mapping[str, Callable[..., LRScheduler]] = {
    "step": step, "multi-step": multi_step, "exponential": exponential, "cosine": cosine, "plateau": plateau,
    "one-cycle": one_cycle,
}  # fmt: skip


def _length(epochs: int, steps_per_epoch: int, interval: Interval) -> int:
    return epochs * steps_per_epoch if interval == "step" else epochs


def _warmed(optimizer: Optimizer, scheduler: LRScheduler, warmup: int) -> LRScheduler:
    """``scheduler`` after ``warmup`` intervals in which the learning rate rises in a straight line."""
    if warmup <= 0:
        return scheduler
    for group in optimizer.param_groups:  # what the main one has set at its construction
        group["lr"] = group["initial_lr"]
    rising = LinearLR(optimizer, WARMUP_START, 1.0, warmup)
    return SequentialLR(optimizer, [rising, scheduler], [warmup])
