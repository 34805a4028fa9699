"""NLLLoss without log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.class_scores import SUM_TOLERANCE, are_negated, are_probabilities, calls, rows
from probes.measurements import placed
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import LossCall

DOC = ProbeDoc(
    code="LOS406",
    name="nll-on-probabilities",
    stage=Stage.SMOKE,
    summary="NLLLoss is given probabilities or logits instead of log-probabilities.",
    why="The loss is then no likelihood: it is negative, weighs no mistake more than another, and can fall without end "
    "on "
    "logits. Accuracy may look fine.",
    fix="Return F.log_softmax(x, dim=1), or return logits and use CrossEntropyLoss.",
    consequences=(
        "initial-loss-off", "metric-loss-disagree", "slow-to-learn", "cannot-overfit", "stuck-at-chance",
        "fails-on-reference-data", "diverging", "plateau",
    ),
    before="F.nll_loss(torch.softmax(logits, dim=1), y)",
    after="F.cross_entropy(logits, y)",
    references=("torch.nn.NLLLoss documentation: the input is expected to contain log-probabilities",),
)  # fmt: skip
PLAIN = ("NLLLoss", "nll_loss")  # where the loss is nothing but this one, scores above 0 cannot be meant


def run(ctx: Context) -> Findings:
    for call in calls(ctx, "nll_loss"):
        kind = _what(call, plain=ctx.facts.loss_name in PLAIN)
        if kind:
            yield DOC.finding(
                "nll_loss is given {kind}: scores from {low:.3g} to {high:.3g}, where log-probabilities are at most 0",
                kind=kind,
                low=float(call.input.min()),
                high=float(call.input.max()),
                where=(placed(ctx, call.origin) if call.origin and call.origin.function == "softmax" else ())
                or call.where,
                evidence=(Number("loss", ctx.attempt().loss, "0 or more"),),
            )
            return ""
    return "nll_loss is given log-probabilities"


def _what(call: LossCall, *, plain: bool) -> str:
    table = rows(call.input).float()
    if are_probabilities(table) or (call.origin is not None and call.origin.function == "softmax"):
        return "probabilities"
    if are_negated(table):  # see loss-sign-flipped
        return ""
    unnormalised = bool(((table.exp().sum(1) - 1).abs() > SUM_TOLERANCE).any())
    return "unnormalised scores" if plain and unnormalised and bool((table > 0).any()) else ""
