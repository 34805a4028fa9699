"""What is usual for a setting. Never a verdict: it orders the search, and changes that repair equally well."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from diagnose.experiments.judge import MEMORISED_SHARE
from diagnose.experiments.order import SPEAKS
from probes.api import Skip
from probes.data import features_on_wild_scales, inputs_not_normalised, unscaled_regression_target
from probes.learning.learns_with_another_part import never_arrives
from probes.optimizer.gradient_clip_too_small import norm_limit

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

SCALES = ("inputs", "targets")
# Ranges that the field's recipes stay within; see the references of the probes of each knob.
DROPOUT = 0.5
SMOOTHING = 0.2
CLIPPING = 0.1
DECAY = {"AdamW": 0.1, "": 0.01}
STARTING_RATE = {"SGD": 0.1, "Adagrad": 1e-2, "Adadelta": 1.0, "LBFGS": 1.0, "": 1e-3}
GONE = 0.01  # of the highest rate of a schedule: below it little is learned
# "": optimizers that scale their steps, Adam and its kin. Adagrad's steps shrink, Adadelta's have a scale of their own.
RATES = {"SGD": (1e-3, 1.0), "Adagrad": (1e-3, 0.5), "Adadelta": (0.01, 10.0), "LBFGS": (1e-2, 2.0), "": (1e-5, 1e-2)}
NO_MOMENTUM = 10.0  # times longer are the steps of SGD with the usual momentum of 0.9
EPSILON = 1e-3  # of Adam: larger ones are in use, but seldom
FEW_STEPS = 100  # of a planned run
AHEAD = 1 / 3  # of the way, that a wider copy gets further
MANY = 256  # samples, above which a batch of all of them wastes most of an epoch


def starting_rate(ctx: MeasuringContext) -> float:
    """The rate that recipes begin with, for the class of the user's optimizer."""
    return STARTING_RATE.get(type(ctx.pipeline.optimizer).__name__, STARTING_RATE[""])


def suspects_first(ctx: MeasuringContext) -> list[str]:
    """The settings that the search turns, those of an unusual value first; schedule and epsilon only then, and the
    scale of inputs and targets: of a usual one nothing could be said."""
    only_then = [part for part in ("scheduler", "epsilon") if is_unusual(ctx, part)]
    settings = [knob for knob in SPEAKS if knob not in SCALES or is_unusual(ctx, knob)]
    return [*only_then, *sorted(settings, key=lambda knob: knob in SCALES or not is_unusual(ctx, knob))]


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
        return (norm_limit(ctx) or CLIPPING) < CLIPPING
    if knob == "label-smoothing":
        calls = ctx.attempt().loss_calls
        return max((float(c.options.get("label_smoothing") or 0.0) for c in calls), default=0.0) > SMOOTHING
    if knob == "scheduler":  # over at once, or still at its beginning when the run ends
        rates = sorted(ctx.learning_rates())
        return bool(rates) and (rates[len(rates) // 2] < GONE * rates[-1] or never_arrives(ctx))
    if knob == "lr":
        least, most = RATES.get(kind, RATES[""])
        known = not least <= max(ctx.learning_rates(), default=least) <= most or odd_group(ctx) is not None
        return known or is_slow_sgd(ctx)
    if knob == "epsilon":
        return "Adam" in kind and max((float(g.get("eps") or 0.0) for g in groups), default=0.0) > EPSILON
    if knob == "batch-size":
        return _is_one_batch_of_all(ctx)
    if knob in SCALES:
        return _is_off_scale(ctx, knob)
    return knob == "width" and is_narrow(ctx)


def leaves_usual_rates(ctx: MeasuringContext, factor: float) -> bool:
    """Whether a rate that is usual would not be so any more: then it is not the rate that is wrong but, say, a clipping
    inside of the user's own step, or the scale of the loss."""
    least, most = RATES.get(type(ctx.pipeline.optimizer).__name__, RATES[""])
    rate = max(ctx.learning_rates(), default=0.0)
    return least <= rate <= most and not least <= rate * factor <= most


def is_merely_slow(ctx: MeasuringContext) -> bool:
    """Whether all that is unusual of the rate is that it is slow without momentum."""
    return is_slow_sgd(ctx) and odd_group(ctx) is None


def is_slow_sgd(ctx: MeasuringContext) -> bool:
    """Whether the rate is one that is in use, but with momentum, and there is none."""
    optimizer, least = ctx.pipeline.optimizer, RATES["SGD"][0]
    if type(optimizer).__name__ != "SGD" or optimizer is None:
        return False
    plain = all(group.get("momentum") == 0 for group in optimizer.param_groups)
    return plain and least <= max(ctx.learning_rates(), default=0.0) < NO_MOMENTUM * least


def _is_off_scale(ctx: MeasuringContext, knob: str) -> bool:
    """As the probes judge it that speak for these knobs."""
    scan = ctx.scan("train")
    if knob == "targets":
        wide = unscaled_regression_target.WIDE
        return _is_far(scan.label_mean, scan.label_std, (1 / wide, wide), unscaled_regression_target.FAR)
    usual = inputs_not_normalised.NARROW, inputs_not_normalised.WIDE
    if _is_far(scan.input_mean, scan.input_std, usual, inputs_not_normalised.FAR):
        return True
    if scan.rows is None or len(scan.input_shape) != 2:
        return False
    spread = scan.rows.features.std(0)
    varying = spread[spread > 0]
    return len(varying) > 1 and float(varying.max() / varying.min()) >= features_on_wild_scales.RATIO


def _is_far(mean: float | None, std: float | None, usual: tuple[float, float], far: float) -> bool:
    """``far``: of the mean, in units of ``std``. False where nothing is known, or all is alike."""
    if mean is None or not std:
        return False
    return not usual[0] <= std <= usual[1] or abs(mean) > far * std


class OddGroup(NamedTuple):
    """A parameter group at a rate far from usual, beside others that are not. ``rate``: at its peak over the plan;
    ``usual``: the geometric mean of those of the others; ``largest``: by how much the largest rate of all groups is
    multiplied where it takes that one."""

    place: int
    rate: float
    usual: float
    largest: float


def odd_group(ctx: MeasuringContext) -> OddGroup | None:
    """None where no group stands out so, or where a low rate may keep trained weights, and for groups that are not
    trained at all."""
    optimizer = ctx.pipeline.optimizer
    groups = optimizer.param_groups if optimizer is not None else []
    if len(groups) < 2 or any("lr" not in group for group in groups):
        return None
    least, most = RATES.get(type(optimizer).__name__, RATES[""])
    now = [float(group["lr"]) for group in groups]
    scale = max(ctx.learning_rates(), default=max(now)) / max(now) if max(now) > 0 else 1.0
    rates = [rate * scale for rate in now]
    usual = [rate for rate in rates if least <= rate <= most]
    odd = [place for place, rate in enumerate(rates) if rate > 0 and not least <= rate <= most]
    if not usual or len(odd) != 1 or _begins_trained(ctx):
        return None
    middle = math.exp(fmean(map(math.log, usual)))
    return OddGroup(odd[0], rates[odd[0]], middle, max(usual) / max(rates))


def _begins_trained(ctx: MeasuringContext) -> bool:
    return "pretrained" in ctx.facts.intents or any(load.taken for load in ctx.weight_loads())


def _is_one_batch_of_all(ctx: MeasuringContext) -> bool:
    """Whether each batch holds all samples, and the run is a few steps for it."""
    size, scan = getattr(ctx.pipeline.train, "batch_size", None), ctx.scan("train")
    if not isinstance(size, int) or scan.total is None or not ctx.facts.epochs_stated:
        return False
    return size >= scan.total >= MANY and ctx.planned_steps() < FEW_STEPS


def is_narrow(ctx: MeasuringContext) -> bool:
    """Whether a batch is not memorised, but is with wider hidden layers; they get far ahead, where the others go on."""
    trace = ctx.trainings.overfit()
    if trace.stopped != "steps" or (trace.share or 0.0) >= MEMORISED_SHARE:
        return False
    try:
        wide = ctx.trainings.widened_overfit()
    except Skip:
        return False
    ahead = (wide.share or 0.0) - (trace.share or 0.0)
    return wide.stopped == "memorised" and (not trace.falling or ahead >= AHEAD)
