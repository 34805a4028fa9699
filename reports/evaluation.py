"""What the trained model gets wrong, as tables (the numbers of the confusion matrix picture among them)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probes.results import RunResults
from reports.numbers import figure, finite, one_line, percent
from reports.shapes import TableView

FULL_MATRIX = 12
"""Up to so many classes the whole confusion matrix is printed."""
WORST = 10


HELP_OVERALL = {
    "top_k": "The prediction is the class with the highest output (argmax); top-k counts a sample as right when its "
    "class is among the k highest.",
    "positive_class": "The positive class, whose target is 1, is predicted where its probability is above one half. "
    "ROC AUC is the chance that a sample of it gets a higher one than a sample of the other class: guessing gives 0.5; "
    "average precision sums up the precision over all thresholds: guessing gives the share of the positive class.",
    "expected_calibration_error": "The confidence is the probability that the model gives to its prediction; the "
    "expected calibration error is how far it lies from the share that is right, on average.",
    "r2": "r2 is the share of the variance that is explained: 1 is perfect, 0 is as good as always telling the mean.",
    "mean_iou": "IoU is the overlap of the true and the predicted area of a class, divided by their union.",
    "perplexity": "Perplexity is exp of the mean loss per token: the number of tokens the model hesitates between.",
}
HELP_CLASSES = {
    "precision": "Precision: of what was predicted as the class, the share that is of it.",
    "recall": "Recall: of the samples of the class, the share that was found.",
    "f1": "F1: their harmonic mean, high only where both are.",
}


def matrix_of(results: RunResults) -> list[list[float]] | None:
    """The confusion matrix (rows: true class), if there is a square one of finite numbers."""
    raw = results.evaluation.get("confusion_matrix")
    if not isinstance(raw, (list, tuple)) or not raw:
        return None
    rows = [[finite(item) for item in row] if isinstance(row, (list, tuple)) else [] for row in raw]
    if any(len(row) != len(rows) or None in row for row in rows):
        return None
    return [[item for item in row if item is not None] for row in rows]


def names_of(results: RunResults, count: int) -> list[str]:
    """The class names; the index where a name is missing."""
    given = results.evaluation.get("class_names") or results.pipeline.get("class_names") or ()
    names = [one_line(name, 40) for name in given] if isinstance(given, (list, tuple)) else []
    return [names[i] if i < len(names) and names[i] else str(i) for i in range(count)]


def evaluation_tables(results: RunResults) -> tuple[TableView, ...]:
    tables = [_overall(results.evaluation), _classes(results), *_confusions(results)]
    return tuple(table for table in tables if table)


def _overall(evaluation: Mapping[str, Any]) -> TableView | None:
    rows: list[tuple[str, str]] = []
    for key, value in evaluation.items():
        if key == "top_k" and isinstance(value, Mapping):
            rows += [(f"top-{one_line(k)} accuracy", percent(v)) for k, v in value.items()]
        elif finite(value) is not None or (isinstance(value, str) and value):
            rows.append((key.replace("_", " "), figure(key, value)))
    keys = " ".join(evaluation)
    help_ = " ".join(text for word, text in HELP_OVERALL.items() if word in keys)
    return TableView(("figure", "value"), tuple(rows), note=help_) if rows else None


def _classes(results: RunResults) -> TableView | None:
    """The classes with the lowest F1."""
    raw = results.evaluation.get("per_class")
    if isinstance(raw, Mapping):
        raw = [{"class": name, **value} for name, value in raw.items() if isinstance(value, Mapping)]
    if not isinstance(raw, (list, tuple)):
        return None
    entries: list[Mapping[str, Any]] = [item for item in raw if isinstance(item, Mapping)]
    if not entries:
        return None

    def f1(entry: Mapping[str, Any]) -> float:
        value = finite(entry.get("f1"))
        return -1.0 if value is None else value

    worst = sorted(entries, key=f1)[:WORST]
    keys = list(dict.fromkeys(key for entry in worst for key in entry))
    rows = tuple(tuple(figure(key, entry.get(key)) for key in keys) for entry in worst)
    title = "All classes" if len(entries) <= WORST else f"The {WORST} worst of {len(entries)} classes"
    order = ", lowest F1 first" if "f1" in keys else ""
    help_ = " ".join(text for word, text in HELP_CLASSES.items() if word in keys)
    return TableView(tuple(key.replace("_", " ") for key in keys), rows, f"{title}{order}", help_)


def _confusions(results: RunResults) -> Sequence[TableView]:
    matrix = matrix_of(results)
    if matrix is None:
        return []
    names = names_of(results, len(matrix))
    tables = []
    if len(matrix) <= FULL_MATRIX:
        rows = tuple((name, *(f"{item:g}" for item in row)) for name, row in zip(names, matrix, strict=True))
        tables.append(TableView(("true \\ predicted", *names), rows, "Confusion matrix"))
    pairs = [
        (row[j], names[i], names[j], sum(row))
        for i, row in enumerate(matrix)
        for j in range(len(row))
        if i != j and row[j] > 0
    ]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:WORST]
    if worst:
        rows = tuple((true, seen, f"{count:g}", percent(count / total)) for count, true, seen, total in worst)
        columns = ("true class", "predicted as", "how often", "share of the class")
        note = "" if len(matrix) <= FULL_MATRIX else "The whole confusion matrix is in results.json."
        tables.append(TableView(columns, rows, "Most frequent confusions", note))
    return tables
