"""Where in the user's code each module, optimizer, schedule and loader was created, and what the modules loaded."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from diagnose.user_code import innermost_user_frame
from probes.records.forward import WeightLoad
from probes.results import Where

SAMPLED = 512  # elements of each tensor that are remembered
KEPT = 0.5  # relative distance below which weights are the loaded ones, trained a little perhaps


@dataclass(frozen=True)
class _Load:
    """One call of load_state_dict: the keys that it was given, and samples of the weights before and after."""

    module: weakref.ref[nn.Module]
    type: str
    where: tuple[Where, ...]
    given: tuple[str, ...]
    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]

    def record(self) -> WeightLoad:
        module = self.module()
        now = _sampled(module.state_dict()) if module is not None else {}
        weights = [name for name, value in self.after.items() if value.is_floating_point() and name in now]
        taken = [name for name in weights if name in self.given]
        shapes = {name: value.ndim for name, value in module.state_dict().items()} if module is not None else {}
        matrices = [name for name in taken if shapes.get(name, 0) > 1]
        return WeightLoad(
            type=self.type,
            where=self.where,
            given=len(self.given),
            weights=len(weights),
            taken=len(taken),
            changed=sum(not torch.equal(self.before[name], self.after[name]) for name in taken if name in self.before),
            matrices=len(matrices),
            kept=sum(_alike(self.after[name], now[name]) for name in matrices),
            key=next((name for name in self.given if name not in self.after), ""),
            expected=next(iter(self.after), ""),
        )


def _sampled(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: value.detach().reshape(-1)[:SAMPLED].cpu().clone()
        for name, value in state.items()
        if isinstance(value, Tensor) and not value.is_sparse
    }


def _alike(loaded: Tensor, now: Tensor) -> bool:
    size = float(loaded.float().norm())
    return loaded.shape == now.shape and float((loaded.float() - now.float()).norm()) <= KEPT * max(size, 1e-12)


class CreationLog:
    """Object -> the innermost line of the user's code while it was created.

    Keyed by identity, with weak references: a module may define ``__eq__``, and a log must not keep models alive.
    """

    def __init__(self) -> None:
        self._places: dict[int, tuple[weakref.ref[Any], Where]] = {}
        self._loads: list[_Load] = []

    @contextmanager
    def recording(self, *, loads: bool = True) -> Iterator[None]:
        """Record every module, optimizer, scheduler and DataLoader that is created in the block, and (with ``loads``)
        every load_state_dict of a module; recordings do not nest."""
        owners: tuple[Any, ...] = (nn.Module, Optimizer, LRScheduler, DataLoader)
        originals = [(owner, owner.__init__) for owner in owners]
        load = nn.Module.load_state_dict
        if loads:
            nn.Module.load_state_dict = self._loader(load)  # type: ignore[method-assign]
        for owner, original in originals:
            owner.__init__ = self._recorder(original)
        try:
            yield
        finally:
            for owner, original in originals:
                owner.__init__ = original
            if loads:
                nn.Module.load_state_dict = load  # type: ignore[method-assign]

    def loads_into(self, model: nn.Module) -> list[WeightLoad]:
        """What was loaded into ``model`` or modules of it, and how much of it is still there."""
        mine = {id(module) for module in model.modules()}
        return [load.record() for load in self._loads if id(load.module()) in mine]

    def created_at(self, created: object) -> Where | None:
        entry = self._places.get(id(created))
        return entry[1] if entry is not None and entry[0]() is created else None

    def made(self, created: object, where: Where) -> None:
        """``created`` stands for something that was created there."""
        self._store(created, where)

    def copied(self, original: nn.Module, copy: nn.Module) -> None:
        """Give the modules of a deep copy the places of their originals."""
        for source, target in zip(original.modules(), copy.modules(), strict=False):
            if (where := self.created_at(source)) is not None:
                self._store(target, where)

    def _loader(self, original: Any) -> Any:
        log = self

        def load_state_dict(module: nn.Module, state: Any, *args: Any, **kwargs: Any) -> Any:
            before = _sampled(module.state_dict())
            done = original(module, state, *args, **kwargs)
            where = innermost_user_frame(sys._getframe(1))
            log._loads = [load for load in log._loads if load.module() is not None]
            log._loads.append(
                _Load(
                    weakref.ref(module), type(module).__name__, () if where is None else (where,), tuple(state),
                    before, _sampled(module.state_dict()),
                )
            )  # fmt: skip
            return done

        return load_state_dict

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
