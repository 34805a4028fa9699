"""Records the steps of the optimizers: backward, clearing, clipping and scaling before each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diagnose.watch.modules import in_mode
from diagnose.watch.optimizers import FIRST_LOOKS, MOST_LOOKS, MOST_WAIT, OptimizerWatch
from diagnose.watch.passes import Found
from diagnose.watch.sites import here
from diagnose.watch.window import is_due
from probes.records.loop import LoopEvent
from probes.results import Where

if TYPE_CHECKING:
    from diagnose.watch.recorder import Recorder


class Stepping:
    def __init__(self, recorder: Recorder) -> None:
        self._run = recorder
        self.by_optimizer: dict[int, OptimizerWatch] = {}
        self._scaler: Any = None  # of half precision, where it has scaled the loss of the coming backward
        self._scale = 1.0  # that the loss of the coming backward was multiplied by for half precision

    def before_backward(self, tensor: Any) -> Any:
        """What ``after_backward`` wants back."""
        self._run.backwards += 1
        found = self._run.passes.current()
        loader = -1 if found is None else found[0].index
        if found is not None:
            found[1].backwards += 1
        loss = tensor if isinstance(tensor, Tensor) and tensor.numel() == 1 else None
        if loss is not None:
            self._run.losses.add(self._run.total, loss, self._scaler)
            self._scaler = None
        if loss is not None and self._run.graphs.wants(self._run.total):
            self._run.graphs.mark(loss, self._run.total, here())
        if not self._run.window.is_open:
            self._late(found)
            for watch in self._run.optimizers:
                watch.backwards += 1
            return None
        where = here()
        self._run.capture.before_backward(tensor, where)
        if self._run.capture.loss is not None and not self._run.capture.loss.alone:
            self._run.progress.give_up()
        share, size = None, 0
        if loss is not None and self._run.total < FIRST_LOOKS:
            self._run.entered.backward(loss)
            share, size = self._run.outputs.share(loss)
            if share is not None:
                share, self._scale = share / self._scale, 1.0
            self._run.passes.left_out |= self._run.passes.over and self._run.outputs.left_out()
        self._late(found)
        marks = [(watch, watch.before_backward()) for watch in self._run.living() if not watch.inside]
        return marks, LoopEvent("backward", loader=loader, share=share, size=size, where=where)

    def _late(self, found: Found | None) -> None:
        if found is None and self._run.passes.left_out:
            self._run.passes.late(self._run.total)

    def after_backward(self, begun: Any) -> None:
        marks, event = begun
        self._run.capture.after_backward()
        for watch, before in marks:
            touched = watch.after_backward(before)
            watch.backwards += 1
            if touched:
                watch.reach(event.where)
                self._feed(watch)
            watch.events.append(LoopEvent(event.kind, event.loader, event.share, event.size, touched, event.where))
            if watch.backwards > MOST_WAIT:
                watch.due = False
        self._run.outputs.spent()

    def _feed(self, watch: OptimizerWatch) -> None:
        """In which mode the models are whose gradients have just reached this optimizer."""
        mine = {id(p) for p in watch.tensors()}
        trained = [m for m in self._run.roots.since(watch.since) if not mine.isdisjoint(self._run.roots.parameters(m))]
        if not trained or any(m.training for m in trained):
            watch.wakes()
            return

        def counts(parent: nn.Module) -> bool:
            return any(id(p) in mine for p in parent.parameters())

        names = [name for model in trained for name in in_mode(model, False, counts)]
        if names:
            watch.sleeps(tuple(names), self._run.slept_at)

    def zeroed(self) -> None:
        """In a look."""
        for watch in self._run.living():
            watch.recheck()
        self._run.event(LoopEvent("zero", where=here()))

    def clipped(self, gradients: Any) -> None:
        if self._run.window.is_open:
            ids, where = {id(g) for g in gradients}, here()
            for watch in self._run.living():
                if any(id(p.grad) in ids for p in watch.tensors()):
                    watch.compare()
                    watch.events.append(LoopEvent("clip", touched=True, where=where))

    def scaled(self, scaler: Any) -> None:
        """A loss is multiplied by the growing factor of half precision."""
        self._run.progress.give_up()
        self._scaler = scaler
        if self._run.window.is_open:
            self._scale = float(scaler.get_scale()) or 1.0

    def unscaled(self, optimizer: Any) -> None:
        watch = self._watch(optimizer)
        watch.scaled = True
        if self._run.window.is_open:
            watch.compare()
            watch.events.append(LoopEvent("unscale", touched=True, where=here()))

    def is_unscaled(self, optimizer: Any) -> None:
        if self._run.window.is_open:
            self._watch(optimizer).remark()

    def optimizer_made(self, optimizer: Any) -> None:
        self._watch(optimizer, here())
        self._run.graphs.begin(self._run.total)
        self._run.begins(optimizer)

    def _watch(self, optimizer: Any, where: tuple[Where, ...] = ()) -> OptimizerWatch:
        watch = self.by_optimizer.get(id(optimizer))
        if watch is None or watch.ref() is not optimizer:
            watch = self.by_optimizer[id(optimizer)] = OptimizerWatch(optimizer, where)
            watch.complete = self._run.window.is_open or self._run.backwards == 0
            self._run.optimizers.append(watch)
            self._run.window.open()
        return watch

    def entered(self, optimizer: Any) -> None:
        """A step was called with a closure that will make its gradients."""
        self._watch(optimizer)

    def before_step(self, optimizer: Any) -> None:
        """The gradients of a step are there. Where it calls its closure again, as a line search does, what happens in
        there is a part of the step."""
        watch = self._watch(optimizer)
        watch.inside = True
        if not watch.steps:
            self._run.weights.before_first_step()
        if self._run.window.is_open:
            watch.step_at = here()
            everywhere = {id(p) for other in self._run.living() for p in other.tensors()}
            ever = everywhere.union(*(other.ids for other in self._run.optimizers))
            ran = self._run.roots.since(watch.since)
            continued = {id(model) for model in ran if self._run.roots.continues(model)}
            watch.cover(ran, everywhere, self._run.weights.loaded, ever, continued)
            watch.before_step()
            watch.recheck()
            watch.had = watch.has_gradients()
            found = self._run.passes.current()
            size = found[0].batch_size if found is not None else None
            self._run.capture.steps(optimizer, self._at_work(), watch.created, self._run.weights.loaded, size)
            if not self._run.capture.wanted:
                self._run.window.captured()

    def after_step(self, optimizer: Any) -> None:
        watch = self._watch(optimizer)
        watch.inside = False
        found = self._run.passes.current()
        if found is not None:
            loader, watched = found
            watched.steps += 1
            loader.steps += 1
            if watched.current:
                watch.trained.update(watched.current)
            if self._run.window.is_open:
                loader.steps_at = watch.step_at
        self._run.progress.stepped(watch.note_lr(), found is not None, id(watch))
        quiet = not self._run.window.is_open and watch.quiet_since == self._run.window.openings
        looked = self._run.window.is_open and len(watch.had) > 0
        if quiet:
            watch.count()
        else:
            material = self._run.material.used() if looked and not watch.inside else (None, 0)
            index = found[0].index if found else -1
            watch.after_step(self._run.total, index, watch.step_at, watch.had, material, looked=looked)
            watch.had = []
        watch.since = self._run.roots.serial
        if watch.steps == 1:
            self._run.weights.stepped(optimizer, self._run.total)
            self._run.gpu_idle = self._run.gpu_idle or _idles(watch)
        self._run.total += 1
        self._run.weights.kept.steps = self._run.total
        self._run.losses.stepped()
        self._next_window(watch, quiet=quiet)
        self._run.on_step(self._run)

    def _at_work(self) -> int:
        """Optimizers that hold something to train."""
        return sum(any(p.requires_grad for p in watch.tensors()) for watch in self._run.living())

    def _next_window(self, watch: OptimizerWatch, *, quiet: bool) -> None:
        watch.due = is_due(watch.steps, FIRST_LOOKS) and len(watch.looks) < MOST_LOOKS
        due = watch.due or (len(self._run.optimizers) > 1 and any(other.due for other in self._run.living()))
        if quiet and not due:
            return
        window = self._run.window
        window.stepped(due=due)
        watch.prepare(looked=window.is_open)
        watch.quiet_since = -1 if window.is_open else window.openings

    def number(self, optimizer: Any) -> int | None:
        """Of an optimizer that is known, or of the one that it wraps."""
        watch = self.by_optimizer.get(id(getattr(optimizer, "optimizer", optimizer)))
        return None if watch is None else self._run.optimizers.index(watch)


def _idles(watch: OptimizerWatch) -> bool:
    """Whether training goes on on the CPU although there is a GPU."""
    return torch.cuda.is_available() and all(p.device.type == "cpu" for p in watch.tensors())
