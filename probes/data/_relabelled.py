"""Are predictions right but for a renaming of the classes? For validation labels that follow another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAIN = 0.1  # accuracy that the renaming must add on samples that it was not found on
RIGHT = 0.5  # accuracy under the renaming
LEVEL = 1e-3  # significance of gains against losses, sample by sample
ENOUGH = 40  # samples
EXCHANGED = 0.5  # of the renamed classes whose own name another one has now
OTHERS = 0.05  # of the predictions that a renaming mends: in labels beside the most common one


@dataclass(frozen=True)
class Renaming:
    """``moved``: predicted class -> label, where they differ; accuracies are those on the samples tested."""

    moved: dict[int, int]
    as_labelled: float
    renamed: float


def renaming(predicted: Sequence[int], labels: Sequence[int], right: float = RIGHT) -> Renaming | None:
    """Found on every other sample, tested on the rest. None where no renaming helps for certain, or makes less than
    ``right`` of the predictions true."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment
    from scipy.stats import binomtest

    if len(labels) < ENOUGH:
        return None
    p, y = np.asarray(predicted), np.asarray(labels)
    size = int(max(p.max(), y.max())) + 1
    if min(p.min(), y.min()) < 0 or size > 5_000:
        return None
    found, tested = slice(0, None, 2), slice(1, None, 2)
    table = np.zeros((size, size))
    np.add.at(table, (p[found], y[found]), 1)
    np.fill_diagonal(table, table.diagonal() + 0.5)  # a tie is no reason to rename
    source, target = linear_sum_assignment(table, maximize=True)
    mapping = np.arange(size)
    mapping[source] = target
    plain, renamed = p[tested] == y[tested], mapping[p[tested]] == y[tested]
    gains, losses = int((renamed & ~plain).sum()), int((plain & ~renamed).sum())
    if renamed.mean() < max(right, plain.mean() + GAIN):
        return None
    if binomtest(gains, gains + losses, alternative="greater").pvalue > LEVEL:
        return None
    mended = np.unique(y[tested][renamed & ~plain], return_counts=True)[1]
    if mended.sum() - mended.max() < OTHERS * mended.sum():
        return None  # a single class that is taken for its nearest: names are exchanged between two at least
    seen = set(p[tested].tolist())
    moved = {int(a): int(b) for a, b in enumerate(mapping) if a != b and a in seen}
    if len(set(moved) & set(moved.values())) < EXCHANGED * len(moved):
        return None  # nothing was exchanged: a class that was not learned from goes by the name of its nearest
    return Renaming(moved, float(plain.mean()), float(renamed.mean()))
