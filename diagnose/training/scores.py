"""Scores of a trained model by task, gathered batch by batch; only what the result needs is kept."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from diagnose.training.calibration import confidence_figures, confused_pairs
from diagnose.training.dense_scores import LanguageScores, SegmentationScores
from diagnose.training.meter import same_shape
from diagnose.training.metrics import class_targets

if TYPE_CHECKING:
    from torch import Tensor

TOP_K = (1, 3, 5)
WRONG_SAMPLES = 16
MAX_MATRIX = 1_000  # classes up to which the confusion matrix is told
MAX_COLUMNS = 16  # outputs of a regression, or labels, that predictions.csv has columns for

Columns = dict[str, list[Any]]


class Scores(Protocol):
    """``add(output, target, inputs)`` of one batch; ``result()`` in the words of the contract; ``predictions()`` per
    sample."""

    def add(self, output: Tensor, target: Any, inputs: Sequence[Any]) -> None: ...

    def result(self) -> dict[str, Any]: ...

    def predictions(self) -> Columns: ...


@dataclass(frozen=True, order=True)
class Wrong:
    """A sample that was taken for another class; ``image`` is (C, H, W), or None where inputs are no images."""

    confidence: float
    index: int
    true: int
    predicted: int
    image: Any = field(default=None, compare=False)


class ClassScores:
    """Classification. ``wrong``: the wrong predictions that were made with the most confidence."""

    def __init__(self, classes: int | None, names: Sequence[str], ignore_index: int) -> None:
        self._classes, self._names, self._ignore = classes or 0, names, ignore_index
        self.true: list[int] = []
        self.predicted: list[int] = []
        self.confidence: list[float] = []
        self._hits = dict.fromkeys(TOP_K, 0)
        self._wrong: list[Wrong] = []

    def add(self, output: Tensor, target: Any, inputs: Sequence[Any]) -> None:
        pair = class_targets(output, target, "classification", self._ignore)
        if pair is None or output.ndim != 2 or len(pair[1]) == 0:
            return
        true = pair[1]
        if isinstance(target, torch.Tensor) and len(true) != len(output):  # ignored samples
            keep = target.reshape(-1) != self._ignore
            output, inputs = output[keep], [_kept(item, keep) for item in inputs]
        self._classes = max(self._classes, output.shape[1], int(true.max()) + 1)
        shares = probabilities(output)
        confidence, predicted = shares.max(1)
        ranked = output.topk(min(max(TOP_K), output.shape[1]), dim=1).indices == true[:, None]
        for k in TOP_K:
            self._hits[k] += int(ranked[:, :k].any(1).sum())
        start = len(self.true)
        self.true += true.tolist()
        self.predicted += predicted.tolist()
        self.confidence += confidence.tolist()
        for row in (predicted != true).nonzero().flatten().tolist():
            self._keep_wrong(start + row, row, inputs)

    def _keep_wrong(self, index: int, row: int, inputs: Sequence[Any]) -> None:
        confidence = self.confidence[index]
        full = len(self._wrong) == WRONG_SAMPLES
        if not math.isfinite(confidence) or (full and confidence <= self._wrong[0].confidence):
            return
        image = inputs[0][row] if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].ndim == 4 else None
        image = None if image is None else image.detach().float().cpu().clone()
        found = Wrong(confidence, index, self.true[index], self.predicted[index], image)
        (heapq.heapreplace if full else heapq.heappush)(self._wrong, found)

    @property
    def wrong(self) -> list[Wrong]:
        return sorted(self._wrong, reverse=True)

    def names(self) -> list[str]:
        return [self._names[i] if i < len(self._names) else str(i) for i in range(self._classes)]

    def result(self) -> dict[str, Any]:
        if not self.true:
            return {}
        total = len(self.true)
        names = self.names()
        found: dict[str, Any] = {
            "accuracy": self._hits[1] / total,
            "top_k": {str(k): hits / total for k, hits in self._hits.items() if k == 1 or k < self._classes},
            "per_class": per_class(self.true, self.predicted, names),
            "class_names": names,
        }
        if self._classes <= MAX_MATRIX:
            found["confusion_matrix"] = confusion(self.true, self.predicted, self._classes)
            found["confused_pairs"] = confused_pairs(found["confusion_matrix"], names)
        correct = [a == b for a, b in zip(self.true, self.predicted, strict=True)]
        return found | confidence_figures(self.confidence, correct)

    def predictions(self) -> Columns:
        names = self.names()
        return {
            "true": self.true,
            "predicted": self.predicted,
            "true_name": [names[i] for i in self.true],
            "predicted_name": [names[i] for i in self.predicted],
            "confidence": self.confidence,
            "correct": [a == b for a, b in zip(self.true, self.predicted, strict=True)],
        }


class LabelScores:
    """Multilabel: each label is yes where its logit is above 0 (or its probability above one half)."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._true: list[Tensor] = []
        self._shares: list[Tensor] = []

    def add(self, output: Tensor, target: Any, inputs: Sequence[Any]) -> None:
        pair = same_shape(output, target)
        if pair is None:
            return
        shares = pair[0] if _are_shares(pair[0]) else pair[0].sigmoid()
        self._shares.append(shares.reshape(len(shares), -1).cpu())
        self._true.append((pair[1] > 0.5).reshape(len(shares), -1).cpu())

    def result(self) -> dict[str, Any]:
        from sklearn.metrics import f1_score

        if not self._true:
            return {}
        true, predicted = torch.cat(self._true).int(), (torch.cat(self._shares) > 0.5).int()
        names = self._label_names(true.shape[1])
        average = "binary" if true.shape[1] == 1 else None  # one label with soft targets
        by_label = f1_score(true.numpy(), predicted.numpy(), average=average, zero_division=0)
        listed = [float(by_label)] if average else [float(value) for value in by_label]
        hits, said, there = (predicted & true).sum(0), predicted.sum(0), true.sum(0)
        both, denominator = int(hits.sum()), int(said.sum() + there.sum())
        return {
            "accuracy": float((true == predicted).float().mean()),
            "subset_accuracy": float((true == predicted).all(1).float().mean()),
            "macro_f1": sum(listed) / len(listed),
            "micro_f1": 2 * both / denominator if denominator else 0.0,
            "per_class": [
                {
                    "class": names[i],
                    "precision": _share(int(hits[i]), int(said[i])),
                    "recall": _share(int(hits[i]), int(there[i])),
                    "f1": listed[i],
                    "support": int(there[i]),
                }
                for i in range(len(names))
            ],
            "class_names": names,
        }

    def _label_names(self, count: int) -> list[str]:
        return [self._names[i] if i < len(self._names) else str(i) for i in range(count)]

    def predictions(self) -> Columns:
        if not self._true:
            return {}
        true, shares = torch.cat(self._true).int(), torch.cat(self._shares)
        found: Columns = {}
        for i, name in enumerate(self._label_names(true.shape[1])[:MAX_COLUMNS]):
            found |= {f"true {name}": true[:, i].tolist(), f"probability {name}": shares[:, i].tolist()}
        return found


class RegressionScores:
    """Errors over all elements; r2 is the mean over the outputs that vary. In float64, and relative to the first
    target: sums of squares lose digits where targets are large beside their spread."""

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._varies = torch.zeros(0, dtype=torch.bool)
        self._measures: Any = None
        self._rows: list[Tensor] = []

    def add(self, output: Tensor, target: Any, inputs: Sequence[Any]) -> None:
        pair = same_shape(output, target)
        if pair is None or not len(pair[1]):
            return
        predicted, true = (item.double().cpu().reshape(len(item) if item.ndim else 1, -1) for item in pair)
        if self._first is None:
            self._first, self._varies = true[0], torch.zeros(true.shape[1], dtype=torch.bool)
            self._measures = _regression_measures()
        self._varies |= (true != self._first).any(0)
        self._measures.update(predicted - self._first, true - self._first)
        self._rows.append(torch.stack([true[:, :MAX_COLUMNS], predicted[:, :MAX_COLUMNS]], dim=2))

    def result(self) -> dict[str, Any]:
        if self._first is None:
            return {}
        figures: dict[str, Any] = {name: float(self._measures[name].compute()) for name in ("mae", "rmse")}
        if not bool(self._varies.any()):
            return figures | {"r2": None}
        return figures | {"r2": float(self._measures["r2"].compute().reshape(-1)[self._varies].mean())}

    def predictions(self) -> Columns:
        if not self._rows:
            return {}
        rows = torch.cat(self._rows)
        found: Columns = {}
        for i in range(rows.shape[1]):
            end = f"_{i}" if rows.shape[1] > 1 else ""
            found |= {f"true{end}": rows[:, i, 0].tolist(), f"predicted{end}": rows[:, i, 1].tolist()}
        return found


def _regression_measures() -> Any:
    """Of this process alone: where several train, one evaluates."""
    from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score

    here: dict[str, Any] = {"sync_on_compute": False}
    measures: dict[str, Any] = {
        "mae": MeanAbsoluteError(**here),
        "rmse": MeanSquaredError(squared=False, **here),
        "r2": R2Score(multioutput="raw_values", **here),
    }
    return MetricCollection(measures, compute_groups=False).set_dtype(torch.float64)


def scores_for(task: str, classes: int | None, names: Sequence[str], ignore_index: int) -> Scores | None:
    """None for a custom task: only its loss and the user's metrics are known."""
    if task == "classification":
        return ClassScores(classes, names, ignore_index)
    if task == "multilabel":
        return LabelScores(names)
    if task == "regression":
        return RegressionScores()
    if task == "segmentation":
        return SegmentationScores(classes, names, ignore_index)
    return LanguageScores(ignore_index) if task == "language-model" else None


def probabilities(output: Tensor) -> Tensor:
    """Softmax over dimension 1, or the output itself where its rows are probabilities already."""
    sums_to_one = bool(torch.allclose(output.sum(1), torch.ones(len(output), device=output.device), atol=1e-3))
    return output if sums_to_one and bool((output >= 0).all()) else output.softmax(1)


def _are_shares(output: Tensor) -> bool:
    """Whether all of a batch lies in [0, 1]: logits do not."""
    return bool(((output >= 0) & (output <= 1)).all())


def per_class(true: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    from sklearn.metrics import precision_recall_fscore_support

    labels = range(len(names))
    columns = precision_recall_fscore_support(true, predicted, labels=list(labels), zero_division=0)
    precision, recall, f1, support = (column.tolist() for column in columns)
    return [
        {"class": names[i], "precision": precision[i], "recall": recall[i], "f1": f1[i], "support": int(support[i])}
        for i in labels
    ]


def confusion(true: Sequence[int], predicted: Sequence[int], classes: int) -> list[list[int]]:
    from sklearn.metrics import confusion_matrix

    matrix: list[list[int]] = confusion_matrix(true, predicted, labels=list(range(classes))).tolist()
    return matrix


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _kept(item: Any, keep: Tensor) -> Any:
    return item[keep] if isinstance(item, torch.Tensor) and len(item) == len(keep) else item
