"""Units that stay silent or flat, looked at in a few steps of an epoch; the steps themselves are the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diagnose.measure.attempt import ModuleWatch
from diagnose.measure.inspection import ActivationWatch
from probes.records.inspection import ActivationRecord

if TYPE_CHECKING:
    from torch import nn


class ActivationLooks:
    """Collects over the steps that run within ``look()``. ``samples``: how many were seen."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.reset()

    def reset(self) -> None:
        self.samples = self.looks = 0
        self._seen: ActivationWatch | None = None

    @contextmanager
    def look(self) -> Iterator[None]:
        watch = ModuleWatch(self._model)
        if self._seen is None:
            self._seen = ActivationWatch(watch, draws=False)
        self._seen.of(watch)
        self._seen.begin()
        handle = self._model.register_forward_hook(self._ended)
        try:
            with self._seen:
                yield
        finally:
            handle.remove()
            watch.close()
        self.looks += 1

    def _ended(self, module: Any, args: Any, output: Any) -> None:
        from diagnose.training.metrics import main_output

        main = main_output(output)
        if self._seen is not None:
            self._seen.ended(main)
        self.samples += len(main) if main is not None and main.ndim else 0

    def records(self) -> list[ActivationRecord]:
        return [] if self._seen is None else [site.record() for site in self._seen.sites.values()]
