"""The record of a program's training loop while it runs, filled by the hooks of ``diagnose.watch.hooks``.

Each kind of fact has a book of its own, which says what it keeps: ``passes`` (loaders), ``optimizers``, ``schedules``,
``weights``, ``outputs``, ``losses``, ``graphs``, ``roots`` (models), ``progress``. ``stepping`` and ``reading`` fill
them as optimizers step and loaders are read; ``window`` says when a step is looked at closely.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.creation import CreationLog
from diagnose.watch.capture import StepCapture
from diagnose.watch.entered import EnteredWatch
from diagnose.watch.graphs import GraphWatch
from diagnose.watch.losses import LossBook
from diagnose.watch.material import Material
from diagnose.watch.optimizers import MOST_WAIT, OptimizerWatch
from diagnose.watch.outputs import OutputWatch
from diagnose.watch.passes import PassBook
from diagnose.watch.progress import Progress
from diagnose.watch.reading import Reading
from diagnose.watch.roots import RootBook
from diagnose.watch.samples import Key
from diagnose.watch.schedules import ScheduleWatch
from diagnose.watch.sites import assigned, compared, here
from diagnose.watch.stepping import Stepping
from diagnose.watch.validation import Validation
from diagnose.watch.weights import WeightsWatch
from diagnose.watch.window import OFTEN, Window, is_due
from probes.records.loop import Loop, LoopEvent
from probes.results import Where


class Recorder:
    """``on_step`` is told of every optimizer step after it was recorded."""

    def __init__(self, on_step: Callable[[Recorder], None] = lambda recorder: None, folder: Path | None = None) -> None:
        """``folder``: for the files of a captured step."""
        self.on_step = on_step
        self.log = CreationLog()
        self.capture = StepCapture(self.log, folder)
        self.validation = Validation()
        self.progress = Progress(self.validation)
        self.started = time.monotonic()
        self.total = self.backwards = 0
        self.optimizers: list[OptimizerWatch] = []
        self.passes = PassBook()
        self.weights = WeightsWatch()
        self.graphs = GraphWatch()
        self.outputs = OutputWatch()
        self.entered = EnteredWatch()
        self.material = Material()
        self.schedules = ScheduleWatch()
        self.roots = RootBook(self.weights.model)
        self.losses = LossBook(self.progress.losses)
        self.seeded = self.gpu_idle = False
        self.slept_at: tuple[Where, ...] = ()
        self.cells_back: tuple[tuple[int, int], ...] = ()
        self.notebook = False
        self.whole = True
        self.failure = ""  # of ours, which ended the recording
        self.window = Window(self)
        self.stepping = Stepping(self)
        self.reading = Reading(self)
        self._mode_calls = 0

    def living(self) -> list[OptimizerWatch]:
        return [watch for watch in self.optimizers if watch.ref() is not None]

    def event(self, event: LoopEvent) -> None:
        """Something that concerns every optimizer."""
        for watch in self.optimizers:
            if len(watch.events) < 4 * MOST_WAIT:
                watch.events.append(event)

    # -- models and what they return ----------------------------------------------------------------------------

    def mode_call(self, training: bool) -> None:
        """``train()`` or ``eval()`` was called on a model."""
        if not training:
            self.slept_at = here()
        self._mode_calls += 1
        if is_due(self._mode_calls, OFTEN):
            self.window.attend()

    def loss(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """A loss function of torch was called with gradients on."""
        given = args[0] if args else kwargs.get("input")
        target = args[1] if len(args) > 1 else kwargs.get("target")
        if isinstance(result, Tensor) and result.requires_grad:
            self.progress.lost(name, given, target, result, kwargs.get("reduction", "mean"))
            self.passes.lost()
        if self.window.is_open:
            self.material.target(target)
            self.entered.loss(name, given, target, kwargs.get("reduction"))
            self.outputs.loss(name, given, target, str(kwargs.get("reduction", "mean")), result)
            self.capture.lost(name, args, kwargs, result, here())

    def argmax(self, given: Any, dim: Any) -> None:
        found = self.passes.current()
        self.outputs.argmax(given, dim, None if found is None else found[0].batch_size)

    def evaluated(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """A loss of torch's was computed without gradients."""
        if not self.total:
            return
        self.outputs.sized(args[0] if args else kwargs.get("input"))
        found = self.passes.current()
        if found is None:
            self.outputs.evaluated(self.trained_roots)
        self.validation.lost(self.total, -1 if found is None else found[0].index, name, args, kwargs, result)

    # -- weights and schedules ----------------------------------------------------------------------------------

    def took(self, module: nn.Module, state: Any) -> None:
        """``state_dict()`` of a whole model returned ``state``."""
        self.weights.kept.take(module, state, self.total, here(), assigned(), chosen=compared())

    def loading(self, module: nn.Module, state: Any) -> None:
        self.weights.load(module, state, self.total, here())

    def saving(self, saved: Any) -> None:
        self.weights.save(saved, self.total, here())

    def read(self, loaded: Any) -> None:
        self.weights.read(loaded)

    def rescheduled(self, scheduler: Any) -> None:
        self.weights.rescheduled(scheduler, here())

    def scheduled(self, scheduler: Any) -> None:
        """A scheduler is about to be stepped by the user."""
        index = self.stepping.number(getattr(scheduler, "optimizer", None))
        if index is not None:
            self.schedules.step(scheduler, self.optimizers[index].steps, index, here)

    # -- the end ------------------------------------------------------------------------------------------------

    def record(self, ended: str) -> Loop:
        self.losses.settle()
        self.weights.kept.steps = self.total
        learned: set[Key] = set().union(*(watch.trained for watch in self.optimizers))
        distinct = self.passes.distinct()
        return Loop(
            steps=self.total, backwards=self.backwards, ended=ended,
            optimizers=tuple(watch.seen() for watch in self.optimizers),
            loaders=tuple(x.record(self._trained_on, learned, distinct=distinct) for x in self.passes.loaders),
            schedulers=self.schedules.records(), weights=self.weights.records(),
            metrics=self.outputs.metrics(), given=self.entered.records(), losses=self.losses.record(),
            marked=self.graphs.marked, retained=self.graphs.most, retained_at=self.graphs.where,
            retained_by=self.graphs.kept_by.name, kept_at=self.graphs.kept_by.where, grown=max(0, self.graphs.grown),
            bare_evaluations=self.outputs.evaluations, bare_awake=self.outputs.awake, bare_at=self.outputs.awake_at,
            seeded=self.seeded, gpu_idle=self.gpu_idle, gpu_present=torch.cuda.is_available(),
            notebook=self.notebook, cells_back=self.cells_back, whole=self.whole, failure=self.failure,
        )  # fmt: skip

    def begins(self, optimizer: Any) -> None:
        """An optimizer was made. Where the weights that it is to train were written anew since an earlier one's last
        step, they know nothing of that one's samples: evaluations up to now are of what was trained until then."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for watch in self.optimizers:
            if watch.steps and not held.isdisjoint(watch.ids):
                learned: set[Key] = set().union(*(other.trained for other in self.optimizers))
                for loader in self.passes.loaders:
                    loader.settle(self._trained_on, learned, distinct=self.passes.distinct())
                if watch.rewritten(held):
                    watch.trained = set()

    def _trained_on(self, roots: set[int]) -> set[Key]:
        tensors = self.roots.parameters_of(roots)
        return set().union(*(w.trained for w in self.optimizers if not tensors.isdisjoint(w.ids)))

    def trained_roots(self) -> list[nn.Module]:
        """Models that some optimizer holds, as far as they are still there; none where one of them was not seen yet."""
        held = {i for watch in self.optimizers for i in watch.ids}
        models = self.roots.holding(held)
        known = self.roots.parameters_of({id(model) for model in models})
        waiting = [watch for watch in self.living() if not watch.steps]
        return models if all(any(id(p) in known for p in watch.tensors()) for watch in waiting) else []
