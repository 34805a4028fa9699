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
        self._open: list[weakref.ref[Any]] = []

    def loader(self, loader: Any, where: tuple[Where, ...] = ()) -> LoaderWatch:
        watch = self._by_loader.get(id(loader))
        if watch is None or watch.ref() is not loader:
            watch = self._by_loader[id(loader)] = LoaderWatch(len(self.loaders), loader, where)
            self.loaders.append(watch)
        return watch

    def begin(self, iterator: Any, loader: Any, steps: int) -> None:
        """A pass begins (or begins anew, where workers persist), after ``steps`` optimizer steps."""
        watch = self.loader(loader)
        self._passes[iterator] = (watch, watch.begin(steps, by_loop=True))

    def of(self, iterator: Any) -> Found | None:
        return self._passes.get(iterator)

    def use(self, iterator: Any) -> None:
        """A batch came from it."""
        if not self._open or self._open[-1]() is not iterator:
            self._leave(iterator)
            self._open.append(weakref.ref(iterator))

    def end(self, iterator: Any) -> None:
        """It has no more batches."""
        if (found := self._passes.get(iterator)) is not None:
            found[1].ended = True
        self._leave(iterator)

    def current(self) -> Found | None:
        """The loader whose batch was drawn last, of those that are still being read."""
        while self._open:
            iterator = self._open[-1]()
            if iterator is not None:
                return self._passes.get(iterator)
            self._open.pop()
        return None

    def _leave(self, iterator: Any) -> None:
        self._open = [ref for ref in self._open if (other := ref()) is not None and other is not iterator]
