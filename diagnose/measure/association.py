"""Can anything tell the target from the input? Simple predictors of scikit-learn, cross-validated.

They answer for data that such predictors can read (tables, small pictures, bags of words). That they fail says little
by itself: a picture's class may be plain to a network alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import input_tensors, understand
from diagnose.measure.table import RowCollector
from diagnose.training.metrics import binomial_interval
from probes.records.data import Association, Rows

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NEIGHBOURS = 10
FOLDS = 5
MIN_SAMPLES = 60
COMPONENTS = 64  # of a principal component analysis, in place of many features
MANY = 512  # features
TREES = 60
COLUMNS = 16  # of targets, beyond which trees take minutes
UNBALANCED = 0.7  # share of the most common class, above which as many of each class are asked about
SHIFTS = (-2, -1, 0, 1, 2)  # places by which labels slip against inputs when one is left out; 0 to compare with
PAIRS = 20  # of neighbouring items that are looked at for a sliding window
SIGNIFICANT = 3.3  # standard errors of a correlation at chance, 1/sqrt(N): 99.9 %


def association(rows: Rows, *, classes: bool, thorough: bool, seed: int) -> Association | None:
    """``classes``: the targets are class labels, else numbers. ``thorough`` asks the slower predictors too. None where
    there are too few samples, or a single class."""
    import numpy as np

    x, y = rows.features.numpy().astype(np.float64), rows.targets.numpy()
    if len(y) < MIN_SAMPLES or (classes and y.ndim != 1):
        return None
    x = _reduced(x, seed)
    return _of_classes(x, y, thorough, seed) if classes else _of_numbers(x, y.astype(np.float64), thorough, seed)


def _reduced(x: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Columns that vary, on one scale unless they already share it, and fewer of them."""
    from sklearn.decomposition import PCA
    from sklearn.random_projection import GaussianRandomProjection

    spread = x.std(0)
    x, spread = x[:, spread > 0], spread[spread > 0]
    if not x.shape[1]:
        return x
    if x.shape[1] < 256 and spread.max() > 3 * spread.min():  # a table; the pixels of a picture keep their weights
        x = (x - x.mean(0)) / spread
    if x.shape[1] > MANY:  # distances survive a random projection, at a fraction of the cost
        x = GaussianRandomProjection(2 * COMPONENTS, random_state=seed).fit_transform(x - x.mean(0))
    elif x.shape[1] > COMPONENTS:
        x = PCA(min(COMPONENTS, len(x)), svd_solver="randomized", random_state=seed).fit_transform(x)
    reduced: np.ndarray[Any, Any] = x
    return reduced


def _of_classes(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], thorough: bool, seed: int) -> Association | None:
    import numpy as np
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import KFold, cross_val_predict

    labels = y.astype(np.int64)
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 2 or not x.shape[1]:
        return None
    if counts.max() > UNBALANCED * len(labels):  # always guessing the common class would look like knowledge
        few = int(counts.min())
        if few * len(values) < MIN_SAMPLES:
            return None
        rng = np.random.default_rng(seed)
        kept = np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == v))[:few] for v in values]))
        x, labels = x[kept], labels[kept]
        counts = np.full(len(values), few)
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    predicted, agreement = neighbours(x, labels, folds)
    scores = {"nearest neighbours": float((predicted == labels).mean())}
    if thorough:
        for name, model in (
            ("a linear model", RidgeClassifier(alpha=1.0)),
            ("trees", ExtraTreesClassifier(TREES, random_state=seed)),
        ):
            scores[name] = float((cross_val_predict(model, x, labels, cv=folds) == labels).mean())
    chance = float(counts.max() / len(labels))
    return Association(
        samples=len(labels),
        classes=len(values),
        scores=scores,
        chance=chance,
        limit=binomial_interval(chance, len(labels))[1],
        labels=tuple(labels.tolist()),
        agreement=tuple(agreement.tolist()),
        predicted=tuple(predicted.tolist()),
    )


def neighbours(x: Any, labels: Any, folds: Any) -> tuple[Any, Any]:
    """For each sample, from the neighbours in the other folds: their most common label, and its share."""
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    predicted, agreement = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels))
    for train, test in folds.split(x):
        near = KNeighborsClassifier(min(NEIGHBOURS, len(train))).fit(x[train], labels[train])
        shares = near.predict_proba(x[test])
        predicted[test] = near.classes_[shares.argmax(1)]
        agreement[test] = shares.max(1)
    return predicted, agreement


def _of_numbers(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], thorough: bool, seed: int) -> Association | None:
    import numpy as np
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.neighbors import KNeighborsRegressor

    if not x.shape[1] or not np.isfinite(y).all() or not (y.std(0) > 0).all():
        return None
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    models: dict[str, Any] = {
        "nearest neighbours": KNeighborsRegressor(min(NEIGHBOURS, len(y) // 2)),
        "a linear model": Ridge(alpha=1.0),
    }
    if thorough and y.reshape(len(y), -1).shape[1] <= COLUMNS:
        models["trees"] = ExtraTreesRegressor(TREES, random_state=seed)
    scores = {name: _correlation(cross_val_predict(model, x, y, cv=folds), y) for name, model in models.items()}
    return Association(samples=len(y), classes=0, scores=scores, chance=0.0, limit=SIGNIFICANT / float(np.sqrt(len(y))))


def _correlation(predicted: Any, y: Any) -> float:
    import numpy as np

    columns = zip(predicted.reshape(len(y), -1).T, y.reshape(len(y), -1).T, strict=True)
    return float(np.mean([np.corrcoef(p, t)[0, 1] if p.std() > 0 else 0.0 for p, t in columns]))


def rows_of(raws: Sequence[Any]) -> Rows | None:
    """Raw batches as a table."""
    collector = RowCollector()
    for raw in raws:
        batch = understand(raw)
        target = batch.target if isinstance(batch.target, torch.Tensor) else None
        collector.add(input_tensors(batch), target, batch.size)
    return collector.rows()


def shifted(raws: Sequence[Any], *, classes: bool, seed: int) -> Mapping[int, Association]:
    """Shift k -> how well item i tells the target of item i + k, for items in the order of their data set; nothing
    where the items are windows of one series, which hold the targets of their neighbours."""
    rows = rows_of(raws)
    found: dict[int, Association] = {}
    if rows is None or _slides(rows.features):
        return found
    x, y = rows.features, rows.targets
    for shift in SHIFTS:
        moved = Rows(x[: len(x) - shift], y[shift:]) if shift >= 0 else Rows(x[-shift:], y[:shift])
        result = association(moved, classes=classes, thorough=False, seed=seed)
        if result is not None:
            found[shift] = result
    return found


def _slides(x: Tensor) -> bool:
    """Whether most rows go on where the row before them is a few places in."""
    pairs = list(pairwise(x[: PAIRS + 1]))
    return sum(_goes_on(a, b) or _goes_on(b, a) for a, b in pairs) > len(pairs) / 2


def _goes_on(first: Tensor, then: Tensor) -> bool:
    kept = range(1, len(first) // 2 + 1)
    return any(torch.equal(first[k:], then[:-k]) and bool((first[k:] != first[k]).any()) for k in kept)


def across(train: Rows, val: Rows, *, own_left_out: bool = False) -> tuple[Sequence[int], Sequence[int]] | None:
    """(labels that the nearest neighbours in ``train`` give the samples of ``val``, their own labels).
    ``own_left_out``: the i-th of both are the same sample, which is not asked about itself."""
    import numpy as np
    from sklearn.model_selection import KFold
    from sklearn.neighbors import KNeighborsClassifier

    if train.targets.ndim != 1 or val.targets.ndim != 1 or train.features.shape[1] != val.features.shape[1]:
        return None
    x, y = train.features.numpy().astype(np.float64), train.targets.numpy().astype(np.int64)
    other = val.features.numpy().astype(np.float64)
    spread = x.std(0)
    if x.shape[1] < 256:
        x, other = x / np.where(spread > 0, spread, 1.0), other / np.where(spread > 0, spread, 1.0)
    if not own_left_out:
        near = KNeighborsClassifier(min(NEIGHBOURS, len(x))).fit(x, y)
        return near.predict(other).tolist(), val.targets.long().tolist()
    found = np.zeros(len(other), dtype=np.int64)
    for inside, outside in KFold(FOLDS, shuffle=True, random_state=0).split(x):
        found[outside] = (
            KNeighborsClassifier(min(NEIGHBOURS, len(inside))).fit(x[inside], y[inside]).predict(other[outside])
        )
    return found.tolist(), val.targets.long().tolist()
