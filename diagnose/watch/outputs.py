"""What becomes of a model's outputs: the losses they enter, the argmax that is taken of them, evaluations by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.watch.modules import in_mode
from diagnose.watch.sites import here
from probes.records.loop import MetricSeen
from probes.results import Where

MOST_RESULTS = 32
MOST_EVALUATIONS = 50
MOST_SIZES = 256


def tensors_of(output: Any, depth: int = 0) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif depth < 3 and isinstance(output, (list, tuple)):
        for item in output:
            yield from tensors_of(item, depth + 1)
    elif depth < 3 and isinstance(output, dict):
        for item in output.values():
            yield from tensors_of(item, depth + 1)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _is_of_samples(given: Tensor, target: Any) -> bool:
    """Whether they can only be (samples, classes) and their classes: not square, and some samples of one class. Where
    each is to find its own among all, as texts their pictures, no two have the same."""
    told = isinstance(target, Tensor) and given.ndim == 2 and target.ndim == 1 and given.shape[0] != given.shape[1]
    return told and not target.is_floating_point() and len(target.unique()) < len(target)


class OutputWatch:
    def __init__(self) -> None:
        self.evaluations = 0
        self.awake: tuple[str, ...] = ()
        self.awake_at: tuple[Where, ...] = ()
        self._results: list[tuple[Tensor, str, int]] = []
        self._left_out = False
        self._outputs: set[int] = set()
        self._laid_out: set[tuple[Any, ...]] = set()  # the same, with how each is laid out in memory
        self._by_sample = False  # an output, just as it was, was a loss's (samples, classes)
        self._classes: set[tuple[int, int]] = set()  # (dimensions, classes) of what enters a loss of classes
        self._sizes: set[int] = set()  # of the batches that are known
        self._asked: dict[int, tuple[Where, ...]] = {}  # dimension of the last output, if it is square -> by which line
        self._best_samples: set[tuple[Where, ...]] = set()  # lines that look for the best sample of each class
        self._metrics: dict[tuple[Where, ...], MetricSeen] = {}

    def made(self, output: Any) -> None:
        """A model returned, in a window."""
        strided = [t for t in tensors_of(output) if t.layout == torch.strided]
        self._outputs = {t.untyped_storage().data_ptr() for t in strided}
        self._laid_out = {_layout(t) for t in strided}
        self._asked = {}

    def loss(self, name: str, given: Any, target: Any, reduction: str, result: Any) -> None:
        """A loss function of torch was called, with gradients on."""
        if isinstance(result, Tensor) and result.numel() == 1 and result.requires_grad:
            size = len(given) if isinstance(given, Tensor) and given.ndim else 1
            self._results = [*self._results[1 - MOST_RESULTS :], (result, reduction, size)]
        if name in {"cross_entropy", "nll_loss"} and isinstance(given, Tensor) and given.ndim >= 2:
            self._classes.add((given.ndim, int(given.shape[1])))
            self._by_sample = self._by_sample or (self._is_plain(given) and _is_of_samples(given, target))
        self.sized(given)

    def sized(self, given: Any) -> None:
        """A loss was given this, with gradients on or off."""
        if isinstance(given, Tensor) and given.ndim and len(self._sizes) < MOST_SIZES:
            self._sizes.add(len(given))

    def share(self, tensor: Tensor) -> tuple[float | None, int]:
        """(d tensor / d loss summed over torch's losses in it, samples of those losses); None where none is in it."""
        self._left_out = False
        if tensor.grad_fn is None or not self._results or any(kind != "mean" for _, kind, _ in self._results):
            return None, 0
        try:
            parts = torch.autograd.grad(tensor, [r for r, _, _ in self._results], retain_graph=True, allow_unused=True)
        except RuntimeError:  # a graph that is gone already: the user's own backward will say so
            return None, 0
        self._left_out = len(parts) > 1 and all(p is None for p in parts[:-1]) and parts[-1] is not None
        held = [(float(p), size) for p, (_, _, size) in zip(parts, self._results, strict=True) if p is not None]
        return (sum(share for share, _ in held), sum(size for _, size in held)) if held else (None, 0)

    def left_out(self) -> bool:
        """Of the last ``share``: several losses were computed, and backward is called on the last one alone."""
        return self._left_out

    def spent(self) -> None:
        """A backward has used the losses: holding them longer would hold their graphs."""
        self._results = []

    def forget(self) -> None:
        self._results, self._outputs, self._laid_out = [], set(), set()

    def _is_output(self, given: Any) -> bool:
        strided = isinstance(given, Tensor) and given.layout == torch.strided
        return strided and given.untyped_storage().data_ptr() in self._outputs

    def _is_plain(self, given: Tensor) -> bool:
        """Whether it is an output as the model returned it, not turned about."""
        return given.layout == torch.strided and _layout(given) in self._laid_out

    def argmax(self, given: Any, dim: Any, batch_size: int | None) -> None:
        """In a window: along which dimension of a model's output the largest is taken. ``dim`` None: of all of it.
        Along the first one that is an error where it is a batch, of a loader's ``batch_size`` or of a loss; among
        candidates, say, the best one may be looked for. In a batch of as many samples as there are classes, its axes
        are told by those of other batches: where all are square, texts are found for pictures and pictures for
        texts."""
        if not self._is_output(given) or given.ndim < 2 or not given.is_floating_point():
            return
        if not isinstance(dim, int) and (dim is not None or given.shape[0] == 1):
            return
        counts = {classes for _, classes in self._classes}
        along = None if dim is None else dim % given.ndim
        if len(counts) != 1:
            return
        classes = [d for d in range(given.ndim) if given.shape[d] in counts]
        if classes == [0, 1] and given.ndim == 2 and self._by_sample and self._is_plain(given):
            classes = [1]
            if self._is_asked_both_ways(along):
                return
        if len(classes) != 1 or along == classes[0]:
            return
        if along == 0 and given.shape[0] not in {*self._sizes, batch_size}:
            return
        where = here()
        if given.shape[0] == given.shape[1]:
            if where in self._best_samples:
                return
            self._asked[0] = where
        times = self._metrics[where].times + 1 if where in self._metrics else 1
        self._metrics[where] = MetricSeen(tuple(given.shape), along, classes[0], times, where)

    def evaluated(self, roots: Callable[[], list[nn.Module]]) -> None:
        """A loss was computed without gradients and without a loader: in which mode are the models?"""
        if self.evaluations >= MOST_EVALUATIONS:
            return
        self.evaluations += 1
        models = roots()
        if not all(model.training for model in models):  # which of them is evaluated is not told
            return
        for model in models:
            names = in_mode(model, True)
            if names:
                self.awake, self.awake_at = tuple(names), here()

    def metrics(self) -> tuple[MetricSeen, ...]:
        return tuple(self._metrics.values())

    def _is_asked_both_ways(self, along: int | None) -> bool:
        """Whether of one square output the largest is looked for along either axis: the class of each sample, and the
        best sample of each class."""
        if along == 1:
            self._asked[1] = ()
        if 0 in self._asked and 1 in self._asked:
            self._best_samples.add(self._asked[0])
            self._metrics.pop(self._asked[0], None)
        return 1 in self._asked and along == 0
