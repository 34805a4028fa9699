"""The user's own autograd functions: does backward return the derivative of forward?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from diagnose.user_code import is_user_file, place
from probes.records.forward import CustomFunction
from probes.results import Where

if TYPE_CHECKING:
    from torch import Tensor

STEP = 1e-6  # of a finite difference in float64
DIRECTIONS = 4
MAX_NODES = 20_000  # of a graph
MAX_ELEMENTS = 1_000_000  # of the inputs of one function


def own_functions(loss: Tensor) -> list[Any]:
    """The autograd functions of the user's own in the graph of a loss."""
    kinds = {type(node) for node in _nodes(loss)}
    return [kind._forward_cls for kind in kinds if hasattr(kind, "_forward_cls") and _where(kind._forward_cls)]


def custom_functions(loss_of: Callable[[], Any]) -> list[CustomFunction]:
    """``loss_of()`` makes a loss with its graph; it is called twice: to find the functions, and to see their inputs."""
    loss = loss_of()
    own = own_functions(loss) if isinstance(loss, torch.Tensor) else []
    if not own:
        return []
    given: dict[type, tuple[Any, ...]] = {}
    patches = [mock.patch.object(cls, "forward", _recording(cls, given)) for cls in own]
    for patch in patches:
        patch.start()
    try:
        loss_of()
    finally:
        for patch in patches:
            patch.stop()
    found = (_checked(cls, given[cls]) for cls in own if cls in given)
    return [record for record in found if record is not None]


def _nodes(loss: Tensor) -> Iterator[Any]:
    seen: set[Any] = set()
    waiting = [loss.grad_fn]
    while waiting and len(seen) < MAX_NODES:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def _where(cls: Any) -> tuple[Where, ...]:
    code = getattr(getattr(cls, "backward", None), "__code__", None)
    if code is None or not is_user_file(code.co_filename):
        return ()
    return (place(code.co_filename, code.co_firstlineno),)


def _recording(cls: Any, given: dict[type, tuple[Any, ...]]) -> Any:
    original = cls.forward
    with_context = "setup_context" not in vars(cls)

    def forward(*args: Any) -> Any:
        values = args[1:] if with_context else args
        given.setdefault(cls, tuple(v.detach().clone() if isinstance(v, torch.Tensor) else v for v in values))
        return original(*args)

    return staticmethod(forward)


def _checked(cls: Any, args: tuple[Any, ...]) -> CustomFunction | None:
    """None where the function does not take float64, or has no single real output to judge."""
    real = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor) and a.is_floating_point()]
    if not real or sum(args[i].numel() for i in real) > MAX_ELEMENTS:
        return None
    base = [args[i].double() if i in real else args[i] for i in range(len(args))]
    numeric: list[float] = []
    analytic: list[float] = []
    generator = torch.Generator().manual_seed(0)
    try:
        plain = cls.apply(*base)
        if not isinstance(plain, torch.Tensor) or plain.dtype is not torch.float64:
            return None
        weights = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
        for _ in range(DIRECTIONS):
            asked = {i: base[i].clone().requires_grad_(True) for i in real}
            output = cls.apply(*(asked.get(i, base[i]) for i in range(len(base))))
            grads = torch.autograd.grad((output * weights).sum(), list(asked.values()), allow_unused=True)
            moves = {i: torch.randn(base[i].shape, generator=generator, dtype=torch.float64) for i in real}
            analytic.append(
                sum(float((g * moves[i]).sum()) for g, i in zip(grads, asked, strict=True) if g is not None)
            )
            ahead, behind = (
                cls.apply(*(base[i] + step * moves[i] if i in moves else base[i] for i in range(len(base))))
                for step in (STEP, -STEP)
            )
            numeric.append(float(((ahead - behind) * weights).sum()) / (2 * STEP))
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError):
        return None  # made for one dtype, layout or device
    identity = plain.shape == base[real[0]].shape and bool(torch.allclose(plain, base[real[0]]))
    return CustomFunction(cls.__name__, _where(cls), tuple(numeric), tuple(analytic), identity)
