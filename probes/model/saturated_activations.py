"""Sigmoid or tanh in their flats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.measurements import placed
from probes.results import Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD215",
    name="saturated-activations",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="Most values of a sigmoid or tanh lie at the ends of its range, where it is flat.",
    why="The derivative there is nearly 0, so the layers before it hardly get a gradient.",
    fix="Normalise the inputs, start with smaller weights, or put a normalising layer before the activation.",
    consequences=(
        "vanishing-gradient",
        "zero-gradient",
        "ignored-input",
        "slow-to-learn",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
    ),
    references=("Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks",),
)
FLAT_SHARE = 0.5  # of values: more than half are flat (Glorot and Bengio show layers stuck from about there)


def run(ctx: Context) -> Findings:
    judged = [r for r in ctx.inspection().activations if r.function in {"sigmoid", "tanh"} and not r.is_output]
    if not judged:
        return "no sigmoid or tanh inside the model"
    for record in judged:
        if record.flat_share > FLAT_SHARE:
            yield DOC.finding(
                "{share:.0%} of the values of a {function} lie where it is flat",
                share=record.flat_share,
                function=record.function,
                where=placed(ctx, record),
                evidence=(Number("share of values in the flats", record.flat_share, f"below {FLAT_SHARE}"),),
            )
            return ""
    return f"at most {max(r.flat_share for r in judged):.0%} of the values of a sigmoid or tanh are in its flats"
