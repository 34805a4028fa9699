"""Batch norm's running statistics do not follow the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity, Table

if TYPE_CHECKING:
    from typing import Any

    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD223",
    name="batchnorm-statistics-lag",
    stage=Stage.SUBSET,
    summary="Batch norm's running statistics are not those of the data: the model is good in train mode only.",
    why="In eval mode batch norm uses running averages. With a momentum that is too small, or batches too small "
    "to tell "
    "a mean, they are still those of the start, and validation looks far worse than the model is.",
    fix="Leave momentum at its default, 0.1, or give the batches more samples; track_running_stats must be on.",
    before="nn.BatchNorm2d(64, momentum=0.001)",
    after="nn.BatchNorm2d(64)",
    consequences=(
        "stuck-at-chance", "no-generalisation", "slow-to-learn", "predicts-one-class", "metric-loss-disagree",
        "overfitting",
    ),
    references=("torch.nn.BatchNorm2d documentation: momentum",),
)  # fmt: skip
GAIN = 0.1  # accuracy that fresh statistics add, without one step of training
ERRORS_LEFT = 0.3  # share of the errors that are left, where most samples are right either way
SHARE_GAIN = 0.25  # of the gap from guessing to the floor, for tasks without an accuracy
QUICK = 0.05  # momentum that follows within some dozens of steps: a lag is that of a model that is still changing fast
LEFT = 0.05  # weight of the starting statistics at the end of the planned run, below which they have caught up


def run(ctx: Context) -> Findings:
    """The trained model once more, with the statistics of its batch norms taken anew."""
    trace = ctx.subset()
    fresh, last = trace.reestimated, trace.points[-1]
    if fresh is None:
        raise Skip("no batch norm keeps statistics")
    if fresh.train_score is not None and last.train_score is not None:
        gain, wanted = fresh.train_score - last.train_score, GAIN
        if 1 - fresh.train_score < ERRORS_LEFT * (1 - last.train_score):
            wanted = GAIN / 2
        figures = (last.train_score, fresh.train_score)
    elif trace.constant is not None and trace.floor is not None and trace.constant > trace.floor:
        gain = (last.train_loss - fresh.train_loss) / (trace.constant - trace.floor)
        wanted, figures = SHARE_GAIN, (last.train_loss, fresh.train_loss)
    else:
        raise Skip("neither an accuracy nor a known floor to compare by")
    if gain < wanted:
        return f"fresh statistics change the score from {figures[0]:.3g} to {figures[1]:.3g}"
    slowest = min(_norms(ctx), key=lambda item: item[1])
    left = (1 - slowest[1]) ** max(1, ctx.planned_steps())
    yield DOC.finding(
        "after {steps} steps the score in eval mode is {before:.3g}, and {after:.3g} once the statistics of batch norm "
        "are taken anew (smallest momentum {momentum:g}, {path})",
        steps=trace.steps,
        before=figures[0],
        after=figures[1],
        momentum=slowest[1],
        path=slowest[0],
        where=ctx.created_at(slowest[0]),
        severity=Severity.NOTE if slowest[1] >= QUICK or left < LEFT else None,
        evidence=(
            Table(
                ("statistics", "train loss", "train accuracy", "val loss", "val accuracy"),
                [
                    (name, p.train_loss, p.train_score, p.val_loss, p.val_score)
                    for name, p in (("running", last), ("fresh", fresh))
                ],
            ),
        ),
    )
    return ""


def _norms(ctx: Context) -> list[tuple[str, Any]]:
    import torch

    kind = torch.nn.modules.batchnorm._BatchNorm
    return [(n, m.momentum or 0.0) for n, m in ctx.pipeline.model.named_modules() if isinstance(m, kind)]
