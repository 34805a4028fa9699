"""Gradient clipping under which the model does not learn, and without which it does."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Stage
from probes.learning._repairs import LEARNING_FAILURES, turned
from probes.optimizer._own_step import events, last_places

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Arm
    from probes.records.updates import StepEvent

DOC = ProbeDoc(
    code="OPT624",
    name="gradient-clip-too-small",
    stage=Stage.SUBSET,
    experiment=True,
    hampers=True,
    summary="Gradients are clipped to so small a norm that the model hardly moves.",
    why="Every gradient is longer than the limit, so each step is cut down to it: with SGD the effective learning rate "
    "falls by that factor.",
    fix="Clip at about the norm that gradients usually have (often 1 to 10), or do not clip.",
    consequences=(*LEARNING_FAILURES, "learning-rate-too-low"),
    before="clip_grad_norm_(model.parameters(), 1e-4)",
    after="clip_grad_norm_(model.parameters(), 1.0)",
    references=("Pascanu et al. 2013, On the difficulty of training recurrent neural networks",),
)


def run(ctx: Context) -> Findings:
    limit = norm_limit(ctx) or 0.0
    own = ctx.facts.custom_step

    def details(arm: Arm) -> dict[str, Any]:
        return {
            "limit": limit,
            "before": f"clip_grad_norm_(model.parameters(), {limit:g})" if own else f"clip_grad_norm={limit:g}",
            "after": "clip_grad_norm_(model.parameters(), 1.0)" if own else "clip_grad_norm=None",
            "where": last_places(_clips(ctx), "clip") if own else ctx.optimizer_at(),
        }

    return (yield from turned(ctx, DOC, "clipping", "With gradients clipped to a norm of {limit:.3g}, ", details))


def norm_limit(ctx: Context) -> float | None:
    """The norm that gradients are clipped to, by torch's ``clip_grad_norm_`` in a ``train_step`` or by the pipeline;
    None where they are not."""
    if not ctx.facts.custom_step:
        return ctx.pipeline.clip_grad_norm and float(ctx.pipeline.clip_grad_norm)
    return min((event.limit for event in _clips(ctx) if event.limit is not None), default=None)


def _clips(ctx: Context) -> Sequence[StepEvent]:
    """Those of a ``train_step`` by their norm; one at infinity only measures it."""
    return [event for event in events(ctx) if event.limit is not None and isfinite(event.limit)]
