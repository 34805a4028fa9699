"""In which order the user's own step calls backward, clips, unscales and steps, and how much of each loss it keeps.

Only for a ``train_step``: our own step is in order by construction. Clipping is seen where torch's functions do it;
a clip written by hand is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from diagnose.measure.recorder import LOSSES
from diagnose.user_code import innermost_user_frame
from probes.records.updates import StepEvent

if TYPE_CHECKING:
    from torch import Tensor


SAME = 1e-3  # relative, of a tensor against its share of one loss


class StepOrder:
    """The events of the steps made in ``watching``; ``begin`` tells that another call of ``train_step`` begins."""

    def __init__(self) -> None:
        self.events: list[StepEvent] = []
        self._limit: float | None = None  # of the clip by norm that is under way
        self._losses: list[tuple[Tensor, str, int]] = []  # results of torch's losses since the call began

    def begin(self, size: int) -> None:
        self._losses.clear()
        self._add("call", size=size)

    @contextmanager
    def watching(self) -> Iterator[None]:
        clip: Any = torch.nn.utils.clip_grad
        scaler = torch.amp.GradScaler
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(torch.Tensor, "backward", self._backward(torch.Tensor.backward)))
            # The functions that users call may be bound under other names already; what they call inside is not.
            grouping = clip._group_tensors_by_device_and_dtype
            norm = clip._get_total_norm
            measuring: list[bool] = []
            stack.enter_context(
                mock.patch.object(clip, "_get_total_norm", _flagged(norm, measuring)),
            )
            stack.enter_context(
                mock.patch.object(clip, "_group_tensors_by_device_and_dtype", self._clipping(grouping, measuring))
            )
            limiting = clip._clip_grads_with_norm_
            stack.enter_context(mock.patch.object(clip, "_clip_grads_with_norm_", self._limiting(limiting)))
            stack.enter_context(mock.patch.object(scaler, "unscale_", self._unscaling(scaler.unscale_)))
            handle = register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: self._add("step"))
            stack.callback(handle.remove)
            stack.enter_context(LossResults(self._losses))
            yield

    def _add(self, kind: str, **more: Any) -> None:
        import sys

        where = innermost_user_frame(sys._getframe(1))
        self.events.append(StepEvent(kind, where=() if where is None else (where,), **more))

    def _backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        order = self

        inside: list[bool] = []

        def backward(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if inside:  # under a function mode torch's own backward calls itself by its name
                return original(tensor, *args, **kwargs)
            share, size, whole = order._share(tensor)
            order._add("backward", share=share, size=size, whole=whole, rootless=tensor.grad_fn is None)
            inside.append(True)
            try:
                return original(tensor, *args, **kwargs)
            finally:
                inside.pop()

        return backward

    def _share(self, tensor: Tensor) -> tuple[float | None, int, bool]:
        """(d tensor / d loss summed over torch's losses in it, samples of those losses, whether it is one of them and
        nothing else, but for a factor); None where none is in it."""
        if tensor.grad_fn is None or tensor.numel() != 1:
            return None, 0, False
        results = [(result, size) for result, reduction, size in self._losses if reduction == "mean"]
        if not results or len(results) != len(self._losses):
            return None, 0, False
        try:
            parts = torch.autograd.grad(tensor, [r for r, _ in results], retain_graph=True, allow_unused=True)
        except RuntimeError:  # a graph that is gone already: the user's own backward will say so
            return None, 0, False
        held = [
            (float(p), size, float(r.detach())) for p, (r, size) in zip(parts, results, strict=True) if p is not None
        ]
        if not held:
            return None, 0, False
        whole = len(held) == 1 and math.isclose(held[0][0] * held[0][2], float(tensor.detach()), rel_tol=SAME)
        return sum(share for share, _, _ in held), sum(size for _, size, _ in held), whole

    def _clipping(self, original: Callable[..., Any], measuring: list[bool]) -> Callable[..., Any]:
        def group(*args: Any, **kwargs: Any) -> Any:
            if not measuring:
                self._add("clip", limit=self._limit)
            return original(*args, **kwargs)

        return group

    def _limiting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def limited(parameters: Any, max_norm: Any, *args: Any, **kwargs: Any) -> Any:
            self._limit = float(max_norm)
            try:
                return original(parameters, max_norm, *args, **kwargs)
            finally:
                self._limit = None

        return limited

    def _unscaling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        order = self

        def unscale_(scaler: Any, *args: Any, **kwargs: Any) -> Any:
            if scaler.is_enabled():
                order._add("unscale")
            return original(scaler, *args, **kwargs)

        return unscale_


def _flagged(original: Callable[..., Any], flag: list[bool]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        flag.append(True)
        try:
            return original(*args, **kwargs)
        finally:
            flag.pop()

    return call


class LossResults(TorchFunctionMode):
    """Collects (result, reduction, samples) of every call of a known loss of torch, with its graph, and its name."""

    def __init__(
        self, found: list[tuple[Tensor, str, int]], functions: list[str] | None = None, *, graphless: bool = False
    ) -> None:
        """``graphless``: results without a graph count too."""
        super().__init__()
        self._found = found
        self._graphless = graphless
        self._functions = [] if functions is None else functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        known = getattr(func, "__name__", "") in LOSSES and getattr(func, "__module__", "") == "torch.nn.functional"
        if (
            known
            and isinstance(result, torch.Tensor)
            and result.numel() == 1
            and (result.requires_grad or self._graphless)
        ):
            given = args[0] if args else kwargs.get("input")
            size = len(given) if isinstance(given, torch.Tensor) and given.ndim else 1
            self._found.append((result, str(kwargs.get("reduction", "mean")), size))
            self._functions.append(func.__name__)
        return result
