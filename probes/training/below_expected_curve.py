"""The figures stay below what is expected after so many epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Expected, Severity, Table
from probes.training._curves import Row, number, rows, series

if TYPE_CHECKING:
    from probes.measurements import Context

TOLERANCE = 0.10  # of the bound: expectations are round figures
LOWER_IS_BETTER = ("loss", "mae", "mse", "rmse", "error", "perplexity")

DOC = ProbeDoc(
    code="TRN805",
    name="below-expected-curve",
    stage=Stage.TRAIN,
    summary="The training stays behind what is expected after so many epochs.",
    why="Something slows learning down or holds it back, though nothing crashes and the loss may still fall.",
    fix="Look at the other findings first. If there are none, compare learning rate, regularisation and augmentation "
    "with a setting that is known to reach the expected figures.",
    severity=Severity.WARNING,
    symptom=True,
)


def run(ctx: Context) -> Findings:
    history = rows(ctx)
    expected = ctx.expected()
    if not expected:
        raise Skip("no expected values are known: give Pipeline.expected")
    judged = [
        found for metric in dict.fromkeys(row.metric for row in expected) if (found := _last(history, expected, metric))
    ]
    if not judged:
        raise Skip("no epoch with an expected value was reached")
    table = Table(
        ("epoch", "metric", "observed", "expected from", "expected to"),
        [(row.epoch, row.metric, value, row.low, row.high) for row, value in judged],
        "Expected and observed",
    )
    for row, value in judged:
        lower = any(word in row.metric for word in LOWER_IS_BETTER)
        slack = TOLERANCE * abs(row.high if lower else row.low)
        if value > row.high + slack if lower else value < row.low - slack:
            yield DOC.finding(
                "After epoch {epoch}, {metric} is {value:.4g}; expected {low:.4g} to {high:.4g} ({source}).",
                epoch=row.epoch,
                metric=row.metric.replace("_", " "),
                value=value,
                low=row.low,
                high=row.high,
                source=row.source or "given",
                evidence=(table, *series(history, row.metric)),
            )
    return "; ".join(f"{row.metric.replace('_', ' ')} {value:.4g} after epoch {row.epoch}" for row, value in judged)


def _last(history: Sequence[Row], expected: Sequence[Expected], metric: str) -> tuple[Expected, float] | None:
    """The last epoch with an expected value of ``metric`` that was reached, with the value that was observed.

    Earlier ones are not judged: whoever caught up was only slow to start.
    """
    by_epoch = {row.get("epoch"): number(row, metric) for row in history}
    reached = [row for row in expected if row.metric == metric and by_epoch.get(row.epoch) is not None]
    if not reached:
        return None
    last = max(reached, key=lambda row: row.epoch)
    value = by_epoch[last.epoch]
    assert value is not None
    return last, value
