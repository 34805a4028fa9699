"""The size of gradients and updates, read from hooks of the optimizer, in any loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

ELEMENTS = 1_024  # of each parameter tensor, by which the size of an update is estimated


class GradientWatch:
    """``norm``: of the whole gradient before the last update (after clipping, where the loop clips). ``ratio``: size of
    the update relative to that of the parameters, where ``measures_updates`` was set before the step.

    ``on_nonfinite`` is called before an update with a gradient that is NaN or infinite.
    """

    def __init__(self, optimizer: Optimizer, on_nonfinite: Callable[[], None] = lambda: None) -> None:
        self.norm: float | None = None
        self.ratio: float | None = None
        self.measures_updates = False
        self._optimizer, self._on_nonfinite = optimizer, on_nonfinite
        self._before: list[tuple[Tensor, Tensor]] = []
        hooked = hasattr(optimizer, "register_step_pre_hook")  # an optimizer may be anything with a step
        self._handles = (
            [optimizer.register_step_pre_hook(self._enter), optimizer.register_step_post_hook(self._leave)]
            if hooked
            else []
        )

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _parameters(self) -> Iterator[Tensor]:
        for group in self._optimizer.param_groups:
            yield from (p for p in group["params"] if p.grad is not None)

    def _enter(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        parameters = list(self._parameters())
        gradients = [p.grad for p in parameters if p.grad is not None and not p.grad.is_sparse]
        if not gradients:
            return
        with torch.no_grad():
            self.norm = float(torch.nn.utils.get_total_norm(gradients))
            if self.measures_updates:
                self._before = [(p, _some(p).clone()) for p in parameters]
        if not math.isfinite(self.norm):
            self._on_nonfinite()

    def _leave(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._before:
            return
        with torch.no_grad():
            pairs = [(float((_some(p) - old).norm()), float(old.norm())) for p, old in self._before]
        self._before = []
        moved, size = (math.sqrt(sum(pair[i] ** 2 for pair in pairs)) for i in (0, 1))
        self.ratio = moved / size if size else None


def _some(parameter: Tensor) -> Tensor:
    """A view of elements that are spread evenly over the tensor, as float."""
    flat = parameter.detach().flatten()
    return flat[:: max(1, flat.numel() // ELEMENTS)].float()
