"""Would training know the validation samples if they were turned round? For splits that are read in different ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.records.data import Rows, Turned

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 10
ROUNDS = 3  # pairs of columns that are exchanged one after the other
STEP = 0.03  # of the score that each of them must add
MAX_COLUMNS = 16  # of a table, whose pairs are exchanged
ENOUGH = 60  # samples of validation
LOST = 0.1  # of the score within train, from which on turned samples are tried

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


def turned(train: Rows, val: Rows, shape: tuple[int, ...], within: float, *, classes: bool) -> Turned | None:
    """``shape``: of one sample, (C, H, W) of pictures or (F,) of a table; ``within``: the score (accuracy, for numbers
    the correlation) that neighbours reach on train by cross-validation. None where the splits make no such tables."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    if train.targets.ndim != 1 or val.targets.ndim != 1 or len(val.targets) < ENOUGH:
        return None
    x, other = train.features, val.features
    size = int(np.prod(shape))
    if x.shape[1] != size or other.shape[1] != size or len(shape) not in (1, 3):
        return None  # pictures that were averaged down, or several inputs
    if len(shape) == 1:
        mean, spread = x.mean(0), x.std(0)
        x, other = ((t - mean) / spread.where(spread > 0, 1.0) for t in (x, other))
    kind = np.int64 if classes else np.float64
    y, labels = (rows.targets.numpy().astype(kind) for rows in (train, val))
    near = (KNeighborsClassifier if classes else KNeighborsRegressor)(min(NEIGHBOURS, len(x))).fit(x.numpy(), y)

    def told(rows: Tensor) -> tuple[float, Any]:
        """(score, error of each sample)"""
        predicted = near.predict(rows.contiguous().numpy())
        errors = np.abs(predicted - labels) if not classes else (predicted != labels).astype(float)
        if classes:
            return float(1 - errors.mean()), errors
        return (float(np.corrcoef(predicted, labels)[0, 1]) if predicted.std() > 0 else 0.0), errors

    share, before = told(other)
    found = Turned(within, share)
    if share > within - LOST:
        return found
    for _ in range(1 if len(shape) == 3 else ROUNDS):
        known = found
        for how, turn in _turns(shape).items():
            changed = turn(other.reshape(-1, *shape)).reshape(len(other), -1)
            score, errors = told(changed)
            if score > max(found.best, share) and score > known.best + STEP:
                gains, losses = int((errors < before).sum()), int((errors > before).sum())
                found = Turned(within, share, f"{known.how}, and {how}".removeprefix(", and "), score, gains, losses)
                best = changed
        if found is known:
            break
        other = best
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
