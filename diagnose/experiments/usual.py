"""What is usual for a setting. Never a verdict: it orders the search, and changes that repair equally well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnose.experiments.order import SPEAKS

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

# Ranges that the field's recipes stay within; see the references of the probes of each knob.
DROPOUT = 0.5
SMOOTHING = 0.2
CLIPPING = 0.1
DECAY = {"AdamW": 0.1, "": 0.01}
STARTING_RATE = {"SGD": 0.1, "": 1e-3}
GONE = 0.01  # of the highest rate of a schedule: below it little is learned
RATES = {"SGD": (1e-3, 1.0), "": (1e-5, 1e-2)}  # "": optimizers that scale their steps, Adam and its kin


def starting_rate(ctx: MeasuringContext) -> float:
    """The rate that recipes begin with, for the class of the user's optimizer."""
    return STARTING_RATE.get(type(ctx.pipeline.optimizer).__name__, STARTING_RATE[""])


def suspects_first(ctx: MeasuringContext) -> list[str]:
    """The settings that the search turns, those of an unusual value first: the schedule among them only then."""
    schedule = ("scheduler",) if is_unusual(ctx, "scheduler") else ()
    return [*schedule, *sorted(SPEAKS, key=lambda knob: not is_unusual(ctx, knob))]


def is_unusual(ctx: MeasuringContext, knob: str) -> bool:
    """Whether the user's value lies outside of what is usual; False where nothing is known of the knob."""
    optimizer = ctx.pipeline.optimizer
    kind = type(optimizer).__name__
    groups = optimizer.param_groups if optimizer is not None else []
    if knob == "dropout":
        return max((site.p for site in ctx.dropout_sites()), default=0.0) > DROPOUT
    if knob == "weight-decay":
        return max((float(g.get("weight_decay") or 0.0) for g in groups), default=0.0) > DECAY.get(kind, DECAY[""])
    if knob == "clipping":
        return (ctx.pipeline.clip_grad_norm or CLIPPING) < CLIPPING
    if knob == "label-smoothing":
        calls = ctx.attempt().loss_calls
        return max((float(c.options.get("label_smoothing") or 0.0) for c in calls), default=0.0) > SMOOTHING
    if knob == "scheduler":
        rates = sorted(ctx.learning_rates())
        return bool(rates) and rates[len(rates) // 2] < GONE * rates[-1]
    if knob == "lr":
        least, most = RATES.get(kind, RATES[""])
        return not least <= max(ctx.learning_rates(), default=least) <= most
    return False
