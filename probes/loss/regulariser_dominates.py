"""An extra term of the loss drowns the data term."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.learning._curves import loss_curve
from probes.learning.cannot_overfit import STALLED_SHARE
from probes.results import Grade, Table

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="LOS413",
    name="regulariser-dominates",
    stage=Stage.OVERFIT,
    grade=Grade.SUPPORTED,
    summary="The regularising term of the loss pulls much harder than the data term.",
    why="The steps serve the penalty: weights shrink to nothing, or a latent code collapses, before anything is "
    "learned "
    "from the data.",
    fix="Lower the weight of the extra term until its gradient is well below that of the data term; raise it slowly if "
    "it has to be strong in the end.",
    before="loss = mse + 10.0 * penalty",
    after="loss = mse + 1e-3 * penalty",
    consequences=("cannot-overfit", "stuck-at-chance", "slow-to-learn", "fails-on-reference-data", "initial-loss-off"),
)
DOMINATES = 10.0  # gradient norm of the rest over that of the data term


def run(ctx: Context) -> Findings:
    """Gradient norms of both terms over the first updates; where a batch cannot be memorised, trainings without the
    rest."""
    parts = ctx.loss_parts()
    ratios = [rest / max(data, 1e-12) for data, rest in zip(parts.data, parts.rest, strict=True)]
    functions = ", ".join(parts.functions)
    where = next((call.where for call in ctx.attempt().loss_calls if call.where), ())
    norms = Table(("data term", "the rest"), list(zip(parts.data, parts.rest, strict=True)), "Gradient norms")
    if min(ratios) > DOMINATES:
        yield DOC.finding(
            "what is added to {functions} has a gradient {ratio:.3g} times as large",
            functions=functions,
            ratio=median(ratios),
            where=where,
            evidence=(norms,),
        )
        return ""
    trace = ctx.overfit()
    if trace.share is not None and trace.share < STALLED_SHARE and trace.stopped == "steps":
        alone = ctx.overfit_data_term()
        if alone.stopped == "memorised":
            yield DOC.finding(
                "a batch cannot be memorised with what is added to {functions} (loss {before:.3f} after {steps} "
                "steps), "
                "and can be without it ({after:.3f} after {steps_alone})",
                functions=functions,
                before=trace.points[-1].train_loss,
                steps=trace.steps,
                after=alone.points[-1].train_loss,
                steps_alone=alone.steps,
                where=where,
                evidence=(norms, loss_curve(trace), loss_curve(alone)),
            )
            return ""
    return f"what is added to {functions} has {median(ratios):.2g} times its gradient"
