"""Units of a ReLU that never fire."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.measurements import placed
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.inspection import ActivationRecord

DOC = ProbeDoc(
    code="MOD214",
    name="dead-relu",
    stage=Stage.SMOKE,
    summary="Most units behind a ReLU are 0 for every input.",
    why="A unit that never fires has no gradient: its weights stay as they are, and the layer is as good as narrower.",
    fix="Check the scale of the inputs and the biases and weights that are set by hand; lower the learning rate if it "
    "comes "
    "during training.",
    requires=("nonfinite-activations",),
    consequences=(
        "zero-gradient",
        "ignored-input",
        "slow-to-learn",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
    ),
    references=("He et al. 2015, Delving Deep into Rectifiers",),
)
DEAD_SHARE = 0.5  # of units; deep default networks answer all inputs alike, so that about half are silent by chance
CHANCE_DEVIATIONS = 4  # standard deviations of that chance share, on top
MIN_UNITS = 12  # fewer may all be silent by chance
MIN_SAMPLES = 8  # over which a unit must stay silent


def run(ctx: Context) -> Findings:
    seen = ctx.inspection()
    judged = [record for record in seen.activations if record.units >= MIN_UNITS and not record.is_output]
    if not judged or seen.samples < MIN_SAMPLES:
        return "no ReLU layer that is large enough to judge"
    for record in judged:
        if record.dead_share >= _limit(record):
            yield DOC.finding(
                "{share:.0%} of {units} units never fire over {samples} samples",
                share=record.dead_share,
                units=record.units,
                samples=seen.samples,
                where=placed(ctx, record),
                evidence=(Number("share of units that never fire", record.dead_share, f"below {DEAD_SHARE}"),),
            )
            return ""
    worst = max(record.dead_share for record in judged)
    return f"at most {worst:.0%} of a layer's units never fire over {seen.samples} samples"


def _limit(record: ActivationRecord) -> float:
    return min(1.0, DEAD_SHARE + CHANCE_DEVIATIONS * math.sqrt(0.25 / record.units))
