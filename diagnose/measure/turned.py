"""Would training know the validation samples if they were turned round? For splits that are read in different ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from probes.records.data import Rows, Turned

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 10
MAX_COLUMNS = 16  # of a table, whose pairs are exchanged
ENOUGH = 60  # samples of validation

Turn = Callable[["Tensor"], "Tensor"]
PICTURES: dict[str, Turn] = {
    "turned upside down": lambda x: x.flip(-2),
    "mirrored": lambda x: x.flip(-1),
    "turned by half a turn": lambda x: x.flip(-1, -2),
    "read columns first": lambda x: x.transpose(-1, -2).reshape(x.shape),
    "read rows first": lambda x: x.reshape(*x.shape[:-2], x.shape[-1], x.shape[-2]).transpose(-1, -2),
    "turned to the left": lambda x: x.transpose(-1, -2).flip(-2).reshape(x.shape),
    "turned to the right": lambda x: x.transpose(-1, -2).flip(-1).reshape(x.shape),
    "given with the channels reversed": lambda x: x.flip(1),
}


def turned(train: Rows, val: Rows, shape: tuple[int, ...], within: float) -> Turned | None:
    """``shape``: of one sample, (C, H, W) of pictures or (F,) of a table; ``within``: the accuracy that neighbours
    reach on train by cross-validation. None where the splits do not make such tables."""
    from sklearn.neighbors import KNeighborsClassifier

    if train.targets.ndim != 1 or val.targets.ndim != 1 or len(val.targets) < ENOUGH:
        return None
    x, other = train.features, val.features
    size = int(np.prod(shape))
    if x.shape[1] != size or other.shape[1] != size or len(shape) not in (1, 3):
        return None  # pictures that were averaged down, or several inputs
    if len(shape) == 1:
        spread = x.std(0)
        x, other = ((t - x.mean(0)) / spread.where(spread > 0, 1.0) for t in (x, other))
    near = KNeighborsClassifier(min(NEIGHBOURS, len(x))).fit(x.numpy(), train.targets.numpy().astype(np.int64))
    labels = val.targets.numpy().astype(np.int64)
    as_given = near.predict(other.numpy()) == labels
    share = float(as_given.mean())
    if not _worse(int(as_given.sum()), len(labels), within):
        return Turned(within, share)
    found = Turned(within, share)
    for how, turn in _turns(shape).items():
        changed = turn(other.reshape(-1, *shape)).reshape(len(other), -1)
        right = near.predict(changed.contiguous().numpy()) == labels
        if float(right.mean()) > found.best:
            gains, losses = int((right & ~as_given).sum()), int((as_given & ~right).sum())
            found = Turned(within, share, how, float(right.mean()), gains, losses)
    return found


def _turns(shape: tuple[int, ...]) -> Mapping[str, Turn]:
    if len(shape) == 3:
        return PICTURES
    if shape[0] > MAX_COLUMNS:
        return {}
    pairs = [(a, b) for a in range(shape[0]) for b in range(a)]
    return {f"given with columns {b} and {a} exchanged": _exchanged(a, b) for a, b in pairs}


def _exchanged(a: int, b: int) -> Turn:
    def exchange(x: Tensor) -> Tensor:
        order = list(range(x.shape[1]))
        order[a], order[b] = b, a
        return x[:, order]

    return exchange


def _worse(right: int, of: int, wanted: float) -> bool:
    from scipy.stats import binomtest

    return float(binomtest(right, of, min(1.0, wanted), alternative="less").pvalue) < 1e-3
