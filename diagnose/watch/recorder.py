"""Records what the user's loop does, called by the hooks of ``diagnose.watch.hooks``.

Nearly all steps are only counted. Now and then a *window* opens: the first steps, steps at powers of two, and the first
two after a loader begins anew or a model changes its mode. Only in a window are modules hooked and gradients followed.
All limits are in steps, batches and calls, so the same script gives the same record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

from diagnose.creation import CreationLog
from diagnose.watch.calls import CallListener
from diagnose.watch.capture import StepCapture
from diagnose.watch.graphs import MARKED_STEPS, GraphWatch
from diagnose.watch.loaders import Key
from diagnose.watch.losses import LossBook
from diagnose.watch.modules import in_mode
from diagnose.watch.optimizers import FIRST_LOOKS, MOST_LOOKS, MOST_WAIT, OptimizerWatch
from diagnose.watch.outputs import OutputWatch
from diagnose.watch.passes import PassBook
from diagnose.watch.progress import Progress
from diagnose.watch.roots import RootBook
from diagnose.watch.schedules import ScheduleWatch
from diagnose.watch.sites import here
from diagnose.watch.weights import WeightsWatch
from probes.records.loop import Loop, LoopEvent
from probes.results import Where

LOOKED = 2  # steps, or batches without a step, that are looked at after something began
OFTEN = 10  # times that something may open a window; then at powers of two


def is_due(count: int, often: int) -> bool:
    return count < often or count & (count - 1) == 0


class Recorder:
    """``on_step`` is told of every optimizer step after it was recorded.

    ``shielded``: given by whoever puts the hooks in; makes a hook that fails end the recording instead of the script.
    """

    def __init__(self, on_step: Callable[[Recorder], None] = lambda recorder: None, folder: Path | None = None) -> None:
        """``folder``: for the files of a captured step."""
        self.on_step = on_step
        self.log = CreationLog()
        self.capture = StepCapture(self.log, folder)
        self.progress = Progress()
        self._calls = CallListener(
            lambda module, args, kwargs: self.capture.begins(module, args, kwargs, here()), self.capture.ends
        )
        self.started = time.monotonic()
        self.total = self.backwards = 0
        self.window = False
        self.optimizers: list[OptimizerWatch] = []
        self.passes = PassBook()
        self.weights = WeightsWatch()
        self.graphs = GraphWatch()
        self.outputs = OutputWatch()
        self.schedules = ScheduleWatch()
        self.roots = RootBook(self.weights.model)
        self.losses = LossBook(self.progress.losses)
        self.seeded = self.gpu_idle = False
        self.slept_at: tuple[Where, ...] = ()
        self.cells_back: tuple[tuple[int, int], ...] = ()
        self.notebook = False
        self.whole = True
        self.shielded: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda method: method
        self.failure = ""  # of ours, which ended the recording
        self._by_optimizer: dict[int, OptimizerWatch] = {}
        self._attention = 0
        self._mode_calls = 0
        self._hooks: list[Any] = []
        self._depth = 0

    # -- windows ------------------------------------------------------------------------------------------------

    def attend(self) -> None:
        self._attention = LOOKED
        self._open_window()

    def _open_window(self) -> None:
        if self.window:
            return
        self.window = True
        self._depth = 0
        if self.capture.wanted:
            self._calls.open()
        self._hooks = [
            module_hooks.register_module_forward_pre_hook(self.shielded(self._before_forward)),
            module_hooks.register_module_forward_hook(self.shielded(self._after_forward), always_call=True),
        ]

    def close_window(self) -> None:
        self.window = False
        self._calls.close()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.roots.forget()
        self._attention = 0
        self.outputs.forget()
        for watch in self.optimizers:
            watch.complete = False

    def _living(self) -> list[OptimizerWatch]:
        return [watch for watch in self.optimizers if watch.ref() is not None]

    # -- modules ------------------------------------------------------------------------------------------------

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            self._root(module)

    def _after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self.outputs.made(output)

    def _root(self, module: nn.Module) -> None:
        has_parameters = self.roots.call(module)
        found = self.passes.current()
        if found is not None and has_parameters:
            watched = found[1]
            watched.forwards += 1
            if id(module) not in watched.roots:
                watched.roots.add(id(module))
                if not watched.awake and (names := in_mode(module, True)):
                    watched.awake, watched.awake_at = tuple(names), here()

    def mode_call(self, training: bool) -> None:
        """``train()`` or ``eval()`` was called on a model."""
        if not training:
            self.slept_at = here()
        self._mode_calls += 1
        if is_due(self._mode_calls, OFTEN):
            self.attend()

    # -- loaders ------------------------------------------------------------------------------------------------

    def loader_made(self, loader: Any) -> None:
        self.passes.loader(loader, here())

    def iterator(self, iterator: Any, loader: Any) -> None:
        self.passes.begin(iterator, loader, self.total)

    def drew(self, iterator: Any, indices: Any) -> None:
        """The sampler gave the indices of a batch that will come."""
        if (found := self.passes.of(iterator)) is not None:
            found[1].pending.append(indices)

    def batch(self, iterator: Any, *, by_loop: Callable[[], bool]) -> None:
        """A batch came."""
        found = self.passes.of(iterator)
        if found is None:
            return
        loader, watched = found
        indices = watched.pending.pop(0) if watched.pending else None
        if not watched.batches:
            watched.by_loop = by_loop()
            if is_due(loader.passed, OFTEN):
                self.attend()
        self.passes.use(iterator)
        # Where items have no index, the sampler's are place holders.
        loader.batch(watched, indices if loader.indexed else None, getattr(iterator, "_dataset", None))
        if not self.window:
            return
        if watched.batches > LOOKED and not watched.steps and not watched.backwards and self.total:
            self.close_window()  # a long evaluation
            return
        self._event(LoopEvent("batch", loader=loader.index))

    def scaled(self) -> None:
        """A loss was multiplied by the growing factor of half precision."""
        self.progress.give_up()

    def exhausted(self, iterator: Any) -> None:
        if (found := self.passes.of(iterator)) is not None and found[1].steps:
            self.progress.epoch(found[0].index)
        self.passes.end(iterator)

    # -- backward -----------------------------------------------------------------------------------------------

    def before_backward(self, tensor: Any) -> Any:
        """What ``after_backward`` wants back."""
        self.backwards += 1
        found = self.passes.current()
        loader = -1 if found is None else found[0].index
        if found is not None:
            found[1].backwards += 1
        loss = tensor if isinstance(tensor, Tensor) and tensor.numel() == 1 else None
        if loss is not None:
            self.losses.add(self.total, loss)
        if loss is not None and self.total <= MARKED_STEPS:
            self.graphs.mark(loss, self.total, here())
        if not self.window:
            for watch in self.optimizers:
                watch.backwards += 1
            return None
        where = here()
        self.capture.before_backward(tensor, where)
        if self.capture.loss is not None and not self.capture.loss.alone:
            self.progress.give_up()
        share, size = self.outputs.share(loss) if loss is not None and self.total < FIRST_LOOKS else (None, 0)
        marks = [(watch, watch.before_backward()) for watch in self._living() if not watch.inside]
        return marks, LoopEvent("backward", loader=loader, share=share, size=size, where=where)

    def after_backward(self, begun: Any) -> None:
        if begun is None:
            return
        marks, event = begun
        self.capture.after_backward()
        for watch, before in marks:
            touched = watch.after_backward(before)
            watch.backwards += 1
            if touched:
                watch.reach(event.where)
                self._feed(watch)
            watch.events.append(LoopEvent(event.kind, event.loader, event.share, event.size, touched, event.where))
            if watch.backwards > MOST_WAIT:
                watch.due = False
        self.outputs.spent()

    def _feed(self, watch: OptimizerWatch) -> None:
        """In which mode the models are whose gradients have just reached this optimizer."""
        mine = {id(p) for p in watch.tensors()}
        trained = [m for m in self.roots.since(watch.since) if not mine.isdisjoint(self.roots.parameters(m))]
        if not trained or any(m.training for m in trained):
            watch.wakes()
            return

        def counts(parent: nn.Module) -> bool:
            return any(id(p) in mine for p in parent.parameters())

        names = [name for model in trained for name in in_mode(model, False, counts)]
        if names:
            watch.sleeps(tuple(names), self.slept_at)

    def _event(self, event: LoopEvent) -> None:
        for watch in self.optimizers:
            if len(watch.events) < 4 * MOST_WAIT:
                watch.events.append(event)

    def zeroed(self) -> None:
        if self.window:
            for watch in self._living():
                watch.recheck()
            self._event(LoopEvent("zero", where=here()))

    def clipped(self, gradients: Any) -> None:
        if self.window:
            ids, where = {id(g) for g in gradients}, here()
            for watch in self._living():
                if any(id(p.grad) in ids for p in watch.tensors()):
                    watch.events.append(LoopEvent("clip", touched=True, where=where))

    def unscaled(self, optimizer: Any) -> None:
        watch = self._watch(optimizer)
        watch.scaled = True
        if self.window:
            watch.events.append(LoopEvent("unscale", touched=True, where=here()))

    # -- optimizers ---------------------------------------------------------------------------------------------

    def optimizer_made(self, optimizer: Any) -> None:
        self._watch(optimizer, here())

    def _watch(self, optimizer: Any, where: tuple[Where, ...] = ()) -> OptimizerWatch:
        watch = self._by_optimizer.get(id(optimizer))
        if watch is None or watch.ref() is not optimizer:
            watch = self._by_optimizer[id(optimizer)] = OptimizerWatch(optimizer, where)
            watch.complete = self.window or self.backwards == 0
            self.optimizers.append(watch)
            self._open_window()
        return watch

    def before_step(self, optimizer: Any) -> None:
        watch = self._watch(optimizer)
        watch.inside = True
        if self.window:
            watch.step_at = here()
            everywhere = {id(p) for other in self._living() for p in other.tensors()}
            watch.cover(self.roots.since(watch.since), everywhere, self.weights.loaded)
            watch.before_step()
            watch.recheck()
            watch.had = watch.has_gradients()
            found = self.passes.current()
            size = getattr(found[0].ref(), "batch_size", None) if found is not None else None
            self.capture.steps(optimizer, self._at_work(), watch.created, self.weights.loaded, size)
            if not self.capture.wanted:
                self._calls.close()

    def after_step(self, optimizer: Any) -> None:
        watch = self._watch(optimizer)
        watch.inside = False
        found = self.passes.current()
        if found is not None:
            loader, watched = found
            watched.steps += 1
            loader.steps += 1
            if watched.current:
                watch.trained.update(watched.current)
            if self.window:
                loader.steps_at = watch.step_at
        watch.note_lr()
        self.progress.stepped(watch.lr(), found is not None)
        looked = self.window and len(watch.had) > 0
        watch.after_step(self.total, found[0].index if found else -1, watch.step_at, watch.had, looked=looked)
        watch.had = []
        watch.since = self.roots.serial
        if watch.steps == 1:
            self.weights.stepped(optimizer)
            self.gpu_idle = self.gpu_idle or _idles(watch)
        self.total += 1
        self.losses.stepped()
        self._next_window(watch)
        self.on_step(self)

    def _at_work(self) -> int:
        """Optimizers that hold something to train."""
        return sum(any(p.requires_grad for p in watch.tensors()) for watch in self._living())

    def _next_window(self, watch: OptimizerWatch) -> None:
        self._attention = max(0, self._attention - 1)
        watch.due = is_due(watch.steps, FIRST_LOOKS) and len(watch.looks) < MOST_LOOKS
        wanted = self._attention > 0 or any(other.due for other in self._living())
        if wanted:
            self._open_window()
        elif self.window:
            self.close_window()
        watch.prepare(looked=self.window)

    def took(self, state: Any) -> None:
        """``state_dict()`` of a whole model returned ``state``."""
        self.weights.taken(state, self.total, here())

    def loading(self, module: nn.Module, state: Any) -> None:
        self.weights.load(module, state, self.total, here())

    def saving(self, saved: Any) -> None:
        self.weights.save(saved, self.total, here())

    def read(self, loaded: Any) -> None:
        self.weights.read(loaded)

    def loss(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """A loss function of torch was called with gradients on."""
        given = args[0] if args else kwargs.get("input")
        target = args[1] if len(args) > 1 else kwargs.get("target")
        if isinstance(result, Tensor) and result.requires_grad:
            self.progress.lost(name, given, target)
        if self.window:
            self.outputs.loss(name, given, target, str(kwargs.get("reduction", "mean")), result)
            self.capture.lost(name, args, kwargs, result, here())

    def argmax(self, given: Any, dim: Any) -> None:
        self.outputs.argmax(given, dim)

    def scheduled(self, scheduler: Any) -> None:
        """A scheduler is about to be stepped by the user."""
        optimizer = getattr(scheduler, "optimizer", None)
        watch = self._by_optimizer.get(id(getattr(optimizer, "optimizer", optimizer)))
        if watch is not None:
            self.schedules.step(scheduler, watch.steps, self.optimizers.index(watch), here)

    def evaluated(self) -> None:
        """A loss of torch's was computed without gradients."""
        if self.total and self.passes.current() is None:
            self.outputs.evaluated(self.trained_roots)

    # -- the end ------------------------------------------------------------------------------------------------

    def record(self, ended: str) -> Loop:
        self.losses.settle()
        learned: set[Key] = set().union(*(watch.trained for watch in self.optimizers))
        return Loop(
            steps=self.total, backwards=self.backwards, ended=ended,
            optimizers=tuple(watch.seen() for watch in self.optimizers),
            loaders=tuple(loader.record(self._trained_on, learned) for loader in self.passes.loaders),
            schedulers=self.schedules.records(), weights=self.weights.records(),
            metrics=self.outputs.metrics(), losses=self.losses.record(),
            marked=self.graphs.marked, retained=self.graphs.most, retained_at=self.graphs.where,
            bare_evaluations=self.outputs.evaluations, bare_awake=self.outputs.awake, bare_at=self.outputs.awake_at,
            seeded=self.seeded, gpu_idle=self.gpu_idle, gpu_present=torch.cuda.is_available(),
            notebook=self.notebook, cells_back=self.cells_back, whole=self.whole, failure=self.failure,
        )  # fmt: skip

    def _trained_on(self, roots: set[int]) -> set[Key]:
        tensors = self.roots.parameters_of(roots)
        return set().union(*(w.trained for w in self.optimizers if not tensors.isdisjoint(w.ids)))

    def trained_roots(self) -> list[nn.Module]:
        """Models that some optimizer holds, as far as they are still there."""
        held = {i for watch in self.optimizers for i in watch.ids}
        return self.roots.holding(held)


def _idles(watch: OptimizerWatch) -> bool:
    """Whether training goes on on the CPU although there is a GPU."""
    return torch.cuda.is_available() and all(p.device.type == "cpu" for p in watch.tensors())
