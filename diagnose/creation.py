"""Where in the user's code each module and optimizer was created."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from diagnose.user_code import innermost_user_frame
from probes.results import Where


class CreationLog:
    """Object -> the innermost line of the user's code while it was created.

    Keyed by identity, with weak references: a module may define ``__eq__``, and a log must not keep models alive.
    """

    def __init__(self) -> None:
        self._places: dict[int, tuple[weakref.ref[Any], Where]] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record every module and optimizer that is created in the block; recordings do not nest."""
        originals = [(owner, owner.__init__) for owner in (nn.Module, Optimizer)]
        for owner, original in originals:
            owner.__init__ = self._recorder(original)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for owner, original in originals:
                owner.__init__ = original  # type: ignore[method-assign]

    def created_at(self, created: object) -> Where | None:
        entry = self._places.get(id(created))
        return entry[1] if entry is not None and entry[0]() is created else None

    def copied(self, original: nn.Module, copy: nn.Module) -> None:
        """Give the modules of a deep copy the places of their originals."""
        for source, target in zip(original.modules(), copy.modules(), strict=False):
            if (where := self.created_at(source)) is not None:
                self._store(target, where)

    def _recorder(self, original: Any) -> Any:
        def __init__(created: Any, *args: Any, **kwargs: Any) -> None:
            where = innermost_user_frame(sys._getframe(1))
            if where is not None:
                self._store(created, where)
            original(created, *args, **kwargs)

        return __init__

    def _store(self, created: object, where: Where) -> None:
        key = id(created)
        places = self._places
        places[key] = (weakref.ref(created, lambda _: places.pop(key, None)), where)
