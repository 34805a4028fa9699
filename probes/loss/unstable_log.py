"""The log of a probability that can be 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.class_scores import ran
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="LOS410",
    name="unstable-log",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="A log is taken of a softmax or sigmoid, which rounds to 0 for distant logits.",
    why="log(0) is minus infinity: once the model is sure of itself, loss and gradients become NaN.",
    consequences=(
        "nonfinite-loss", "nonfinite-gradient", "nonfinite-training", "learning-rate-too-high", "stuck-at-chance",
        "cannot-overfit",
    ),
    fix="Use log_softmax or logsigmoid, or a loss that takes logits.",
    before="torch.log(torch.softmax(x, dim=1))",
    after="F.log_softmax(x, dim=1)",
    references=("torch.nn.functional.log_softmax documentation: doing these two operations separately is slower and "
                "numerically unstable",),
)  # fmt: skip


def run(ctx: Context) -> Findings:
    attempt = ran(ctx)
    for origin in attempt.unstable_logs[:1]:
        yield DOC.finding("a log is taken of the output of a {function}", function=origin.function, where=origin.where)
    return "no log of a softmax or sigmoid"
