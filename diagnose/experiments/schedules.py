"""Learning-rate schedules by name, each fitted to the length of a trial, to be compared on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import lr_scheduler

from diagnose.experiments.change import Change

CONSTANT = Change("constant lr", "a constant learning rate", 1.0, constant_lr=True)
LOWEST = 0.01  # of the starting rate, where an exponential decay ends
PATIENCE = 50  # steps without a lower loss

# name -> the scheduler for so many steps, stepped after every update
SCHEDULES: dict[str, Callable[[Any, int], Any]] = {
    "StepLR": lambda o, n: lr_scheduler.StepLR(o, max(1, n // 3), 0.1),  # a tenth after each third
    "MultiStepLR": lambda o, n: lr_scheduler.MultiStepLR(o, sorted({n // 2, n * 3 // 4}), 0.1),
    "ExponentialLR": lambda o, n: lr_scheduler.ExponentialLR(o, LOWEST ** (1 / max(1, n))),
    "CosineAnnealingLR": lambda o, n: lr_scheduler.CosineAnnealingLR(o, max(1, n)),
    "ReduceLROnPlateau": lambda o, n: lr_scheduler.ReduceLROnPlateau(o, factor=0.1, patience=PATIENCE),
}
NAMES = ("constant", *SCHEDULES)


def named(name: str) -> Change:
    if name == "constant":
        return CONSTANT
    return Change(f"scheduler {name}", name, 1.0, scheduler=SCHEDULES[name])
