"""Which loader the program is reading: its open iterators, the one that was used last on top."""

from __future__ import annotations

import weakref
from typing import Any

from diagnose.watch.loaders import LoaderWatch, PassWatch
from probes.results import Where

Found = tuple[LoaderWatch, PassWatch]


class PassBook:
    """All loaders, and the passes over them that are not finished."""

    def __init__(self) -> None:
        self.loaders: list[LoaderWatch] = []
        self._by_loader: dict[int, LoaderWatch] = {}
        self._passes: weakref.WeakKeyDictionary[Any, Found] = weakref.WeakKeyDictionary()
        self._open: list[tuple[weakref.ref[Any], Found | None]] = []
        self._ended: Found | None = None
        self._last = 0  # id of the iterator that was read last
        self.left_out = False  # a backward after a pass was on the last of several losses alone

    def distinct(self) -> bool:
        """Whether the samples that were trained on can be told by their values."""
        return all(loader.distinct for loader in self.loaders if loader.steps)

    def loader(self, loader: Any, where: tuple[Where, ...] = (), function: str = "") -> LoaderWatch:
        """``function``: of the program, which returns it at once."""
        watch = self._by_loader.get(id(loader))
        if watch is None or watch.ref() is not loader:
            watch = next((known for known in self.loaders if known.is_made_anew(loader, where)), None)
            if watch is None:
                watch = LoaderWatch(len(self.loaders), loader, where, function)
                self.loaders.append(watch)
            else:
                watch.renew(loader)
            self._by_loader[id(loader)] = watch
        return watch

    def begin(self, iterator: Any, loader: Any, steps: int) -> None:
        """A pass begins (or begins anew, where workers persist), after ``steps`` optimizer steps."""
        watch = self.loader(loader)
        self._leave(iterator)  # where workers persist, it was used for an earlier pass
        self._passes[iterator] = (watch, watch.begin(steps, by_loop=True))

    def of(self, iterator: Any) -> Found | None:
        return self._passes.get(iterator)

    def use(self, iterator: Any) -> bool:
        """A batch came from it. Whether the last one came from another iterator."""
        if not self._open or self._open[-1][0]() is not iterator:
            self._leave(iterator)
            self._open.append((weakref.ref(iterator), self._passes.get(iterator)))
        changed, self._last = self._last != id(iterator), id(iterator)
        return changed

    def end(self, iterator: Any) -> None:
        """It has no more batches."""
        if (found := self._passes.get(iterator)) is not None:
            found[1].ended = True
            self._ended = found
        self._leave(iterator)

    def lost(self) -> None:
        """A loss was computed with gradients on. After a pass: a backward need not be on a loss of its last batch."""
        if self._ended is not None and self.current() is None:
            self._ended = None

    @property
    def over(self) -> bool:
        """A pass has ended, and no loss was computed since."""
        return self._ended is not None and self.current() is None

    def late(self, steps: int) -> None:
        """The loss of the last batch alone is given to backward when the pass is over, after ``steps`` steps in all."""
        if self._ended is None:
            return
        loader, watched = self._ended
        if watched.begun == steps and watched.batches > 1 and not watched.backwards:
            watched.backwards += 1
            loader.late += 1

    def current(self) -> Found | None:
        """The loader whose batch was drawn last, of those that are still being read."""
        while self._open:
            ref, found = self._open[-1]
            if ref() is not None:
                return found
            self._open.pop()
        return None

    def _leave(self, iterator: Any) -> None:
        self._open = [entry for entry in self._open if (other := entry[0]()) is not None and other is not iterator]
