"""What the program's own evaluations come to: loss and accuracy of each, from the calls of torch's losses without
gradients after training has begun.

Not covered: evaluations that call no loss of torch's, or call it with gradients on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probes.learning.no_generalisation import ENOUGH, LEVEL, PER_CLASS, WELL_LEARNED

MOST_EVALUATIONS = 500
MOST_BATCHES = 200  # of each evaluation
MOST_CLASSES = 4096
LAST = 3  # evaluations that are judged, at most


@dataclass(frozen=True)
class Evaluation:
    """``step``: optimizer steps before it; ``loader``: number of its loader, -1 for none; ``judged``: samples of which
    the class is known; ``guess``: accuracy of always naming the most frequent class."""

    step: int
    loader: int
    samples: int
    loss: float
    judged: int
    accuracy: float | None
    guess: float


class _Sums:
    """Of an evaluation that goes on. Reading a tensor waits for the device, so that is done at its end."""

    def __init__(self, step: int, loader: int) -> None:
        self.step, self.loader = step, loader
        self.batches = self.samples = 0
        self._loss: Any = 0.0
        self._right: Any = 0
        self._labels: Tensor | None = None

    def add(self, loss: Tensor, size: int) -> None:
        self._loss = self._loss + loss.detach() * size
        self.samples += size
        self.batches += 1

    def classes(self, given: Tensor, target: Tensor) -> None:
        known = (target >= 0) & (target < given.shape[1])
        self._right = self._right + ((given.argmax(1) == target) & known).sum()
        counts = torch.bincount(target[known], minlength=given.shape[1])
        self._labels = counts if self._labels is None else self._labels + counts

    def read(self) -> Evaluation:
        judged = 0 if self._labels is None else int(self._labels.sum())
        accuracy = int(self._right) / judged if judged else None
        guess = int(self._labels.max()) / judged if judged and self._labels is not None else 0.0
        return Evaluation(
            self.step, self.loader, self.samples, float(self._loss) / self.samples, judged, accuracy, guess
        )


class Validation:
    def __init__(self) -> None:
        self._all: list[Evaluation] = []
        self._now: _Sums | None = None

    def lost(self, step: int, loader: int, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """A loss was computed without gradients. ``step`` and ``loader``: as in ``Evaluation``."""
        given = args[0] if args else kwargs.get("input")
        target = args[1] if len(args) > 1 else kwargs.get("target")
        if not (isinstance(given, Tensor) and isinstance(target, Tensor) and isinstance(result, Tensor)):
            return
        if self._now is None or (self._now.step, self._now.loader) != (step, loader):
            self.settle()
            self._now = _Sums(step, loader)
        size = len(given) if given.ndim else 0
        if self._now.batches >= MOST_BATCHES or not size:
            return
        self._now.add(result.sum() / size if kwargs.get("reduction") == "sum" else result.mean(), size)
        classes = name in {"cross_entropy", "nll_loss"} and given.ndim == 2 and target.ndim == 1
        if classes and not target.is_floating_point() and given.shape[1] <= MOST_CLASSES:
            self._now.classes(given, target)

    def settle(self) -> None:
        if self._now is not None and self._now.samples and len(self._all) < MOST_EVALUATIONS:
            self._all.append(self._now.read())
        self._now = None

    def of_one_split(self, trained: set[int]) -> list[Evaluation]:
        """Those over the loader that is evaluated most often, of those not trained on; else those without a loader."""
        self.settle()
        by_loader: dict[int, list[Evaluation]] = {}
        for evaluation in self._all:
            if evaluation.loader not in trained:
                by_loader.setdefault(evaluation.loader, []).append(evaluation)
        over = {loader: found for loader, found in by_loader.items() if loader >= 0} or by_loader
        return max(over.values(), key=len, default=[])


def at_chance(found: list[Evaluation], train_accuracy: float | None, per_class: float | None) -> dict[str, Any] | None:
    """The figures of a validation that stays at what guessing gives, while the training samples are learned.

    ``per_class``: training samples of each class, None if unknown. None: it is not so, or too little is known.
    """
    last = [e for e in found if e.accuracy is not None][-LAST:]
    if len(last) < LAST or train_accuracy is None or per_class is None or per_class < PER_CLASS:
        return None
    guess = max(e.guess for e in last)
    if train_accuracy < guess + WELL_LEARNED * (1 - guess) or min(e.judged for e in last) < ENOUGH:
        return None
    from scipy.stats import binomtest

    for evaluation in last:
        right = round((evaluation.accuracy or 0.0) * evaluation.judged)
        if binomtest(right, evaluation.judged, evaluation.guess, alternative="greater").pvalue < LEVEL:
            return None
    return {
        "train_accuracy": train_accuracy, "accuracy": last[-1].accuracy, "chance": guess, "samples": last[-1].judged,
        "steps": last[-1].step,
    }  # fmt: skip
