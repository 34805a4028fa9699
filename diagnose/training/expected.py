"""What a training should reach by epoch: as the pipeline says, or shipped for known data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diagnose.errors import UsageError
from diagnose.training.metrics import CLASS_TASKS
from probes.results import Expected

if TYPE_CHECKING:
    from torch import nn

    from diagnose.pipeline import Pipeline
    from probes.measurements import Facts

Band = Mapping[int, tuple[float, float]]  # epoch -> (low, high)

GENERAL: Band = {1: (0.01, 0.02), 5: (0.04, 0.08), 10: (0.08, 0.15), 30: (0.25, 0.35), 50: (0.35, 0.50)}
PLAIN: Band = {1: (0.01, 0.02), 10: (0.08, 0.12), 30: (0.25, 0.30), 50: (0.35, 0.40)}
LARGE: Band = {1: (0.01, 0.02), 10: (0.10, 0.15), 30: (0.30, 0.35), 50: (0.45, 0.50)}
"""Test accuracy on TinyImageNet of small CNNs trained from scratch: in general, of plain CNNs and those with
squeeze-and-excitation, of residual and of deeper or wider ones."""

TINY_CLASSES, TINY_SAMPLES, TINY_SIDE = 200, 100_000, 64
GLYPHS: Band = {1: (0.005, 0.08), 2: (0.03, 0.28), 3: (0.10, 0.50), 5: (0.35, 0.76), 10: (0.70, 0.95), 12: (0.75, 0.95)}
GLYPHS_CLASSES, GLYPHS_SAMPLES, GLYPHS_SIDE = 200, 10_000, 32
GLYPHS_SOURCE = "measured on 2026-11-22 with diagnose.demos.repaired, three settings that learn, seed 0"
"""Validation accuracy of the demo's CNN once it learns, from the lowest of three trainings to the highest, rounded."""

_LARGE_NAMES = ("resid", "resnet", "basicblock", "bottleneck", "deeper", "wider", "wideres")
_SQUEEZE_NAMES = ("squeeze", "seblock", "selayer", "excitation")
_ROW = "rows of (epoch, metric, low, high), for example (10, 'val_accuracy', 0.08, 0.15)"


def expected_for(pipeline: Pipeline, facts: Facts) -> list[Expected]:
    """The pipeline's own rows where it has any, else the shipped ones where the data are known, else none.

    A metric without a prefix is that of the validation split. Raises UsageError where a row cannot be read.
    """
    if pipeline.expected:
        rows = [_read(row) for row in pipeline.expected]
        return sorted(rows, key=lambda row: (row.epoch, row.metric))
    if is_glyphs(pipeline):
        return [Expected(epoch, "val_accuracy", low, high, GLYPHS_SOURCE) for epoch, (low, high) in GLYPHS.items()]
    if not is_tiny_imagenet(pipeline, facts):
        return []
    kind, band = kind_of(pipeline.model)
    source = f"usual for {kind} on TinyImageNet"
    return [Expected(epoch, "val_accuracy", low, high, source) for epoch, (low, high) in band.items()]


def _read(row: Any) -> Expected:
    try:
        epoch, metric, low, high = row
        found = Expected(int(epoch), str(metric), float(low), float(high), "given with the pipeline")
    except (TypeError, ValueError):
        raise UsageError(f"Pipeline.expected: got {row!r}, expected {_ROW}.") from None
    if found.epoch < 1 or not (math.isfinite(found.low) and math.isfinite(found.high)) or found.low > found.high:
        raise UsageError(f"Pipeline.expected: got {row!r}, expected {_ROW}, epochs from 1 and low not above high.")
    if "accuracy" in found.metric and found.high > 1:
        raise UsageError(f"Pipeline.expected: got {row!r}; accuracies are fractions: write 0.15 for 15 %.")
    if found.metric.startswith(("train_", "val_")):
        return found
    return Expected(found.epoch, f"val_{found.metric}", found.low, found.high, found.source)


def is_glyphs(pipeline: Pipeline) -> bool:
    """The glyphs that the curve was measured on, as they are, with a convolutional model."""
    from torch import nn

    from diagnose.datasets.glyphs import Glyphs

    dataset = getattr(pipeline.train, "dataset", None)
    if not isinstance(dataset, Glyphs) or not any(isinstance(module, nn.Conv2d) for module in pipeline.model.modules()):
        return False
    return (dataset.num_classes, dataset.samples, dataset.size) == (GLYPHS_CLASSES, GLYPHS_SAMPLES, GLYPHS_SIDE)


def is_tiny_imagenet(pipeline: Pipeline, facts: Facts) -> bool:
    """200 classes, 100,000 training samples of 64 x 64 pixels, and not the glyphs of ours that may look the same."""
    if facts.task not in CLASS_TASKS or facts.num_classes != TINY_CLASSES:
        return False
    if any(name.startswith("glyph ") for name in facts.class_names):
        return False
    dataset = getattr(pipeline.train, "dataset", None)
    try:
        if dataset is None or len(dataset) != TINY_SAMPLES:
            return False
        return _side(dataset) == TINY_SIDE
    except Exception:  # the user's data set: whoever trains on it meets the failure and tells it
        return False


def _side(dataset: Any) -> int | None:
    from diagnose.batches import first_tensor
    from diagnose.rng import preserved

    with preserved():
        image = first_tensor(dataset[0])
    if image is None or image.ndim != 3 or 3 not in (image.shape[0], image.shape[2]):
        return None
    sides = image.shape[1:] if image.shape[0] == 3 else image.shape[:2]
    return int(sides[0]) if sides[0] == sides[1] else None


def kind_of(model: nn.Module) -> tuple[str, Band]:
    """(the kind of model in words, its curve), by the names of its classes and modules."""
    names = " ".join(f"{name} {type(module).__name__}" for name, module in model.named_modules()).lower()
    types = {type(module).__name__.lower() for module in model.modules()}
    if any(name in names for name in _SQUEEZE_NAMES):
        return "a CNN with squeeze-and-excitation", PLAIN
    if any(name in names for name in _LARGE_NAMES):
        return "a residual, deeper or wider CNN", LARGE
    if "conv2d" in types and not any("attention" in name for name in types):
        return "a plain CNN", PLAIN
    return "a small model", GENERAL
