"""The losses that backward is called on. Reading one waits for the device, so it is done for many at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

AT_ONCE = 50
MOST_KEPT = 600
EVERY = 64  # first steps of which every loss is kept, and then one in some


class LossBook:
    """``kept``: (step, its first loss), thinned out. ``told(losses)``: those of each ``AT_ONCE`` steps, in order."""

    def __init__(self, told: Callable[[list[float]], None]) -> None:
        self.kept: list[tuple[int, float]] = []
        self._told = told
        self._pending: list[tuple[int, Tensor]] = []
        self._stride = 8

    def add(self, step: int, loss: Tensor, scaler: Any = None) -> None:
        """``scaler``: a GradScaler that has multiplied it; its factor is not read, which would wait for the device."""
        factor = getattr(scaler, "_scale", None)
        self._pending.append((step, loss.detach() if factor is None else loss.detach() / factor))

    def stepped(self) -> None:
        """A step is over."""
        if len(self._pending) >= AT_ONCE:
            self.settle()

    def settle(self) -> None:
        if not self._pending:
            return
        steps = [step for step, _ in self._pending]
        tensors = [loss for _, loss in self._pending]
        alike = len({(t.device, t.dtype, t.shape) for t in tensors}) == 1
        values = torch.stack(tensors).reshape(-1).tolist() if alike else [float(t) for t in tensors]
        self._pending = []
        by_step: dict[int, float] = {}
        for step, value in zip(steps, values, strict=True):
            by_step[step] = by_step.get(step, 0.0) + value
            known = bool(self.kept) and self.kept[-1][0] == step
            if not known and (step < EVERY or step % self._stride == 0):
                self.kept.append((step, value))
        while len(self.kept) > MOST_KEPT:
            self._stride *= 2
            self.kept = [entry for entry in self.kept if entry[0] % self._stride == 0]
        self._told(list(by_step.values()))

    def record(self) -> tuple[tuple[int, float | None], ...]:
        """A loss that is not finite is None."""
        return tuple((step, value if math.isfinite(value) else None) for step, value in self.kept)
