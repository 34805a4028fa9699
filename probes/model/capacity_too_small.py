"""Too few units to tell the samples apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data.unscaled_regression_target import unscaled
from probes.learning._curves import loss_curve
from probes.results import Grade, Severity, Table

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD224",
    name="capacity-too-small",
    stage=Stage.OVERFIT,
    severity=Severity.WARNING,
    grade=Grade.SUSPECTED,
    summary="The model is too small to memorise even one batch; a wider copy of it can.",
    why="A hidden layer of very few units passes on too little for the classes to be told apart after it, whatever the "
    "training does.",
    fix="Widen the narrowest hidden layers.",
    consequences=("cannot-overfit", "slow-to-learn", "stuck-at-chance", "plateau", "below-expected-curve",
                  "predicts-one-class"),
    before="nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 10)",
    after="nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)",
)  # fmt: skip
LEFT = 0.9  # share of the way to the floor that counts as memorised
FASTER = 3  # times, where the narrow model comes near in the end
BRISK = 1e-3  # |dp|/|p| of a usual step; where steps are smaller the width is not the first thing to doubt
GAIN = 0.1  # that the wider copy must get further


def run(ctx: Context) -> Findings:
    """The same batch, steps and optimizer with hidden layers several times wider."""
    trace = ctx.overfit()
    if trace.stopped == "memorised" or (trace.share or 0.0) >= LEFT:
        return "the model memorises a batch"
    if unscaled(ctx):
        raise Skip("the target is far from the scale of the outputs, and a wider model merely makes larger steps")
    seen = ctx.updates()
    # Under a warm-up the first steps are small, and those to come are not.
    peak = max(ctx.learning_rates(), default=0.0) / max(seen.lrs) if max(seen.lrs, default=0.0) > 0 else 1.0
    moves = sorted(peak * u for p in seen.parameters if len(p.shape) > 1 for u in p.updates if u > 0)
    if trace.falling and (not moves or moves[len(moves) // 2] < BRISK):
        raise Skip("the loss on one batch was still falling, in small steps")
    wide = ctx.widened_overfit()
    before, after = trace.points[-1], wide.points[-1]
    further = (wide.share or 0.0) >= (trace.share or 0.0) + GAIN or FASTER * wide.steps <= trace.steps
    if wide.stopped != "memorised" or not further:
        return f"a wider copy does not do better (loss {after.train_loss:.3f} after {wide.steps} steps)"
    yield DOC.finding(
        "after {steps} steps on one batch the loss is {loss:.3f}; of {wide} it is {loss_wider:.3f}",
        steps=trace.steps,
        loss=before.train_loss,
        wide=wide.name,
        loss_wider=after.train_loss,
        evidence=(
            loss_curve(trace),
            loss_curve(wide),
            Table(("model", "loss", "accuracy"), [("as configured", before.train_loss, before.train_score),
                                                  (wide.name, after.train_loss, after.train_score)]),
        ),
    )  # fmt: skip
    return ""
