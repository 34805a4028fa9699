"""The first optimisation steps: gradient presence, update sizes, optimizer coverage, the planned learning rates."""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import understand
from diagnose.measure.step_order import StepOrder
from diagnose.measure.step_watch import StepWatch, norms
from diagnose.training.step import Engine
from probes.records.updates import Coverage, ParameterRecord, Updates

if TYPE_CHECKING:
    from torch import nn

    from diagnose.pipeline import Pipeline

UPDATES = 3  # a zero-initialised last layer passes a gradient on only from its second update
MAX_CALLS = 32  # of a train_step that waits to step, in all
HALF = (torch.float16, torch.bfloat16)
DRY_RUN_STEPS = 100_000  # scheduler steps of a dry run, at most


def can_go_on(engine: Engine) -> bool:
    """Whether gradients that were made by ``engine.loss`` and its backward are those of the pipeline's first step."""
    made = engine.pipeline
    return (
        made.train_step is None
        and made.optimizer is not None
        and made.accumulate <= 1
        and not engine.scaler.is_enabled()
    )


def updates(engine: Engine, raws: list[Any], steps: int = UPDATES, begun: float | None = None) -> Updates:
    """``steps`` steps in train mode over ``raws``; the gradient is read when ``optimizer.step`` is called. ``begun``:
    the loss of the first batch, whose gradients are there already."""
    model, optimizer = engine.model, engine.pipeline.optimizer
    model.train()
    named = dict(model.named_parameters())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]} if optimizer else set()
    gradients: dict[str, list[float | None]] = {name: [] for name in named}
    moved: dict[str, list[float]] = {name: [] for name in named}
    lost: dict[str, float] = {}
    seconds: list[float] = []
    losses: list[float] = []
    lrs: list[float] = []
    watch = StepWatch(model, optimizer)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    alike = {name: _identical_units(p, tables) for name, p in named.items()}
    own_step = engine.pipeline.train_step is not None
    micro = 1 if own_step else max(1, engine.pipeline.accumulate)
    order = StepOrder()
    taken = 0

    def update() -> float:
        """One update; its last loss."""
        nonlocal taken
        if begun is not None and not taken:
            engine.update()
            taken = 1
            return begun
        stepped = watch.any_stepped
        with order.watching() if own_step else nullcontext():
            while True:
                raw = raws[taken % len(raws)]
                if own_step:
                    order.begin(understand(raw).size)
                started = time.perf_counter()
                done = engine.step(raw)
                seconds.append(time.perf_counter() - started)
                taken += 1
                # A user's step may accumulate: an update is over when its optimizer has stepped.
                waiting = own_step and watch.any_stepped == stepped and taken < MAX_CALLS
                if not waiting and taken % micro == 0:
                    break
        return float(done.loss.detach()) if isinstance(done.loss, torch.Tensor) else float(done.loss or "nan")

    try:
        for _ in range(steps):
            old = {name: p.detach().clone() for name, p in named.items()}
            lrs.append(largest_lr(optimizer))
            losses.append(update())
            found = watch.taken()
            for (name, p), change in zip(named.items(), _relative_changes(old, named), strict=True):
                gradients[name].append(found.get(name))
                moved[name].append(change)
                if p.dtype in HALF:
                    lost[name] = _lost_share(old[name], p)
            step_scheduler(engine.pipeline)
    finally:
        watch.close()
    return Updates(
        steps=steps,
        losses=tuple(losses),
        lrs=tuple(lrs),
        stepped=watch.stepped,
        parameters=tuple(
            ParameterRecord(
                name,
                tuple(p.shape),
                p.requires_grad,
                id(p) in held,
                tuple(gradients[name]),
                tuple(moved[name]),
                (alike[name], alike[name] and _identical_units(p, tables)),
                str(p.dtype).removeprefix("torch."),
                lost.get(name, 0.0),
                (gradients[name][-1] or 0.0) / max(1, p.numel()) ** 0.5,
            )
            for name, p in named.items()
        ),
        uncleared=watch.uncleared,
        cleared=watch.cleared,
        events=tuple(order.events),
        seconds_per_batch=median(seconds),
    )


def _relative_changes(old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor]) -> list[float]:
    sizes = norms(list(old.values()))
    changes = norms([_difference(old[name], p.detach()) for name, p in new.items()])
    return [change / size if size else change for size, change in zip(sizes, changes, strict=True)]


def _difference(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """In place of ``old`` but for half precision, whose old values are asked for once more."""
    return new.float() - old.float() if old.dtype in HALF else old.sub_(new)


def _lost_share(old: torch.Tensor, p: torch.nn.Parameter) -> float:
    if p.grad is None or p.grad.is_sparse or p.shape != old.shape:
        return 0.0
    asked = p.grad != 0
    return float(((p.detach() == old) & asked).sum()) / max(1, int(asked.sum()))


def _identical_units(p: torch.Tensor, tables: Collection[int]) -> bool:
    """Rows are the units of a layer; the units of an embedding are its columns."""
    return _identical_rows(p) or (id(p) in tables and not p.is_sparse and _identical_rows(p.detach().t()))


def _identical_rows(p: torch.Tensor) -> bool:
    if p.ndim < 2 or len(p) < 2 or p.is_sparse:
        return False
    rows = p.detach()
    return bool((rows == rows[:1]).all())


def largest_lr(optimizer: Any) -> float:
    return (
        max((float(group["lr"]) for group in optimizer.param_groups if group.get("lr") is not None), default=0.0)
        if optimizer
        else 0.0
    )


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


def coverage(model: nn.Module, optimizer: Any, *functions: Any) -> Coverage:
    """Compared by identity, both ways. Tied parameters count once. The parameters of modules that ``functions`` (the
    loss, a step of the user's own) hold are no strays: a loss may learn too."""
    named = dict(model.named_parameters())
    held = [p for group in optimizer.param_groups for p in group["params"]] if optimizer else []
    ids = {id(p) for p in held}
    own = {id(p) for module in (model, *_modules_of(functions)) for p in module.parameters()}
    trainable = {name: p for name, p in named.items() if p.requires_grad}
    return Coverage(
        missing=tuple(name for name, p in trainable.items() if id(p) not in ids),
        stray=tuple(tuple(p.shape) for p in held if id(p) not in own),
        frozen=tuple(name for name, p in named.items() if not p.requires_grad),
        trainable=len(trainable),
        total=len(named),
        optimized=len(held),
    )


def _modules_of(functions: Sequence[Any]) -> list[nn.Module]:
    """The modules that are functions, or that they hold: in a closure, by functools.partial, as their ``self``."""
    found: list[nn.Module] = []
    for function in functions:
        cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _filled(cell)]
        partial = (*getattr(function, "args", ()), *(getattr(function, "keywords", None) or {}).values())
        held = (function, *cells, *partial, getattr(function, "__self__", None))
        found += [item for item in held if isinstance(item, torch.nn.Module)]
    return found


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable of the enclosing function that was never set
        return False


def dry_run(pipeline: Pipeline, steps_per_epoch: int) -> list[float]:
    """The largest lr at each step of the planned run, DRY_RUN_STEPS at most. Uses up the scheduler."""
    scheduler, optimizer = pipeline.scheduler, pipeline.optimizer
    total = max(1, pipeline.epochs * max(1, steps_per_epoch))
    if scheduler is None or optimizer is None:
        return [largest_lr(optimizer)] * min(total, DRY_RUN_STEPS)
    lrs: list[float] = []
    if pipeline.scheduler_interval == "step":
        for _ in range(min(total, DRY_RUN_STEPS)):
            lrs.append(largest_lr(optimizer))
            try:
                _quiet_step(scheduler)
            except ValueError:  # OneCycleLR: asked for more steps than it was built for; the trainer would meet it too
                break
        return lrs
    for _ in range(min(pipeline.epochs, DRY_RUN_STEPS)):
        lrs += [largest_lr(optimizer)] * max(1, min(steps_per_epoch, DRY_RUN_STEPS // max(1, pipeline.epochs)))
        _quiet_step(scheduler)
    return lrs


def _rate(group: Mapping[str, Any], key: str = "lr") -> float:
    """0 for a group that sets its own steps, as some optimizers do."""
    found = group.get(key)
    found = group.get("lr") if found is None else found
    return 0.0 if found is None else float(found)


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
            float(_rate(group, "initial_lr") if scale is None else _rate(group) * scale)
            for group in (optimizer.param_groups if optimizer else ())
        ]

    def set(self, step: int) -> None:
        """Before step ``step`` (from 0). A constant schedule is left alone."""
        if self._constant:
            return
        share = self._shape[min(len(self._shape) - 1, step * len(self._shape) // self._steps)]
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
