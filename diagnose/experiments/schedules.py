"""Learning-rate schedules by name, each fitted to the length of a trial, to be compared on purpose."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from torch.optim import lr_scheduler

from diagnose.experiments.change import Change

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline

LOWEST = 0.01  # of the starting rate, where an exponential decay ends
PATIENCE = 50  # steps without a lower loss

# name, as --scheduler has it -> the scheduler for so many steps, stepped after every update
SCHEDULES: dict[str, Callable[[Any, int], Any]] = {
    "step": lambda o, n: lr_scheduler.StepLR(o, max(1, n // 3), 0.1),  # a tenth after each third
    "multi-step": lambda o, n: lr_scheduler.MultiStepLR(o, sorted({n // 2, n * 3 // 4}), 0.1),
    "exponential": lambda o, n: lr_scheduler.ExponentialLR(o, LOWEST ** (1 / max(1, n))),
    "cosine": lambda o, n: lr_scheduler.CosineAnnealingLR(o, max(1, n)),
    "plateau": lambda o, n: lr_scheduler.ReduceLROnPlateau(o, factor=0.1, patience=PATIENCE),
    # The user's own rate is the highest, as in the other schedules.
    "one-cycle": lambda o, n: lr_scheduler.OneCycleLR(o, [group["lr"] for group in o.param_groups], max(2, n + 1)),
}
NAMES = ("constant", *SCHEDULES)


def named(name: str) -> Change:
    if name == "constant":
        return CONSTANT
    return Change(f"scheduler {name}", name, 1.0, _at_its_own_rate, scheduler=SCHEDULES[name])


def _at_its_own_rate(pipeline: Pipeline) -> Any:
    """A warm-up has lowered the rate before the first step."""
    for group in pipeline.optimizer.param_groups if pipeline.optimizer is not None else ():
        group["lr"] = max(group["lr"], group.get("initial_lr") or 0.0)
    return nullcontext()


CONSTANT = Change("constant lr", "a constant learning rate", 1.0, _at_its_own_rate, constant_lr=True)
