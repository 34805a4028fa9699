"""The size of gradients and updates, read from hooks of the optimizer, in any loop."""

from __future__ import annotations

import math
from collections.abc import Callable
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
        self._before: tuple[list[Tensor], list[Tensor]] = [], []
        hooked = hasattr(optimizer, "register_step_pre_hook")  # an optimizer may be anything with a step
        self._handles = (
            [optimizer.register_step_pre_hook(self._enter), optimizer.register_step_post_hook(self._leave)]
            if hooked
            else []
        )

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        gradients = [g for p in parameters if (g := p.grad) is not None and not g.is_sparse]
        if not gradients:
            return
        with torch.no_grad():
            self.norm = _total(gradients)
            if self.measures_updates:
                updated = [p for p in parameters if p.grad is not None]
                self._before = updated, [_some(p).clone() for p in updated]
        # The norm of large finite gradients may overflow, in half precision above all.
        if not math.isfinite(self.norm) and not all(bool(torch.isfinite(g).all()) for g in gradients):
            self._on_nonfinite()

    def _leave(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        parameters, before = self._before
        if not parameters:
            return
        self._before = [], []
        with torch.no_grad():
            size = _total(before)
            moved = _total(torch._foreach_sub([_some(p) for p in parameters], before))
        self.ratio = moved / size if size else None


def _total(tensors: list[Tensor] | tuple[Tensor, ...]) -> float:
    """The norm of all elements together."""
    if len({(tensor.device, tensor.dtype) for tensor in tensors}) > 1:
        return float(torch.nn.utils.get_total_norm(tensors))
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors))))  # the same in half the time


def _some(parameter: Tensor) -> Tensor:
    """A view of elements that are spread evenly over the tensor, as float."""
    flat = parameter.detach().flatten()
    return flat[:: max(1, flat.numel() // ELEMENTS)].float()
