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
# Share of the most frequent class, above which an accuracy tells little: a fair model of rare classes may have less.
TIMES_EVEN = 2.0  # of an even share
OF_TWO = 0.6  # where there are two classes
OF_MANY = 0.2  # where there are so many that a few samples more are twice an even share


@dataclass(frozen=True)
class Evaluation:
    """``step``: optimizer steps before it; ``loader``: number of its loader, -1 for none; ``judged``: samples of which
    the class is known; ``guess``: accuracy of always naming the most frequent class; ``luck``: that of its predictions
    if they had nothing to do with the labels; ``classes``: that the model can name, 0 if unknown."""

    step: int
    loader: int
    samples: int
    loss: float
    judged: int
    accuracy: float | None
    guess: float
    luck: float = 0.0
    classes: int = 0

    @property
    def lopsided(self) -> bool:
        """One class has so many of the samples that the accuracy tells little."""
        return self.guess > (max(TIMES_EVEN / self.classes, OF_MANY) if self.classes > 2 else OF_TWO)


class _Sums:
    """Of an evaluation that goes on. Reading a tensor waits for the device, so that is done at its end."""

    def __init__(self, step: int, loader: int) -> None:
        self.step, self.loader = step, loader
        self.batches = self.samples = 0
        self._loss: Any = 0.0
        self._right: Any = 0
        self._counts: Tensor | None = None  # (2, classes): labels, predictions

    def add(self, loss: Tensor, size: int) -> None:
        self._loss = self._loss + loss.detach() * size
        self.samples += size
        self.batches += 1

    def classes(self, given: Tensor, target: Tensor) -> None:
        if self._counts is not None and self._counts.shape[1] != given.shape[1]:
            return  # another head
        known = (target >= 0) & (target < given.shape[1])
        labels, named = target[known], given.argmax(1)[known]
        self._right = self._right + (named == labels).sum()
        counts = torch.stack([torch.bincount(found, minlength=given.shape[1]) for found in (labels, named)])
        self._counts = counts if self._counts is None else self._counts + counts

    def read(self) -> Evaluation:
        loss = float(self._loss) / self.samples
        labels, named = ([], []) if self._counts is None else self._counts.tolist()
        size = sum(labels)
        if not size:
            return Evaluation(self.step, self.loader, self.samples, loss, 0, None, 0.0)
        return Evaluation(
            self.step, self.loader, self.samples, loss, size, int(self._right) / size, guess=max(labels) / size,
            luck=sum(a * b for a, b in zip(labels, named, strict=True)) / size**2, classes=len(labels),
        )  # fmt: skip


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


def judged(found: list[Evaluation]) -> list[Evaluation]:
    """The last ones of which the classes are known."""
    return [e for e in found if e.accuracy is not None][-LAST:]


def at_chance(found: list[Evaluation], train_accuracy: float | None, per_class: float | None) -> dict[str, Any] | None:
    """The figures of a validation that stays at what guessing gives, while the training samples are learned.

    ``per_class``: training samples of each class, None if unknown. None: it is not so, or too little is known.
    """
    last = judged(found)
    if len(last) < LAST or train_accuracy is None or per_class is None or per_class < PER_CLASS:
        return None
    guess = max(e.guess for e in last)
    if train_accuracy < guess + WELL_LEARNED * (1 - guess) or min(e.judged for e in last) < ENOUGH:
        return None
    if any(e.lopsided for e in last):
        return None
    from scipy.stats import binomtest

    for evaluation in last:
        right = round((evaluation.accuracy or 0.0) * evaluation.judged)
        if binomtest(right, evaluation.judged, evaluation.luck, alternative="greater").pvalue < LEVEL:
            return None
    return {
        "train_accuracy": train_accuracy, "accuracy": last[-1].accuracy, "chance": last[-1].luck,
        "samples": last[-1].judged, "steps": last[-1].step,
    }  # fmt: skip
