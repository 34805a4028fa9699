"""Where a NaN or an infinity came from: the bad batch is replayed once, under observation."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from diagnose.batches import map_tensors
from diagnose.rng import preserved
from diagnose.user_code import innermost_user_frame
from probes.results import Where

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.autograd.graph import Node

_SUFFIX = re.compile(r"Backward\d*$")
# Masks are made of infinities on purpose.
_MAKES_INFINITY = frozenset({"masked_fill", "masked_fill_", "where", "full", "full_like", "triu", "tril", "fill_"})
_SHOWN_PARAMETERS = 3


@dataclass(frozen=True)
class Origin:
    """``phase``: inputs, parameters, forward, loss, backward, or unknown. ``operation``: of torch, as it is called."""

    phase: str
    module: str = ""
    operation: str = ""
    where: tuple[Where, ...] = ()

    def told(self) -> str:
        """A sentence, or an empty text where nothing is known."""
        inside = f" of {self.module}" if self.module else ""
        return {
            "inputs": f"The batch itself holds it{' in ' + self.module if self.module else ''}.",
            "parameters": f"The parameters {self.module} were not finite already.",
            "forward": f"{self.operation}{inside} was the first to return it.",
            "loss": f"{self.operation} in the loss was the first to return it.",
            "backward": f"The backward of {self.operation}{inside} was the first to return it; the loss is finite.",
        }.get(self.phase, "Replaying the batch did not show it again.")


def find_origin(model: nn.Module, replay: Callable[[], Tensor], inputs: Any) -> Origin:
    """``replay`` computes the loss of the bad batch anew; ``inputs``: the batch, nested in any way.

    Gradients, buffers and random generators are as before afterwards.
    """
    if not _all_finite(inputs):
        return Origin("inputs")
    bad = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        more = f" and {len(bad) - _SHOWN_PARAMETERS} more" if len(bad) > _SHOWN_PARAMETERS else ""
        return Origin("parameters", ", ".join(bad[:_SHOWN_PARAMETERS]) + more)
    with preserved(), _untouched(model), _Running(model) as running:
        watch = _FirstNonfinite(running)
        with watch:
            loss = replay()
        value = float(loss.detach())
        if math.isfinite(value):
            return _backward(loss, watch.made)
        return (watch.nan if math.isnan(value) else watch.infinite) or Origin("unknown")


def _backward(loss: Tensor, made: Mapping[Node, Origin]) -> Origin:
    """The first node of the graph that turned a finite gradient into one that is not."""
    found: list[Origin] = []

    def hook(node: Node) -> Callable[..., None]:
        def look(inward: Any, outward: Any) -> None:
            if not found and _all_finite(outward) and not _all_finite(inward):
                operation = _SUFFIX.sub("", node.name()).lower()
                origin = made.get(node, Origin("backward"))
                found.append(replace(origin, phase="backward", operation=operation))

        return look

    handles = [node.register_hook(hook(node)) for node in _nodes(loss)]
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else Origin("unknown")


def _nodes(loss: Tensor) -> list[Node]:
    seen: dict[Node, None] = {}
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or not hasattr(node, "register_hook"):
            continue
        seen[node] = None
        waiting += [following for following, _ in node.next_functions]
    return list(seen)


class _Running:
    """The path of the module whose forward is running, innermost; "" outside of the model."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._stack: list[str] = []

    @property
    def path(self) -> str:
        return self._stack[-1] if self._stack else ""

    @property
    def inside(self) -> bool:
        return bool(self._stack)

    def __enter__(self) -> _Running:
        self._handles = []
        for path, module in self._model.named_modules():
            name = path or type(module).__name__
            enter = lambda module, args, name=name: self._stack.append(name)  # noqa: E731
            leave = lambda module, args, output: self._stack.pop() and None  # noqa: E731
            self._handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


class _FirstNonfinite(TorchFunctionMode):
    """The first operation that made a NaN of arguments without one, and the first that made an infinity. ``made``: the
    node of the graph -> the call that made it."""

    def __init__(self, running: _Running) -> None:
        super().__init__()
        self.nan: Origin | None = None
        self.infinite: Origin | None = None
        self.made: dict[Node, Origin] = {}
        self._running, self._inside = running, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if self._inside or self.nan is not None:
            return func(*args, **kwargs)
        self._inside = True
        try:
            clean = not _any((args, kwargs), torch.isnan), not _any((args, kwargs), torch.isinf)
            result = func(*args, **kwargs)
            if isinstance(result, torch.Tensor) and result.grad_fn is not None:
                self.made[result.grad_fn] = self._origin(name)
            if clean[0] and _any(result, torch.isnan):
                self.nan = self._origin(name)
            if self.infinite is None and clean[1] and name not in _MAKES_INFINITY and _any(result, torch.isinf):
                self.infinite = self._origin(name)
        finally:
            self._inside = False
        return result

    def _origin(self, name: str) -> Origin:
        where = innermost_user_frame(sys._getframe(2))
        phase = "forward" if self._running.inside else "loss"
        return Origin(phase, self._running.path, name, () if where is None else (where,))


def _any(value: Any, test: Callable[[Tensor], Tensor]) -> bool:
    found = False

    def look(tensor: Tensor) -> Tensor:
        nonlocal found
        if not found and tensor.is_floating_point():
            found = bool(test(tensor.detach()).any())
        return tensor

    if isinstance(value, (torch.Tensor, list, tuple, dict)):
        map_tensors(value, look)
    return found


def _all_finite(value: Any) -> bool:
    return not _any(value, torch.isnan) and not _any(value, torch.isinf)


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    parameters = [(p, p.grad) for p in model.parameters()]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    for p, _ in parameters:
        p.grad = None
    try:
        yield
    finally:
        for p, gradient in parameters:
            p.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
