"""Records how the program reads its loaders: passes, batches, and the indices of their samples."""

from __future__ import annotations

from types import FrameType
from typing import TYPE_CHECKING, Any

from diagnose.watch.loaders import drawn_by_loop
from diagnose.watch.sites import here, returning
from diagnose.watch.window import LOOKED, OFTEN, is_due
from probes.records.loop import LoopEvent

if TYPE_CHECKING:
    from diagnose.watch.recorder import Recorder


class Reading:
    def __init__(self, recorder: Recorder) -> None:
        self._run = recorder
        self._returns = 0  # to a pass that another one had interrupted

    def loader_made(self, loader: Any) -> None:
        self._run.passes.loader(loader, here(), returning())

    def iterator(self, iterator: Any, loader: Any) -> None:
        self._run.passes.begin(iterator, loader, self._run.total)

    def drew(self, iterator: Any, indices: Any) -> None:
        """The sampler gave the indices of a batch that will come."""
        if (found := self._run.passes.of(iterator)) is not None:
            found[1].pending.append(indices)

    def batch(self, iterator: Any, data: Any, frame: FrameType | None) -> None:
        """A batch, ``data``, came; ``frame``: of the code that drew it."""
        found = self._run.passes.of(iterator)
        if found is None:
            return
        loader, watched = found
        indices = watched.pending.pop(0) if watched.pending else None
        if not watched.batches:
            watched.by_loop = drawn_by_loop(frame)
            if is_due(loader.passed, OFTEN):
                self._run.window.attend()
        if self._run.passes.use(iterator) and watched.batches:
            self._returns += 1
            if is_due(self._returns, OFTEN):
                self._run.window.attend()
        # Where items have no index, the sampler's are place holders.
        loader.batch(watched, indices if loader.indexed else None, getattr(iterator, "_dataset", None), data)
        if not self._run.window.is_open:
            return
        if watched.batches > LOOKED and not watched.steps and not watched.backwards and self._run.total:
            self._run.window.close()  # a long evaluation
            return
        self._run.event(LoopEvent("batch", loader=loader.index))

    def exhausted(self, iterator: Any) -> None:
        if (found := self._run.passes.of(iterator)) is not None and found[1].steps:
            self._run.progress.epoch(found[0].index)
        self._run.passes.end(iterator)
