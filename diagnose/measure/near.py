"""Samples that are all but equal to another one: copies with a little noise, re-encoded pictures, rounded rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from probes.records.data import NearCopies, Rows

if TYPE_CHECKING:
    from torch import Tensor

ENOUGH = 100  # samples that are compared with
RANK = 10  # the neighbour that stands for unrelated samples
NEAR = 0.1  # of its distance: a copy. Where data fill d dimensions, RANK * NEAR**d of the samples are so by chance
VALLEY = 0.3  # of its distance: up to here hardly any may lie where copies stand apart from what is merely similar
EMPTY = 0.5  # samples in the valley, per copy; with natural similarity there are two and more
MOST = 0.75  # share of the samples: where nearly all have copies, the data are made so (several views of each thing)
SHOWN = 5  # pairs that are told
EXACT = 1e-6  # of its distance: equal, which is told from hashes
CLASS = 0.5  # of its class in a sample's group of copies: then it is the class whose samples are all alike
UNLIKE = 3.0  # largest over smallest spread of the columns of a table that are brought to one scale
WIDE = 256  # features: distances survive a random projection to half as many


def near_copies(rows: Rows, other: Rows | None, seed: int, *, table: bool) -> NearCopies | None:
    """In ``rows``, or of ``other`` in ``rows``. None where samples are no table of real numbers, or too few.

    ``table``: columns of different kinds, not the pixels of pictures.
    """
    from sklearn.neighbors import NearestNeighbors

    x, asked = rows.features, (other or rows).features
    if rows.bag or len(x) < ENOUGH or x.shape[1] != asked.shape[1]:
        return None
    first, second = _comparable(x, asked, table, seed)
    own = 0 if other is not None else 1  # the nearest of all is the sample itself
    found = NearestNeighbors(n_neighbors=RANK + own, algorithm="brute").fit(first)
    distances, indices = (part[:, own:] for part in found.kneighbors(second))
    typical = distances[:, -1:]
    ratios = distances / np.where(typical > 0, typical, 1.0)
    judged = typical[:, 0] > 0
    copies = (ratios > EXACT) & (ratios < NEAR) & judged[:, None]
    copies[_is_class(copies, indices, rows.targets, (other or rows).targets, other is None)] = False
    between = judged & ((ratios >= NEAR) & (ratios < VALLEY)).any(1)  # similar, one step after the other
    near = copies.any(1) & ~between
    count = int(near.sum())
    if not count or int(between.sum()) > EMPTY * count or count > MOST * len(near):
        return NearCopies(len(second))
    pairs = [(int(i), int(indices[i, np.argmax(copies[i])])) for i in np.flatnonzero(near)[:SHOWN]]
    return NearCopies(len(second), count, tuple(pairs), float(np.median(ratios[near].min(1))))


def _comparable(x: Tensor, other: Tensor, table: bool, seed: int) -> tuple[Any, Any]:
    """In float64; the columns of a table on one scale, the many pixels of pictures projected."""
    from sklearn.random_projection import GaussianRandomProjection

    first, second = x.numpy().astype(np.float64), other.numpy().astype(np.float64)
    mean, spread = first.mean(0), first.std(0)
    first, second = first - mean, second - mean
    if table and spread.max() > UNLIKE * spread[spread > 0].min(initial=np.inf):
        scale = np.where(spread > 0, spread, 1.0)
        return first / scale, second / scale
    if first.shape[1] > WIDE:
        projection = GaussianRandomProjection(WIDE // 2, random_state=seed).fit(first)
        return projection.transform(first), projection.transform(second)
    return first, second


def _is_class(copies: Any, indices: Any, targets: Tensor, asked: Tensor, same: bool) -> Any:
    """Which samples have most of their class for copies."""
    if targets.ndim != 1 or targets.is_floating_point() or asked.ndim != 1:
        return np.zeros(len(copies), dtype=bool)
    labels, own = targets.numpy(), asked.numpy()
    values, counts = np.unique(labels, return_counts=True)
    sizes = dict(zip(values.tolist(), counts.tolist(), strict=True))
    alike = (copies & (labels[indices] == own[:, None])).sum(1)
    others = np.array([sizes.get(label, len(labels)) for label in own.tolist()]) - (1 if same else 0)
    return alike >= CLASS * np.maximum(others, 1)
