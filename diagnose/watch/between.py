"""What a program does to a model's output before it enters a loss, read from the graph of autograd.

Only operations that are known by name are followed; the caller checks the result against the real tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

MOST_OPERATIONS = 8
_HIGH = 2**63  # the graph keeps negative numbers as unsigned ones

Operation = Callable[[Tensor], Tensor]
Link = tuple[str, Operation, tuple[int, ...]]  # what it is called, the operation, the shape that it is given


def operations(entering: Tensor, output: Tensor) -> list[Link] | None:
    """From ``output`` to ``entering``, in order; None where something unknown lies between."""
    if entering is output:
        return []
    node: Any = entering.grad_fn
    found: list[Link] = []
    while node is not None and node is not output.grad_fn:
        link = _read(node)
        if link is None or len(found) == MOST_OPERATIONS:
            return None
        found.append(link)
        node = node.next_functions[0][0]
    return None if node is None else found[::-1]


def applied(links: Sequence[Link], output: Tensor) -> Tensor:
    for _, operation, _ in links:
        output = operation(output)
    return output


def _read(node: Any) -> Link | None:
    name = node.name().removesuffix("Backward0").removesuffix("Backward1").removesuffix("Backward2").lower()
    if len(node.next_functions) != 1:
        return None
    if name in {"view", "unsafeview", "reshapealias", "squeeze", "unsqueeze"}:
        after = tuple(node._input_metadata[0].shape)
        before = _shape_before(node)
        return None if before is None else ("reshape", _reshape(before, after), before)
    made = _made(name, node)
    return None if made is None else (name, made, ())


def _shape_before(node: Any) -> tuple[int, ...] | None:
    """The shape of what it was given is that of what the node before put out."""
    earlier = node.next_functions[0][0]
    metadata = getattr(earlier, "_input_metadata", None)
    index = node.next_functions[0][1]
    return tuple(metadata[index].shape) if metadata else None


def _reshape(before: tuple[int, ...], after: tuple[int, ...]) -> Operation:
    """Written so that it holds for other batch sizes too, where that can be told."""
    if len(after) == 1:
        return lambda x: x.reshape(-1)
    if before[-1:] == after[-1:] and len(after) == 2 and before[0] != after[0]:
        return lambda x: x.reshape(-1, after[-1])
    if before[0] == after[0]:
        return lambda x: x.reshape(len(x), *after[1:])
    return lambda x: x.reshape(after)


def _made(name: str, node: Any) -> Operation | None:
    if name == "transpose":
        first, second = _signed(node._saved_dim0), _signed(node._saved_dim1)
        return lambda x: x.transpose(first, second)
    if name == "permute":
        dims = tuple(_signed(d) for d in node._saved_dims)
        return lambda x: x.permute(dims)
    if name == "slice":
        along = int(node._saved_dim)
        step, start, end = (int(_signed(value)) for value in (node._saved_step, node._saved_start, node._saved_end))
        return lambda x: x.movedim(along, 0)[start:end:step].movedim(0, along)
    if name == "select":
        dim, index = int(node._saved_dim), int(_signed(node._saved_index))
        return lambda x: x.select(dim, index)
    if name in {"softmax", "logsoftmax"}:
        dim = _signed(node._saved_dim)
        return (lambda x: x.softmax(dim)) if name == "softmax" else (lambda x: x.log_softmax(dim))
    simple: dict[str, Operation] = {
        "t": lambda x: x.t(), "sigmoid": lambda x: x.sigmoid(), "tanh": lambda x: x.tanh(), "relu": lambda x: x.relu(),
        "log": lambda x: x.log(), "exp": lambda x: x.exp(), "tocopy": lambda x: x.float(), "clone": lambda x: x,
        "alias": lambda x: x,
    }  # fmt: skip
    return simple.get(name)


def _signed(number: int) -> int:
    return number - 2 * _HIGH if number >= _HIGH else number
