"""The learning-rate range test: at which rates the loss falls, and where it blows up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Evidence, Number, Series, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="FIT010",
    name="learning-rate-range",
    stage=Stage.SUBSET,
    experiment=True,
    severity=Severity.NOTE,
    summary="One short training whose learning rate grows from far too small to far too large.",
    why="Below the useful range the loss does not move, above it it blows up. A good constant rate lies well below the "
    "rate at which the loss was lowest, since there the steps are already too long to settle.",
    fix="Begin with the suggested rate. With a schedule that warms up, its peak may be a few times higher.",
    references=("L. N. Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017",),
)
APART = 30.0  # factor between two rates that a schedule or another batch size does not explain
CLOSE = 3.0  # factor up to which the test cannot tell which of two rates is better


def run(ctx: Context) -> Findings:
    found = ctx.learning_rate_range()
    shown = [i for i, loss in enumerate(found.smooth) if math.isfinite(loss)]
    evidence: list[Evidence] = [
        Series("smoothed loss", [found.rates[i] for i in shown], [found.smooth[i] for i in shown],
               x_label="learning rate (log)", y_label="training loss"),
        Number("your learning rate", found.now, ""),
    ]  # fmt: skip
    if found.suggested is None:
        yield DOC.finding(
            "no rate is suggested: the loss did not fall within the {steps} steps of the test, from {least:.0e} to "
            "{most:.0e}. A training that starts slowly does not show here: compare rates with ablate --knob lr",
            steps=len(found.rates),
            least=found.rates[0],
            most=found.rates[-1],
            now=found.now,
            evidence=evidence,
        )
        return ""
    apart = max(found.now / found.suggested, found.suggested / found.now) if found.now else float("inf")
    yield DOC.finding(
        "suggested learning rate {suggested:.1e}; yours is {now:.1e}{judged}{blown}",
        suggested=found.suggested,
        now=found.now,
        judged=_judged(apart, found.now, found.suggested),
        blown=f"; from {found.diverges:.1e} on the loss blows up" if found.diverges else "",
        diverges=found.diverges,
        evidence=evidence,
    )
    return ""


def _judged(apart: float, now: float, suggested: float) -> str:
    if apart <= CLOSE:
        return ", which is about the same"
    if apart > APART:
        return ", which is far from it"
    return f", {apart:.0f} times as {'large' if now > suggested else 'small'}, with which it may well learn too"
