"""Whether memory grows with the steps: graphs of earlier steps that are kept, and steady growth of any kind.

A graph that is still there hundreds of steps later is proof. Growth alone is not: a cache may be filling. So growth is
a remark, and only from the second epoch on, when every sample has been read once.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

import psutil

from probes import catalogue
from probes.results import Finding, Severity

if TYPE_CHECKING:
    from torch import Tensor

Sample = tuple[int, float]  # (step, megabytes)

EVERY = 50  # steps from one look to the next
RETAINED = 5  # graphs of so many looks at once: no loop sums losses over hundreds of batches before its backward
MIN_SAMPLES, MOST_SAMPLES = 16, 64  # the latter: half of them are dropped, and the rest still spans the whole training
GROWTH = 0.05  # of the memory at the first sample: what allocators and caches sway by stays below
STEADY = 0.5  # of the largest rise from one quarter to the next, that the smallest has at least; a cache levels off


class MemoryWatch:
    """``samples``: the memory of the process from its second epoch on, or of the device that computes."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._is_settled = False
        self._process = psutil.Process()
        self._every = EVERY
        self._graphs: list[tuple[int, float, weakref.ref[_Token]]] = []

    def megabytes(self) -> float:
        """Of the process, resident."""
        return float(self._process.memory_info().rss) / 2**20

    def settle(self) -> None:
        """An epoch has ended: the memory that it needs is there."""
        self._is_settled = True

    def look(self, step: int, output: Tensor | None) -> Finding | None:
        """Every ``EVERY`` steps, with the output of the last one; what is kept of the graphs of earlier looks."""
        size = self.megabytes()
        if self._is_settled and step % self._every == 0:
            self.samples.append((step, size if output is None or not output.is_cuda else _on_device(output)))
            if len(self.samples) > MOST_SAMPLES:
                self.samples = self.samples[::2]
                self._every *= 2
        self._graphs = [mark for mark in self._graphs if mark[2]() is not None]
        found = self._retained(step, size) if len(self._graphs) >= RETAINED else None
        node: Any = None if output is None else output.grad_fn
        if node is not None and hasattr(node, "metadata"):
            token = node.metadata["diagnose-memory"] = _Token()
            self._graphs.append((step, size, weakref.ref(token)))
        return found

    def _retained(self, step: int, size: float) -> Finding:
        since, before, _ = self._graphs[0]
        grown = size - before
        return catalogue.doc("graph-retained").finding(
            "the graphs of {retained} earlier steps, from step {since_step} on, are still in memory at step {step}; "
            "the process grew by {rate:.3g} MB per 100 steps",
            retained=len(self._graphs),
            since_step=since,
            step=step,
            rate=100 * grown / (step - since),
            severity=None if grown >= GROWTH * before else Severity.WARNING,
        )

    def growth(self) -> str:
        """A sentence where the memory grew steadily, with since when and how fast; "" otherwise."""
        return steady_growth(self.samples)


class _Token:
    """Lives as long as the node of a graph that holds it."""

    __slots__ = ("__weakref__",)


def _on_device(output: Tensor) -> float:
    import torch

    return torch.cuda.memory_allocated(output.device) / 2**20  # what is in use, not what the allocator has in reserve


def steady_growth(samples: Sequence[Sample]) -> str:
    if len(samples) < MIN_SAMPLES:
        return ""
    size = len(samples) // 4
    quarters = [samples[-(4 - i) * size : len(samples) - (3 - i) * size] for i in range(4)]
    means = [fmean(megabytes for _, megabytes in quarter) for quarter in quarters]
    rises = [after - before for before, after in pairwise(means)]
    if sum(rises) < GROWTH * samples[0][1] or min(rises) < STEADY * max(rises):
        return ""
    (since, first), (step, last) = samples[0], samples[-1]
    return (
        f"Memory grew steadily from {first:,.0f} MB at step {since:,} to {last:,.0f} MB at step {step:,}, "
        f"{100 * (last - first) / (step - since):.3g} MB per 100 steps: something is kept from step to step, such as "
        "outputs or losses (keep loss.item() instead), or a cache still fills."
    )
