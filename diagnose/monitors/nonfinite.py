"""Where a NaN or an infinity came from: the bad batch is replayed once, under observation."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from diagnose.batches import map_tensors
from diagnose.rng import preserved
from diagnose.user_code import innermost_user_frame, is_user_file, place
from probes.results import Where

if TYPE_CHECKING:
    from torch import Tensor, nn

RETURNED = re.compile(r"Function '?(\w+?)(?:Backward\d*)?'? returned nan")
_FRAME = re.compile(r'File "(.+?)", line (\d+)')
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
            "backward": f"The backward pass of {self.operation} was the first to return it; the loss is finite.",
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
    with preserved(), _untouched(model), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loss, found = _forward(model, replay)
        return found if not math.isfinite(loss) else _backward(replay, told)


def _forward(model: nn.Module, replay: Callable[[], Tensor]) -> tuple[float, Origin]:
    with _Running(model) as running:
        watch = _FirstNonfinite(running)
        with watch:
            loss = float(replay().detach())
    return loss, (watch.nan if math.isnan(loss) else watch.infinite) or Origin("unknown")


def _backward(replay: Callable[[], Tensor], told: list[warnings.WarningMessage]) -> Origin:
    try:
        with torch.autograd.detect_anomaly(check_nan=True):
            replay().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        match = RETURNED.search(str(error))
        if match is None:
            return Origin("unknown")
        frames = [(name, int(line)) for item in told for name, line in _FRAME.findall(str(item.message))]
        own = [place(name, line) for name, line in frames if Path(name).exists() and is_user_file(name)]
        return Origin("backward", "", match.group(1).lower(), tuple(own[-1:]))
    return Origin("unknown")


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
    """The first operation that made a NaN of arguments without one, and the first that made an infinity."""

    def __init__(self, running: _Running) -> None:
        super().__init__()
        self.nan: Origin | None = None
        self.infinite: Origin | None = None
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
