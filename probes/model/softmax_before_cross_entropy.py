"""Softmax in the model, and again in the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.class_scores import are_probabilities, calls, rows
from probes.measurements import placed
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import LossCall

DOC = ProbeDoc(
    code="MOD204",
    name="softmax-before-cross-entropy",
    stage=Stage.SMOKE,
    summary="The model returns probabilities, but the loss expects logits and applies softmax again.",
    why="The loss can no longer reach zero (it stalls at ln(e + C - 1) - 1) and gradients shrink; accuracy may look "
    "fine.",
    fix="Return the logits from forward; apply softmax only to read predictions.",
    consequences=(
        "initial-loss-off", "vanishing-gradient", "slow-to-learn", "cannot-overfit", "stuck-at-chance",
        "fails-on-reference-data", "plateau", "below-expected-curve",
    ),
    before="return torch.softmax(self.head(x), dim=1)",
    after="return self.head(x)",
    takeaways=("CrossEntropyLoss takes logits: it is log_softmax and NLLLoss in one.",),
    references=("torch.nn.CrossEntropyLoss documentation",),
)  # fmt: skip
MIN_ROWS = 2  # a single row may sum to one by chance, where softmax was not seen to make it


def run(ctx: Context) -> Findings:
    import math

    for call in calls(ctx, "cross_entropy"):
        table = rows(call.input)
        if not are_probabilities(table) or (len(table) < MIN_ROWS and not _from_softmax(call)):
            continue
        classes = table.shape[1]
        floor = math.log(math.e + classes - 1) - 1
        yield DOC.finding(
            "all {rows} rows of scores that reach cross_entropy are probabilities (sum 1): the loss cannot fall below "
            "{floor:.2f}",
            rows=len(table),
            floor=floor,
            where=(placed(ctx, call.origin) if call.origin and _from_softmax(call) else ()) or call.where,
            evidence=(
                Number("sum of a row of scores", float(table[0].sum()), "any number: logits are not normalised"),
            ),
        )
        return ""
    shape = tuple(calls(ctx, "cross_entropy")[0].input.shape)
    return f"the loss is given scores of shape {shape}, not probabilities"


def _from_softmax(call: LossCall) -> bool:
    return call.origin is not None and call.origin.function == "softmax"
