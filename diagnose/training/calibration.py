"""How far the confidence of predictions can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15  # Guo et al. 2017, On Calibration of Modern Neural Networks


def reliability(confidence: Sequence[float], correct: Sequence[bool]) -> list[dict[str, float]]:
    """Per bin of confidence that holds samples: its mean confidence, accuracy, and samples."""
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    known = np.isfinite(sure)
    sure, right = sure[known], right[known]
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    return [
        {"confidence": float(sure[here].mean()), "accuracy": float(right[here].mean()), "samples": int(here.sum())}
        for index in range(BINS)
        if (here := bins == index).any()
    ]


def expected_calibration_error(bins: Sequence[dict[str, float]]) -> float | None:
    """Mean distance of confidence and accuracy over the bins, weighted by their samples."""
    total = sum(row["samples"] for row in bins)
    return sum(abs(row["confidence"] - row["accuracy"]) * row["samples"] for row in bins) / total if total else None


def confidence_figures(confidence: Sequence[float], correct: Sequence[bool]) -> dict[str, Any]:
    bins = reliability(confidence, correct)
    figures: dict[str, Any] = {"expected_calibration_error": expected_calibration_error(bins), "reliability": bins}
    for name, wanted in (("right", True), ("wrong", False)):
        values = [c for c, right in zip(confidence, correct, strict=True) if right is wanted and np.isfinite(c)]
        figures[f"mean_confidence_{name}"] = float(np.mean(values)) if values else None
    return figures


def confused_pairs(matrix: Sequence[Sequence[int]], names: Sequence[str], most: int = 10) -> list[dict[str, Any]]:
    """The pairs of classes that are taken for one another most often, the worst first."""
    pairs: list[dict[str, Any]] = [
        {"true": names[i], "predicted": names[j], "count": count, "share": count / sum(row)}
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])[:most]
