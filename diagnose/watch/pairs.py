"""A mean of squares that the program writes itself, and that is taken over all pairs of outputs and targets.

Read from the graph of a loss: outputs of shape (N, 1) less targets of shape (N,) are N x N differences. The mean of
their squares only fits the mean of the targets, so nobody means it; distances of all pairs on purpose go on otherwise.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from torch import Tensor

MOST_NODES = 120  # of the graph, from the loss backwards
SCALINGS = ("MulBackward0", "DivBackward0", "NegBackward0")
MOST_SCALINGS = 3
WHOLE = ("MeanBackward0", "SumBackward0")  # over all elements

Shape = tuple[int, ...]


def all_pairs(loss: Tensor) -> tuple[Shape, Shape] | None:
    """The shapes of the outputs and of the targets in the first such term of ``loss``; None where there is none."""
    waiting = deque([loss.grad_fn] if loss.grad_fn is not None else [])
    seen: set[Any] = set()
    while waiting and len(seen) < MOST_NODES:
        node: Any = waiting.popleft()
        if node in seen:
            continue
        seen.add(node)
        if node.name() in WHOLE and (found := _pairs(_squared(_inner(node)))) is not None:
            return found
        waiting += [other for other, _ in node.next_functions if other is not None]
    return None


def _inner(node: Any) -> Any:
    """What is averaged, without what it is multiplied by."""
    inner = node.next_functions[0][0]
    for _ in range(MOST_SCALINGS):
        if inner is None or inner.name() not in SCALINGS or _operand(inner) is None:
            break
        inner = _operand(inner)
    return inner


def _operand(node: Any) -> Any:
    """The only one with a graph, of an operation that leaves its shape; None where there is no such one."""
    inputs = [pair for pair in node.next_functions if pair[0] is not None]
    factors = [getattr(node, name, None) for name in ("_saved_self", "_saved_other")]
    if any(isinstance(factor, Tensor) and factor.numel() != 1 for factor in factors):  # weights of the pairs
        return None
    return inputs[0][0] if len(inputs) == 1 and _shape(*inputs[0]) == _shape(node, 0) else None


def _squared(node: Any) -> Any:
    """What is squared by ``node``; None where it squares nothing."""
    if node is None:
        return None
    inputs = [other for other, _ in node.next_functions]
    if node.name() == "PowBackward0" and node._saved_exponent == 2:
        return inputs[0]
    return inputs[0] if node.name() == "MulBackward0" and len(inputs) == 2 and inputs[0] is inputs[1] else None


def _pairs(node: Any) -> tuple[Shape, Shape] | None:
    """Of the difference ``node`` of outputs and of targets without a graph."""
    if node is None or node.name() not in {"SubBackward0", "RsubBackward0"}:
        return None
    inputs = [pair for pair in node.next_functions if pair[0] is not None]
    if len(inputs) != 1:
        return None
    given, made = _shape(*inputs[0]), _shape(node, 0)
    if len(made) != 2 or made[0] != made[1] or made[0] < 2 or given not in {(made[0], 1), (made[0],)}:
        return None
    return given, (made[0],) if len(given) == 2 else (made[0], 1)


def _shape(node: Any, index: int) -> Shape:
    """Of the output ``index`` of the operation ``node``."""
    metadata = getattr(node, "_input_metadata", ())
    return tuple(metadata[index].shape) if index < len(metadata) else ()
