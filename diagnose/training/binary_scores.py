"""A yes or no from one score per sample: two classes, judged as such."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagnose.training.meter import same_shape
from diagnose.training.scores import ClassScores

if TYPE_CHECKING:
    from torch import Tensor


class BinaryScores(ClassScores):
    """The second class is the positive one, whose target is 1. ``names``: of both, or of the positive one alone.
    ``are_shares``: the scores are probabilities, not logits."""

    def __init__(self, names: Sequence[str], ignore_index: int, *, are_shares: bool) -> None:
        both = [f"not {names[0]}", names[0]] if len(names) == 1 else names
        super().__init__(2, both, ignore_index)
        self._are_shares = are_shares
        self._positive: list[float] = []

    def add(self, output: Tensor, target: Any, inputs: Sequence[Any]) -> None:
        """``output`` and ``target`` are of shape (N,) or (N, 1)."""
        pair = same_shape(output, target)
        if pair is None:
            return
        scores, true = pair[0].reshape(-1), (pair[1] > 0.5).reshape(-1).long()
        shares = scores if self._are_shares else scores.sigmoid()
        self._positive += shares.tolist()
        super().add(torch.stack([1 - shares, shares], 1), true, inputs)

    def result(self) -> dict[str, Any]:
        from sklearn.metrics import average_precision_score, roc_auc_score

        found = super().result()
        if not found:
            return {}
        told = {"accuracy": found.pop("accuracy")}
        if len(set(self.true)) == 2 and all(map(math.isfinite, self._positive)):
            told["roc_auc"] = float(roc_auc_score(self.true, self._positive))
            told["average_precision"] = float(average_precision_score(self.true, self._positive))
        found.pop("top_k")
        return {**told, "positive_class": self.names()[1], **found}


def is_yes_or_no(output: Tensor | None, target: Any) -> bool:
    """Whether each sample has one score, and a target that is 0 or 1."""
    if output is None or not isinstance(target, torch.Tensor) or not output.ndim or not len(output):
        return False
    one_each = len(output) == output.numel() == target.numel()
    return one_each and bool(((target == 0) | (target == 1)).all())
