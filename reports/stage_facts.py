"""What a stage saw, in a line: its own reason, else the figures that a reader would ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from probes.results import RunResults, StageResult, Status
from reports.curves import chance_of, metric_of, points
from reports.numbers import figure, finite, number, one_line, percent, plural

UNTRAINED = "untrained model"
"""What the evaluation names in place of a checkpoint, where there was none."""
_CLASSES = re.compile(r"^\d+ classes")
_SHAPE = re.compile(r"^train (\d+(?: x \d+)*)\b")


def stage_fact(results: RunResults, stage: StageResult) -> str:
    """Empty where the stage left neither a reason nor a figure."""
    if stage.reason or stage.status is not Status.PASS:
        return one_line(stage.reason)
    reasons = {r.name: one_line(r.reason) for r in results.results if r.stage == stage.name and r.status is Status.PASS}
    parts = {
        "data": lambda: _data(results.pipeline, reasons),
        "smoke": lambda: _smoke(results.pipeline, reasons),
        "train": lambda: _train(results),
        "evaluate": lambda: _evaluate(results.evaluation),
    }.get(stage.name, lambda: [])()
    return ", ".join(part for part in parts if part)


def _data(pipeline: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """``train 40,000 / val 4,000, 200 classes, 3 x 32 x 32``."""
    counts = [(split, finite(pipeline.get(f"{split}_samples"))) for split in ("train", "val", "test")]
    sizes = " / ".join(f"{split} {count:,.0f}" for split, count in counts if count)
    classes = finite(pipeline.get("num_classes"))
    counted = _CLASSES.match(reasons.get("constant-labels", ""))
    shape = _SHAPE.match(reasons.get("constant-inputs", ""))
    return [
        sizes or reasons.get("empty-loader", ""),
        f"{classes:,.0f} classes" if classes else counted[0] if counted else "",
        shape[1] if shape else "",
    ]


def _smoke(pipeline: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """``outputs (64, 200), loss 5.31 at the start, ln 200 = 5.30, 176,040 parameters, Adam, lr 0.0005``."""
    parameters = finite(pipeline.get("parameters"))
    found = [reasons.get("output-shape-mismatch", ""), reasons.get("initial-loss-off", "")]
    found.append(f"{parameters:,.0f} parameters" if parameters else "")
    groups = pipeline.get("param_groups")
    groups = [group for group in groups if isinstance(group, Mapping)] if isinstance(groups, (list, tuple)) else []
    optimizer = one_line(pipeline.get("optimizer") or "")
    for key, name in (("lr", "lr"), ("weight_decay", "weight decay")):
        values = {value for group in groups if (value := finite(group.get(key))) is not None}
        if values and (key == "lr" or any(values)):
            optimizer += f"{', ' if optimizer else ''}{name} {' and '.join(f'{value:g}' for value in sorted(values))}"
    return [*found, optimizer]


def _train(results: RunResults) -> list[str]:
    history = results.training.history
    if not history:
        return []
    planned, ended = finite(results.pipeline.get("epochs")), points(history, "epoch")[0]
    is_short = planned and ended and ended[-1] < planned
    parts = [f"{ended[-1]:,.0f} of {planned:,.0f} epochs" if is_short else plural(len(history), "epoch")]
    for name in (f"val_{metric_of(history) or 'accuracy'}", "val_loss", "train_loss"):
        ys = points(history, name)[1]
        if ys and len(parts) < 3:
            guessing = (
                f" (guessing {percent(chance)})" if name == "val_accuracy" and (chance := chance_of(results)) else ""
            )
            parts.append(f"{name.replace('_', ' ')} {figure(name, ys[0])} to {figure(name, ys[-1])}{guessing}")
    return parts


def _evaluate(evaluation: Mapping[str, Any]) -> list[str]:
    counted = ("samples", "loss")
    figures = {key: value for key, value in evaluation.items() if finite(value) is not None and key not in counted}
    metrics = list({value: key for key, value in figures.items()}.values())[:2]  # one of two names for a figure
    parts = ["not trained"] if evaluation.get("checkpoint") == UNTRAINED else []
    parts += [f"{key.replace('_', ' ')} {figure(key, evaluation[key])}" for key in metrics]
    if finite(evaluation.get("loss")) is not None:
        parts.append(f"loss {number(evaluation['loss'])}")
    samples, split = finite(evaluation.get("samples")), evaluation.get("split")
    if samples:
        parts.append(f"{samples:,.0f} samples" + (f" of {one_line(split)}" if split else ""))
    return parts
