"""Does the model learn more from standardised inputs? Asked by the probes of scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probes.api import Inconclusive, Skip
from probes.learning._curves import proof
from probes.learning._repairs import figures, repairing_arm

if TYPE_CHECKING:
    from probes.measurements import Context

ACCURACY = 0.05  # more of it on validation data
SHARE = 0.10  # more of the way from guessing to the floor, on training samples, where there is no accuracy


@dataclass(frozen=True)
class Gain:
    """``values`` for a finding, with a ``grade`` where an experiment over seeds stands behind it: then it ``repairs``
    a training that fails as it is."""

    text: str
    values: Mapping[str, Any]
    repairs: bool = False
    evidence: Sequence[Any] = ()


def gain_by_standardising(ctx: Context, wanted: float = ACCURACY) -> Gain | None:
    """None where it does not help. A training that fails is compared over seeds, one that learns by its figures."""
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
    other = ctx.standardised_subset()
    before, after = trace.points[-1], other.points[-1]
    if before.val_score is not None and after.val_score is not None:
        if after.val_score < before.val_score + wanted:
            return None
        text = f"val accuracy {before.val_score:.1%} as they are, {after.val_score:.1%} standardised"
        return Gain(text, {"accuracy": before.val_score, "accuracy_standardised": after.val_score})
    if (other.share or 0.0) < (trace.share or 0.0) + SHARE:
        return None
    text = f"{trace.share or 0.0:.0%} of the way from guessing to the floor as they are, {other.share:.0%} standardised"
    return Gain(text, {"share": trace.share, "share_standardised": other.share})


def normalises_first(ctx: Context) -> bool:
    """Whether the first module with anything to do is a normalising layer."""
    import torch

    first = next((m for m in ctx.pipeline.model.modules() if not list(m.children())), None)
    return isinstance(first, (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm))
