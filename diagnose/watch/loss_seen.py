"""How the loss of a step comes from what the model returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diagnose.training.metrics import main_output
from diagnose.watch.between import Link, applied, operations
from probes.results import Where

SAME = 1e-5  # relative: a loss that enters backward alone, up to a factor

LossCall = tuple[str, dict[str, Any], Tensor, tuple[Where, ...]]  # function, its arguments, its result, the line


@dataclass(frozen=True)
class LossSeen:
    """How a step's loss comes from the model's output.

    ``function`` of torch.nn.functional with ``settings``, on the output after ``links``; ``flat``: the target was given
    with its leading axes flattened. Or ``path``: the place in what the model returned. ``sign``: what it is multiplied
    by for backward, without the size. Neither: ``unknown`` says why. ``alone``: nothing of the program's own is part of
    it.
    """

    value: float
    sign: int = 1
    function: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    links: Sequence[Link] = ()
    flat: bool = False
    path: tuple[Any, ...] = ()
    unknown: str = ""
    alone: bool = True
    where: tuple[Where, ...] = ()


def loss_of(tensor: Tensor, made: Any, losses: Sequence[LossCall], where: tuple[Where, ...]) -> tuple[LossSeen, Any]:
    """(the loss that backward is called on, the target that it was given). ``made``: what the model returned;
    ``losses``: calls of torch's loss functions since."""
    value = float(tensor.detach())
    if (own := _own_loss(tensor, made)) is not None:
        path, leaf = own
        return LossSeen(float(leaf.detach()), _sign(value, float(leaf.detach())), path=path, where=where), None
    unknown: Callable[[str], tuple[LossSeen, Any]] = lambda why: (LossSeen(value, unknown=why, where=where), None)  # noqa: E731
    if len(losses) != 1:
        why = "the loss is made of several" if losses else "the loss is none of torch's own"
        return LossSeen(value, unknown=why, alone=False, where=where), None
    name, given, result, at = losses[0]
    if result.numel() != 1 or not _alone(tensor, result):
        return LossSeen(value, unknown="the loss has further terms", alone=False, where=where), None
    entering, target = given.pop("input"), given.pop("target")
    output = main_output(made)
    links = operations(entering, output) if output is not None else None
    if links is None or output is None:
        return unknown("what is done with the model's output before the loss is not known")
    with torch.no_grad():
        again = applied(links, output.detach())
        same = again.shape == entering.shape and torch.allclose(again, entering, 0.0, 0.0, equal_nan=True)
    if not same or not isinstance(target, Tensor) or target.requires_grad:
        return unknown("what is done with the model's output before the loss is not known")
    leading = _leading(links, target)
    seen = LossSeen(
        float(result.detach()), _sign(value, float(result.detach())), name, given, links, leading is not None, where=at
    )
    return seen, target.detach() if leading is None else target.detach().reshape(leading)


def target_again(made: Any, losses: Sequence[LossCall], loss: LossSeen) -> Any:
    """The target of a later batch, where its loss is made as the first one was."""
    if len(losses) != 1 or losses[0][0] != loss.function:
        return None
    target = losses[0][1].get("target")
    if not isinstance(target, Tensor):
        return None
    output = main_output(made)
    if loss.flat and output is not None:
        leading = output.shape[: output.ndim - 1]
        return target.detach().reshape(leading) if target.numel() == leading.numel() else None
    return target.detach()


def _leading(links: Sequence[Link], target: Tensor) -> tuple[int, ...] | None:
    """The leading axes that both output and target were flattened over, for the loss; None where they were not."""
    if not links or links[-1][0] != "reshape" or target.ndim != 1:
        return None
    shape = links[-1][2][:-1]
    flattened = len(links) == 1 and len(shape) > 1
    return shape if flattened and target.numel() == torch.Size(shape).numel() else None


def _alone(tensor: Tensor, result: Tensor) -> bool:
    """Whether ``tensor`` is ``result`` times a constant: by the graph, for a term may be 0 now and grow later."""
    if tensor is result:
        return True
    node, wanted = tensor.grad_fn, result.grad_fn
    while node is not None and node is not wanted:
        inputs = [other for other, _ in node.next_functions if other is not None]
        node = inputs[0] if len(inputs) == 1 else None
    if node is None or wanted is None:
        return False
    (factor,) = torch.autograd.grad(tensor, [result], retain_graph=True, allow_unused=True)
    if factor is None:
        return False
    whole, part = float(tensor.detach()), float(factor) * float(result.detach())
    return abs(whole - part) <= SAME * abs(whole)


def _own_loss(tensor: Tensor, output: Any) -> tuple[tuple[Any, ...], Tensor] | None:
    """A number in what the model returned, which ``tensor`` is, up to a factor."""
    for path, leaf in _leaves(output, ()):
        if leaf.numel() == 1 and leaf.requires_grad and (leaf is tensor or _alone(tensor, leaf)):
            return path, leaf
    return None


def _leaves(output: Any, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(output, Tensor):
        return [(path, output)]
    if len(path) > 2:
        return []
    items: Any = output.items() if isinstance(output, Mapping) else ()
    if isinstance(output, (list, tuple)):
        items = enumerate(output)
    return [leaf for key, item in items for leaf in _leaves(item, (*path, key))]


def _sign(value: float, part: float) -> int:
    return -1 if value * part < 0 else 1
