"""The first optimisation steps: gradient presence, update sizes, optimizer coverage, the planned learning rates."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagnose.training.step import Engine
from probes.measurements import Coverage, ParameterRecord, Updates

if TYPE_CHECKING:
    from torch import nn

    from diagnose.pipeline import Pipeline

UPDATES = 3  # a zero-initialised last layer passes a gradient on only from its second update
DRY_RUN_STEPS = 20_000  # scheduler steps of a dry run, at most


def updates(engine: Engine, raws: list[Any], steps: int = UPDATES) -> Updates:
    """``steps`` steps in train mode over ``raws``; the gradient is read when ``optimizer.step`` is called."""
    model, optimizer = engine.model, engine.pipeline.optimizer
    model.train()
    named = dict(model.named_parameters())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]} if optimizer else set()
    gradients: dict[str, list[float | None]] = {name: [] for name in named}
    moved: dict[str, list[float]] = {name: [] for name in named}
    losses: list[float] = []
    lrs: list[float] = []
    calls = [0]

    def before_step(*_: Any) -> None:
        calls[0] += 1

    handle = optimizer.register_step_pre_hook(before_step) if optimizer else None
    micro = max(1, engine.pipeline.accumulate) if engine.pipeline.train_step is None else 1
    try:
        for step in range(steps):
            old = {name: p.detach().clone() for name, p in named.items()}
            lrs.append(largest_lr(optimizer))
            for part in range(micro):
                done = engine.step(raws[(step * micro + part) % len(raws)])
            losses.append(float(done.loss.detach()) if isinstance(done.loss, torch.Tensor) else float(done.loss or "nan"))
            for name, p in named.items():
                gradients[name].append(None if p.grad is None else float(p.grad.detach().float().norm()))
                moved[name].append(_relative_change(old[name], p.detach()))
            step_scheduler(engine.pipeline)
    finally:
        if handle is not None:
            handle.remove()
    return Updates(
        steps=steps,
        losses=tuple(losses),
        lrs=tuple(lrs),
        stepped=calls[0],
        parameters=tuple(
            ParameterRecord(
                name, tuple(p.shape), p.requires_grad, id(p) in held, tuple(gradients[name]), tuple(moved[name])
            )
            for name, p in named.items()
        ),
    )


def _relative_change(old: torch.Tensor, new: torch.Tensor) -> float:
    size = float(old.float().norm())
    change = float((new.float() - old.float()).norm())
    return change / size if size else change


def largest_lr(optimizer: Any) -> float:
    return max((float(group["lr"]) for group in optimizer.param_groups if "lr" in group), default=0.0) if optimizer else 0.0


def step_scheduler(pipeline: Pipeline) -> None:
    """After an update, where the schedule counts steps (or none is planned: nothing)."""
    if pipeline.scheduler is not None and pipeline.scheduler_interval == "step":
        _quiet_step(pipeline.scheduler)


def _quiet_step(scheduler: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            return  # follows a metric: constant in a dry run
        scheduler.step()


def coverage(model: nn.Module, optimizer: Any) -> Coverage:
    """Compared by identity, both ways. Tied parameters count once."""
    named = dict(model.named_parameters())
    held = [p for group in optimizer.param_groups for p in group["params"]] if optimizer else []
    ids = {id(p) for p in held}
    own = {id(p) for p in model.parameters()}
    trainable = {name: p for name, p in named.items() if p.requires_grad}
    return Coverage(
        missing=tuple(name for name, p in trainable.items() if id(p) not in ids),
        stray=tuple(tuple(p.shape) for p in held if id(p) not in own),
        frozen=tuple(name for name, p in named.items() if not p.requires_grad),
        trainable=len(trainable),
        total=len(named),
        optimized=len(held),
    )


def dry_run(pipeline: Pipeline, steps_per_epoch: int) -> tuple[list[float], bool]:
    """(the largest lr at each step of the planned run, whether the whole plan was covered). Uses up the scheduler."""
    scheduler, optimizer = pipeline.scheduler, pipeline.optimizer
    total = max(1, pipeline.epochs * max(1, steps_per_epoch))
    if scheduler is None or optimizer is None:
        return [largest_lr(optimizer)] * min(total, DRY_RUN_STEPS), total <= DRY_RUN_STEPS
    lrs: list[float] = []
    if pipeline.scheduler_interval == "step":
        for _ in range(min(total, DRY_RUN_STEPS)):
            lrs.append(largest_lr(optimizer))
            try:
                _quiet_step(scheduler)
            except ValueError:  # OneCycleLR: asked for more steps than it was built for; the trainer would meet it too
                break
        return lrs, len(lrs) >= total
    for _ in range(min(pipeline.epochs, DRY_RUN_STEPS)):
        lrs += [largest_lr(optimizer)] * max(1, min(steps_per_epoch, DRY_RUN_STEPS // max(1, pipeline.epochs)))
        _quiet_step(scheduler)
    return lrs, True


class MiniatureSchedule:
    """Plays the shape of the planned schedule (warm-up, peak, decay) over a short training.

    A short trial that took the first steps of a long schedule would see nothing but its warm-up.
    """

    def __init__(self, optimizer: Any, lrs: Sequence[float], steps: int) -> None:
        self._optimizer = optimizer
        self._steps = max(1, steps)
        peak = max(lrs, default=0.0)
        now = largest_lr(optimizer)
        self._constant = not lrs or max(lrs) == min(lrs)
        self._shape = [lr / peak for lr in lrs] if peak > 0 else [0.0]
        scale = peak / now if now > 0 else None
        self._peaks = [
            float(group.get("initial_lr", group["lr"]) if scale is None else group["lr"] * scale)
            for group in (optimizer.param_groups if optimizer else ())
        ]

    def set(self, step: int) -> None:
        """Before step ``step`` (from 0). A constant schedule is left alone."""
        if self._constant:
            return
        share = self._shape[min(len(self._shape) - 1, step * len(self._shape) // self._steps)]
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
