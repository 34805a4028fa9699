"""Learning-rate schedules by name, each fitted to the length of a trial, to be compared on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import lr_scheduler

from diagnose.experiments.change import Change

CONSTANT = Change("constant lr", "a constant learning rate", 1.0, constant_lr=True)
LOWEST = 0.01  # of the starting rate, where an exponential decay ends
PATIENCE = 50  # steps without a lower loss

# name -> (how it is set for so many steps, in words; the scheduler, stepped after every update)
SCHEDULES: dict[str, tuple[str, Callable[[Any, int], Any]]] = {
    "StepLR": ("x 0.1 after each third", lambda o, n: lr_scheduler.StepLR(o, max(1, n // 3), 0.1)),
    "MultiStepLR": (
        "x 0.1 after half and after three quarters",
        lambda o, n: lr_scheduler.MultiStepLR(o, sorted({n // 2, n * 3 // 4}), 0.1),
    ),
    "ExponentialLR": (f"down to x {LOWEST:g}", lambda o, n: lr_scheduler.ExponentialLR(o, LOWEST ** (1 / max(1, n)))),
    "CosineAnnealingLR": ("to zero at the end", lambda o, n: lr_scheduler.CosineAnnealingLR(o, max(1, n))),
    "ReduceLROnPlateau": (
        f"x 0.1 after {PATIENCE} steps without a lower loss",
        lambda o, n: lr_scheduler.ReduceLROnPlateau(o, factor=0.1, patience=PATIENCE),
    ),
}
NAMES = ("constant", *SCHEDULES)


def named(name: str) -> Change:
    if name == "constant":
        return CONSTANT
    words, make = SCHEDULES[name]
    return Change(f"scheduler {name}", f"{name} ({words})", 1.0, scheduler=make)
