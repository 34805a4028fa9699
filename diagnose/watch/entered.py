"""What the program gives to torch's losses, seen at the calls themselves.

A captured step is judged only where one loss of one model is all there is. That a softmax is given to a cross-entropy,
or that two shapes are broadcast against each other, is certain at the call, in any program.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diagnose.watch.pairs import all_pairs
from diagnose.watch.sites import here
from probes.records.loop import LossGiven

MOST = 16  # lines
ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div")
RESHAPES = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T", "Clone", "Alias",
            "ToCopy", "Select", "Slice", "Expand")  # fmt: skip
MOST_RESHAPES = 8
ROUNDING = 1e-2  # of a sum of probabilities, in half precision


class EnteredWatch:
    """The lines that give a loss what it does not take, in the steps looked at."""

    def __init__(self) -> None:
        self._seen: dict[Any, LossGiven] = {}

    def loss(self, name: str, given: Any, target: Any, reduction: Any = None) -> None:
        """A loss of torch's was called with gradients on."""
        if len(self._seen) >= MOST or not isinstance(given, Tensor) or not isinstance(target, Tensor):
            return
        found = _wrong(name, given, target)
        pairs = reduction == "none" and given.ndim == target.ndim  # all with all, on purpose
        if found and not (found == "target-broadcast" and pairs):
            where = here()
            times = self._seen[found, where].times + 1 if (found, where) in self._seen else 1
            made = _made_by(given)
            self._seen[found, where] = LossGiven(
                found, name, made, tuple(given.shape), tuple(target.shape), times, where
            )

    def backward(self, loss: Tensor) -> None:
        """Backward is called on ``loss``."""
        if len(self._seen) < MOST and (shapes := all_pairs(loss)) is not None:
            where = here()
            known = self._seen.get(("pairs", where))
            times = known.times + 1 if known is not None else 1
            self._seen["pairs", where] = LossGiven("target-broadcast", "a mean of squares", "", *shapes, times, where)

    def records(self) -> tuple[LossGiven, ...]:
        return tuple(self._seen.values())


def _wrong(name: str, given: Tensor, target: Tensor) -> str:
    """The defect, by its name; "" where there is none."""
    if name in ELEMENTWISE and given.shape != target.shape and given.numel() > 1 and target.numel() > 1:
        together = math.prod(torch.broadcast_shapes(given.shape, target.shape))  # type: ignore[no-untyped-call]
        if together > max(given.numel(), target.numel()):
            return "target-broadcast"
    made = _made_by(given)
    if made == "softmax" and name == "cross_entropy" and _sums_to_one(given):
        return "softmax-before-cross-entropy"
    if made == "softmax" and name == "nll_loss" and _sums_to_one(given):
        return "nll-on-probabilities"
    if made and name == "binary_cross_entropy_with_logits":
        return "bce-on-probabilities"
    if made == "softmax" and name == "kl_div":
        return "target-outside-loss-domain"
    return ""


def _made_by(given: Tensor) -> str:
    """ "softmax" or "sigmoid" where that function made the scores, else ""."""
    node: Any = given.grad_fn
    for _ in range(MOST_RESHAPES):
        if node is None:
            return ""
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        if name in {"Softmax", "Sigmoid"}:
            return str(name.lower())
        if name not in RESHAPES or not node.next_functions:
            return ""
        node = node.next_functions[0][0]
    return ""


def _sums_to_one(given: Tensor) -> bool:
    classes = 1 if given.ndim > 1 else 0
    sums = given.detach().float().sum(classes)
    return bool(((sums - 1).abs() < ROUNDING).all())
