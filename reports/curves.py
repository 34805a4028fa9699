"""Reads curves out of results: the training history by epoch, and the arms of an experiment."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from probes.results import Cause, Evidence, Expected, RunResults, Series, Table
from reports.numbers import GAP, figure, finite
from reports.shapes import TableView

KEY_EPOCHS = (1, 5, 10, 20, 30, 50)
POINTS = 6
"""How many points of an experiment's curve its table shows."""

EXPERIMENTS = ("settings-compared", "learning-rate-range", "learns-with-another-part")
"""Notes whose tables and curves are what was asked for."""
MEASURED = "measured"
AS_CONFIGURED = "as configured"
"""The name that an experiment gives to the arm without a change."""
_SEED = re.compile(r"^(?P<arm>.+?)[\s,;:·/(-]+seed\s*(?P<seed>\d+)\)?$", re.IGNORECASE)

History = Sequence[Mapping[str, Any]]


def metric_of(history: History) -> str | None:
    """The task's metric: the part after ``train_``/``val_`` that is not the loss; accuracy where there is one."""
    found = [
        name
        for row in history
        for key, value in row.items()
        for prefix, _, name in [key.partition("_")]
        if prefix in ("train", "val") and name not in ("", "loss") and finite(value) is not None
    ]
    return "accuracy" if "accuracy" in found else found[0] if found else None


def clock(history: History) -> str:
    """What the rows count by: ``epoch``, or ``step`` where no row has an epoch."""
    return "epoch" if any(finite(row.get("epoch")) is not None for row in history) else "step"


def points(history: History, key: str) -> tuple[list[float], list[float]]:
    """The finite points of one column."""
    unit = clock(history)
    pairs = [(finite(row.get(unit)), finite(row.get(key))) for row in history]
    kept = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in kept], [y for _, y in kept]


def last(history: History, *keys: str) -> float | None:
    """The last finite figure of the first column that has any."""
    for key in keys:
        if ys := points(history, key)[1]:
            return ys[-1]
    return None


def row_at(history: History, epoch: int) -> Mapping[str, Any] | None:
    return next((row for row in history if row.get("epoch") == epoch), None)


def history_table(history: History, limit: int | None = None, title: str = "") -> TableView | None:
    """The history as it is, one row per epoch, only columns that hold something."""
    if not history:
        return None
    rows = history[:limit] if limit else history
    order = ["epoch", "step", "train_loss", "val_loss"]
    keys = dict.fromkeys(
        [key for key in order if any(key in row for row in rows)] + [key for row in rows for key in row]
    )
    shown = [key for key in keys if any(row.get(key) is not None for row in rows)]
    body = tuple(tuple(figure(key, row.get(key)) for key in shown) for row in rows)
    return TableView(tuple(key.replace("_", " ") for key in shown), body, title)


def chance_of(results: RunResults) -> float | None:
    """The accuracy of guessing: as whoever judged the accuracy said, else as measured from the labels, else one in the
    number of classes."""
    causes = results.diagnosis.causes
    sources: list[Mapping[str, Any]] = [causes[0].values] if causes else []
    sources += [f.values for r in results.results for f in r.findings if f.name in results.diagnosis.symptoms]
    sources += [results.evaluation, results.pipeline]
    for source in sources:
        if (chance := finite(source.get("chance"))) is not None and chance <= 1:
            return chance
    classes = finite(results.pipeline.get("num_classes"))
    if classes and classes > 1 and results.pipeline.get("task") in (None, "", "classification"):
        return 1 / classes
    return None


def guess_loss_of(results: RunResults) -> float | None:
    """The loss of guessing: as measured from the labels, else ln(classes) for a cross-entropy."""
    measured, classes = finite(results.pipeline.get("guess_loss")), finite(results.pipeline.get("num_classes"))
    if measured is not None or not classes or classes < 2 or not _is_cross_entropy(results):
        return measured
    return math.log(classes)


def _is_cross_entropy(results: RunResults) -> bool:
    loss = str(results.pipeline.get("loss") or "").lower()
    return "crossentropy" in loss.replace("_", "").replace(" ", "") and "bce" not in loss


def is_measured(item: Evidence) -> bool:
    return isinstance(item, Table) and item.title.strip().lower().startswith(MEASURED)


def progress_table(results: RunResults) -> TableView | None:
    """What the full training reached beside what was expected, at the key epochs; None where nothing was expected."""
    history, expected = results.training.history, results.training.expected
    if not expected:
        return None
    metrics = list(dict.fromkeys(item.metric for item in expected))
    epochs = sorted({*KEY_EPOCHS, *(item.epoch for item in expected)})
    trained = any(row_at(history, epoch) for epoch in epochs)
    columns = ["epoch"]
    for metric in metrics:
        name = metric.replace("_", " ")
        columns += [f"observed {name}"] * trained + [f"expected {name}"]
    body: list[tuple[str, ...]] = []
    for epoch in epochs:
        row = row_at(history, epoch)
        cells = []
        for metric in metrics:
            cells += [figure(metric, row.get(metric)) if row else GAP] * trained + [_band(expected, epoch, metric)]
        if any(text != GAP for text in cells):
            body.append((f"{epoch:,}", *cells))
    return TableView(tuple(columns), tuple(body), note=_progress_note(results, trained=trained)) if body else None


def _band(expected: Iterable[Expected], epoch: int, metric: str) -> str:
    for item in expected:
        if item.epoch == epoch and item.metric == metric:
            return f"{figure(metric, item.low)} to {figure(metric, item.high)}"
    return GAP


def _progress_note(results: RunResults, *, trained: bool) -> str:
    sources = list(dict.fromkeys(item.source for item in results.training.expected if item.source))
    samples = finite(results.pipeline.get("train_samples"))
    note = (
        f"An epoch is a pass over all {samples:,.0f} training samples"
        if samples
        else "An epoch is a pass over all data"
    )
    tried = any(after_fix_table(cause) for cause in results.diagnosis.causes)
    note += "; the experiments count steps on a part of them. " if tried else ". "
    note += "Source of the expected figures: " + "; ".join(sources) + "." if sources else ""
    epochs, _ = points(results.training.history, "epoch")
    if not trained:
        return f"The full training has not run yet, so nothing was observed. {note}".strip()
    planned = finite(results.pipeline.get("epochs"))
    if planned and epochs[-1] < planned:
        note = f"The history ends at epoch {epochs[-1]:,.0f} of {planned:,.0f}. {note}"
    return note.strip()


@dataclass(frozen=True)
class Arm:
    """One variant of an experiment, one curve per seed."""

    name: str
    curves: tuple[Series, ...]


def panels(evidence: Sequence[Evidence]) -> list[tuple[str, str, list[Arm]]]:
    """The curves of an experiment by what they measure: (x label, y label, arms). Seeds of one arm stand together.

    A curve's arm and seed are read from its name: ``dropout off, seed 0``.
    """
    grouped: dict[tuple[str, str], dict[str, list[Series]]] = {}
    for item in evidence:
        if isinstance(item, Series) and any(finite(y) is not None for y in item.y):
            match = _SEED.match(item.name.strip())
            arms = grouped.setdefault((item.x_label, item.y_label), {})
            arms.setdefault(match["arm"] if match else item.name, []).append(item)
    return [
        (x_label, y_label, [Arm(name, tuple(curves)) for name, curves in arms.items()])
        for (x_label, y_label), arms in grouped.items()
    ]


def finite_points(curve: Series) -> tuple[list[float], list[float]]:
    kept = [(float(x), v) for x, y in zip(curve.x, curve.y, strict=False) if (v := finite(y)) is not None]
    return [x for x, _ in kept], [y for _, y in kept]


def _ticks(arms: Sequence[Arm]) -> list[float]:
    xs = sorted({x for arm in arms for curve in arm.curves for x in finite_points(curve)[0]})
    if len(xs) <= POINTS:
        return xs
    return [xs[round(i * (len(xs) - 1) / (POINTS - 1))] for i in range(POINTS)]


def arm_tables(evidence: Sequence[Evidence]) -> tuple[TableView, ...]:
    """The numbers of the proof's picture: per arm the median over seeds, with the lowest and highest."""
    tables = []
    for x_label, y_label, arms in panels(evidence):
        ticks = _ticks(arms)
        rows = tuple((arm.name, *_cells(arm, ticks, y_label)) for arm in arms)
        seeds = max(len(arm.curves) for arm in arms)
        note = f"Median of {seeds} seeds; lowest to highest in brackets." if seeds > 1 else ""
        if any(GAP in row for row in rows):
            note = f"{note} {GAP}: this training had ended.".strip()
        columns = ("variant", *(f"{x_label} {figure('', int(x) if x == int(x) else x)}" for x in ticks))
        tables.append(TableView(columns, rows, (y_label or "curve").replace("_", " "), note))
    return tuple(tables)


def _cells(arm: Arm, ticks: Sequence[float], key: str) -> Iterable[str]:
    """The arm's figures, the last one at the first tick that is not before its end; gaps from there."""
    end = max((xs[-1] for curve in arm.curves if (xs := finite_points(curve)[0])), default=0.0)
    for previous, x in zip((None, *ticks), ticks, strict=False):
        yield GAP if previous is not None and previous >= end else _spread(arm, x, key)


def after_fix_table(cause: Cause) -> TableView | None:
    """The arm that repaired learning beside the unchanged one, as the experiment measured them; None without one."""
    wanted = cause.values.get("change")
    columns, chosen = [], []
    for x_label, y_label, arms in panels(cause.evidence):
        repaired = next((arm for arm in arms if arm.name == wanted), None)
        control = next((arm for arm in arms if arm.name == AS_CONFIGURED), None)
        if repaired is not None and control is not None:
            name = (y_label or "curve").replace("_", " ")
            columns += [f"{name}, {AS_CONFIGURED}", f"{name}, after the fix"]
            chosen += [(arm, y_label) for arm in (control, repaired)]
            unit = x_label
    if not chosen:
        return None
    ticks = _ticks([arm for arm, _ in chosen if arm.name == wanted])
    rows = tuple(
        (figure("", int(x) if x == int(x) else x), *(_spread(arm, x, key, spread=False) for arm, key in chosen))
        for x in ticks
    )
    return TableView((unit, *columns), rows) if rows else None


def _spread(arm: Arm, x: float, key: str, *, spread: bool = True) -> str:
    """The arm's figure at ``x``, of each seed the last point up to there: the median, and lowest to highest."""
    found = []
    for curve in arm.curves:
        upto = [y for px, y in zip(*finite_points(curve), strict=True) if px <= x]
        found += upto[-1:]
    if not found:
        return GAP
    middle, low, high = (figure(key, round(v, 6)) for v in (median(found), min(found), max(found)))
    return middle if low == high or not spread else f"{middle} ({low} to {high})"
