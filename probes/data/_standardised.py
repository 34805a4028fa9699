"""Does the model learn more from standardised inputs? Asked by the probes of scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from probes.api import Inconclusive, Skip
from probes.learning._curves import proof
from probes.learning._repairs import figures, repairing_arm

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Trace

ACCURACY = 0.05  # more of it on validation data
SEEDS = 3
LEAST = 0.5  # of that, with every seed
SHARE = 0.10  # more of the way from guessing to the floor, on training samples, where there is no accuracy


@dataclass(frozen=True)
class Gain:
    """``values`` for a finding, with a ``grade`` where an experiment over seeds stands behind it: then it ``repairs``
    a training that fails as it is."""

    text: str
    values: Mapping[str, Any]
    repairs: bool = False
    evidence: Sequence[Any] = ()


def gain_by_standardising(ctx: Context) -> Gain | None:
    """None where it does not help with every seed: a training that fails to learn, one that learns to learn better."""
    trace = ctx.subset()
    if trace.outcome in {"stuck", "nonfinite"}:
        try:
            ablation = ctx.ablation("inputs")
            arm = repairing_arm(ablation)
        except (Skip, Inconclusive):
            return None
        if arm is None:
            return None
        told = figures(ablation, arm)
        return Gain(f"as they are, {told['control_failed']} of {told['control_seeds']} seeds did not learn, "
                    f"standardised {told['learned']} did", told, True, proof(ablation))  # fmt: skip
    pairs = []
    for place in range(SEEDS):
        pairs.append(ctx.as_is_and_standardised(place))
        if _gained(*pairs[-1], losses=ctx.pipeline.compute_loss is None) < LEAST:
            return None
    if fmean(_gained(*pair, losses=True) for pair in pairs) < 1:
        return None
    before, after = zip(*pairs, strict=True)
    if before[0].points[-1].val_score is not None:
        text = f"val accuracy {_scores(before)} as they are, {_scores(after)} standardised"
        return Gain(text, {"accuracy": before[0].points[-1].val_score,
                           "accuracy_standardised": after[0].points[-1].val_score})  # fmt: skip
    if all(trace.share is None for trace in (*before, *after)):
        text = f"training loss {_losses(before)} as they are, {_losses(after)} standardised"
        return Gain(
            text,
            {"loss": before[0].points[-1].train_loss, "loss_standardised": after[0].points[-1].train_loss},
        )
    text = f"{_shares(before)} of the way from guessing to the floor as they are, {_shares(after)} standardised"
    return Gain(text, {"share": before[0].share, "share_standardised": after[0].share})


def _gained(before: Trace, after: Trace, *, losses: bool) -> float:
    """1: as much as is worth a word. ``losses``: where nothing else tells, the losses may be compared; not where the
    inputs are their own targets, as to a loss that is handed the whole batch."""
    was, then = before.points[-1].val_score, after.points[-1].val_score
    if was is not None and then is not None:
        return (then - was) / ACCURACY
    if (
        losses and before.share is None and after.share is None
    ):  # a loss of the user's own, of which neither end is known
        return _more_fallen(before, after) / SHARE
    return ((after.share or 0.0) - (before.share or 0.0)) / SHARE


def _more_fallen(before: Trace, after: Trace) -> float:
    """How far apart the two end, in units of the way that the loss falls on standardised inputs."""
    fall = after.points[0].train_loss - after.points[-1].train_loss
    apart = before.points[-1].train_loss - after.points[-1].train_loss
    return apart / fall if fall > 0 and math.isfinite(apart) else 0.0


def _losses(traces: Sequence[Trace]) -> str:
    return ", ".join(f"{trace.points[-1].train_loss:.3g}" for trace in traces)


def _scores(traces: Sequence[Trace]) -> str:
    return ", ".join(f"{trace.points[-1].val_score:.1%}" for trace in traces)


def _shares(traces: Sequence[Trace]) -> str:
    return ", ".join(f"{trace.share or 0.0:.0%}" for trace in traces)


def normalises_first(ctx: Context) -> bool:
    """Whether the first module with anything to do is a normalising layer."""
    import torch

    first = next((m for m in ctx.pipeline.model.modules() if not list(m.children())), None)
    return isinstance(first, (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm))
