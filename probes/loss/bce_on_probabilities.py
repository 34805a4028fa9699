"""A sigmoid too many, or too few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import calls
from probes.measurements import placed

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="LOS407",
    name="bce-on-probabilities",
    stage=Stage.SMOKE,
    summary="The sigmoid is applied twice, or not at all, before a binary cross-entropy.",
    why="Behind two sigmoids a probability cannot get below 0.5: the loss stalls (at 0.503 for balanced labels). "
    "BCELoss "
    "without a sigmoid fails outside [0, 1].",
    fix="Return logits and use BCEWithLogitsLoss.",
    consequences=(
        "initial-loss-off", "slow-to-learn", "cannot-overfit", "stuck-at-chance", "fails-on-reference-data", "plateau",
        "predicts-one-class",
    ),
    before="F.binary_cross_entropy_with_logits(torch.sigmoid(logits), y)",
    after="F.binary_cross_entropy_with_logits(logits, y)",
    references=("torch.nn.BCEWithLogitsLoss documentation",),
)  # fmt: skip
PROBABILITIES = ("sigmoid", "hardsigmoid", "softmax")


def run(ctx: Context) -> Findings:
    attempt = ctx.attempt()
    if attempt.failure is not None:
        if attempt.failure.name != DOC.name:
            raise Skip(f"{attempt.failure.phase} raised {attempt.failure.type}")
        yield attempt.failure.finding(DOC)
        return ""
    found = calls(ctx, "binary_cross_entropy_with_logits", "binary_cross_entropy")
    for call in found:
        if call.function == "binary_cross_entropy" and call.origin is not None and call.origin.function == "clamp":
            yield DOC.finding(
                "{function} is given the scores of a linear layer, cut off to [{low:.3g}, {high:.3g}], and no "
                "probabilities: {share:.0%} of them lie at an end, where nothing moves them",
                function=call.function,
                low=float(call.input.min()),
                high=float(call.input.max()),
                share=float(((call.input == call.input.min()) | (call.input == call.input.max())).float().mean()),
                where=placed(ctx, call.origin) or call.where,
            )
            return ""
        # By value alone probabilities and small logits look alike, so the function that made them is asked for.
        if call.function.endswith("logits") and call.origin is not None and call.origin.function in PROBABILITIES:
            yield DOC.finding(
                "{function} is given the output of a {origin}, in [{low:.3g}, {high:.3g}], and applies a sigmoid again",
                function=call.function,
                origin=call.origin.function,
                low=float(call.input.min()),
                high=float(call.input.max()),
                where=placed(ctx, call.origin) or call.where,
            )
            return ""
    kind = "logits" if found[0].function.endswith("logits") else "probabilities"
    return f"{found[0].function} is given {kind}, as it needs"
