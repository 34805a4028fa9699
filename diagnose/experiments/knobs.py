"""The knobs of an ablation: each gives arms, ordered from the mildest change to the strongest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from operator import mul
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

from diagnose.errors import UsageError
from diagnose.experiments import data_knobs, dropout, parts, schedules
from diagnose.experiments.change import Change
from diagnose.experiments.usual import EPSILON, OddGroup, odd_group
from diagnose.measure.loss_parts import data_part
from diagnose.measure.updates import largest_lr
from diagnose.near_miss import did_you_mean
from diagnose.settings import SCHEDULER_CLASSES
from probes.api import Skip
from probes.optimizer.gradient_clip_too_small import norm_limit

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline

LR_FACTORS = (0.1, 10.0, 0.01, 100.0)
# |dp| / |p| of a step in a training that goes well (A. Karpathy, Recipe); its order of magnitude tells where to look.
USUAL_UPDATE = 1e-3
FURTHEST = 6  # orders of magnitude
RIVAL_LR_FACTORS = (0.1, 10.0)  # enough to rule out a rival of a cause that is proved already


def arms(ctx: MeasuringContext, knob: str, values: Sequence[str] = ()) -> list[Change]:
    """From the mildest to the strongest. Raises Skip where there is nothing to turn, UsageError for an unknown knob or
    value."""
    make = KNOBS.get(knob)
    if make is None:
        raise UsageError(f"--knob {knob} is not known, expected {', '.join(KNOBS)}.{did_you_mean(knob, KNOBS)}")
    return make(ctx, _checked(knob, values))


def _checked(knob: str, values: Sequence[str]) -> Sequence[str]:
    named = NAMED.get(knob)
    values = [ALSO.get(knob, {}).get(value, value) for value in values]
    for value in values:
        if named is not None and value not in named:
            raise UsageError(f"--values {value}: {knob} takes {', '.join(named)}.{did_you_mean(value, named)}")
        if named is None and knob in UNGRADED:
            raise UsageError(f"--values {value}: {knob} is either on or off; leave --values out.")
        if named is None:
            try:
                float(value)
            except ValueError:
                raise UsageError(
                    f"--values: got {', '.join(values)}; {knob} takes numbers, separated by commas."
                ) from None
    return values


def _dropout(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    sites = ctx.dropout_sites()
    if not sites:
        raise Skip("the model has no dropout")
    if values:
        return [dropout.with_p(sites, value) for value in sorted(map(float, values), reverse=True)]
    return dropout.arms(sites)


def _weight_decay(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    groups = ctx.pipeline.optimizer.param_groups if ctx.pipeline.optimizer else []
    largest = max((float(group.get("weight_decay") or 0.0) for group in groups), default=0.0)
    if values:
        return [
            _in_groups(
                f"weight decay {v:g}", "weight_decay", _always(v), abs(v - largest), v / largest if largest else 1.0
            )
            for v in map(float, values)
        ]
    if largest == 0:
        raise Skip("the optimizer has no weight decay")
    return [scaled_weight_decay(factor) for factor in (0.1, 0.0)]


def scaled_weight_decay(factor: float) -> Change:
    return _in_groups(f"weight decay x {factor:g}", "weight_decay", partial(mul, factor), 1 - factor, factor)


def _lr(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    if ctx.pipeline.optimizer is None:
        raise Skip("there is no optimizer whose learning rate could be changed")
    if values:
        now = max(ctx.learning_rates(), default=largest_lr(ctx.pipeline.optimizer)) or 1.0
        return [_in_groups(f"lr {v:g}", "lr", partial(mul, v / now), abs(v - now), v / now) for v in map(float, values)]
    odd = odd_group(ctx)
    of_group = [] if odd is None else [rate_of_group(odd)]
    factors = RIVAL_LR_FACTORS if ctx.trainings.has_proof else _lr_factors(ctx)
    return [*of_group, *(scaled_lr(factor) for factor in factors)]


def rate_of_group(odd: OddGroup) -> Change:
    """The group that stands out at the rate of the others; all else stays as it is, so that it is the mildest."""

    def apply(pipeline: Pipeline) -> Any:
        assert pipeline.optimizer is not None, "it has groups"
        group = pipeline.optimizer.param_groups[odd.place]
        for name in ("lr", "initial_lr"):
            if group.get(name) is not None:
                group[name] = float(group[name]) * odd.usual / odd.rate
        return nullcontext()

    label = f"lr {odd.usual:.2g} in parameter group {odd.place}"
    factors = {"lr": odd.usual / odd.rate, "largest lr": odd.largest, "rate of group": odd.rate}
    return Change(label, label, 1.0, apply, factors=factors)


def scaled_lr(factor: float) -> Change:
    return _in_groups(f"lr x {factor:g}", "lr", partial(mul, factor), max(factor, 1 / factor), factor)


def _lr_factors(ctx: MeasuringContext) -> Sequence[float]:
    """Factors around the present rate; where the measured updates are far from usual, factors in that direction."""
    seen = ctx.updates()
    sizes = [
        size * max(seen.lrs) / lr
        for parameter in seen.parameters
        for size, lr in zip(parameter.updates, seen.lrs, strict=True)
        if len(parameter.shape) > 1 and size > 0 and lr > 0
    ]
    finite = sorted(size for size in sizes if math.isfinite(size))
    if not finite:
        return LR_FACTORS
    orders = max(-FURTHEST, min(FURTHEST, round(math.log10(USUAL_UPDATE / finite[len(finite) // 2]))))
    if abs(orders) < 2:
        return LR_FACTORS
    sign = 1 if orders > 0 else -1
    return [10.0 ** (sign * order) for order in range(1, min(FURTHEST, abs(orders) + 1) + 1)]


def _scheduler(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """A constant rate; or schedules by name, each fitted to the length of the trial."""
    if values:
        known = [
            name for name in values if name != "constant" or ctx.pipeline.scheduler is not None or len(values) == 1
        ]
        return [schedules.named(name) for name in known]
    if ctx.pipeline.scheduler is None:
        raise Skip("there is no scheduler")
    return [schedules.CONSTANT]


def _epsilon(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """The epsilon that Adam adds to the size of a gradient."""
    groups = ctx.pipeline.optimizer.param_groups if ctx.pipeline.optimizer else []
    known = [float(group["eps"]) for group in groups if "eps" in group]
    if not known or "Adam" not in type(ctx.pipeline.optimizer).__name__:
        raise Skip("the optimizer is not of the Adam family")
    if not values and max(known) <= EPSILON:
        raise Skip(f"an epsilon of {max(known):g} is usual")
    return [
        _in_groups(f"epsilon {v:g}", "eps", _always(v), abs(v - max(known))) for v in map(float, values or ["1e-8"])
    ]


def _clipping(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    if norm_limit(ctx) is None and (ctx.facts.custom_step or not values):
        raise Skip("gradients are not clipped" + " by torch's clip_grad_norm_" * ctx.facts.custom_step)
    if values:
        return [_clipped(float(value)) for value in values]
    return [_clipped(None)]


def _clipped(limit: float | None) -> Change:
    def apply(pipeline: Pipeline) -> Any:
        if pipeline.train_step is not None:
            return _clipping_to(limit)
        pipeline.clip_grad_norm = limit
        return nullcontext()

    label = "no gradient clipping" if limit is None else f"gradients clipped to {limit:g}"
    return Change("no clipping" if limit is None else label, label, 1.0, apply)


@contextmanager
def _clipping_to(limit: float | None) -> Iterator[None]:
    """In the block ``clip_grad_norm_``, as a train_step calls it, clips to another norm, or not at all."""
    from torch.nn.utils import clip_grad

    original = clip_grad._clip_grads_with_norm_

    def clip(parameters: Any, max_norm: Any, *args: Any, **kwargs: Any) -> Any:
        return None if limit is None else original(parameters, limit, *args, **kwargs)

    with mock.patch.object(clip_grad, "_clip_grads_with_norm_", clip):
        yield


def _label_smoothing(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    smoothing = max((float(c.options.get("label_smoothing") or 0.0) for c in ctx.attempt().loss_calls), default=0.0)
    if not smoothing and not values:
        raise Skip("no labels are smoothed")
    wanted = [float(value) for value in values] or [value for value in (0.1, 0.0) if value < smoothing]
    return [_smoothed(value, abs(smoothing - value)) for value in wanted]


def _smoothed(value: float, size: float) -> Change:
    return Change(
        f"label smoothing {value:g}", f"label smoothing {value:g}", size, lambda _: _Smoothing(value),
        options={"label_smoothing": value},
    )  # fmt: skip


class _Smoothing(TorchFunctionMode):
    """Calls cross_entropy with another label smoothing than the user's."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.nn.functional.cross_entropy:
            kwargs["label_smoothing"] = self._value
        return func(*args, **kwargs)


def _regulariser(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    ctx.loss_parts()  # Skip where there is nothing beside torch's losses

    def apply(pipeline: Pipeline) -> Any:
        if pipeline.compute_loss is not None:
            pipeline.compute_loss = data_part(pipeline.compute_loss)
        elif pipeline.loss is not None:
            pipeline.loss = data_part(pipeline.loss)
        return nullcontext()

    return [Change("data term alone", "the data term alone", 1.0, apply)]


def _always(value: float) -> Callable[[float], float]:
    return lambda _: value


def _in_groups(label: str, key: str, new: Callable[[float], float], size: float, factor: float = 1.0) -> Change:
    """A change of one entry of every parameter group (and of the starting lr a schedule scales)."""

    def apply(pipeline: Pipeline) -> Any:
        for group in pipeline.optimizer.param_groups if pipeline.optimizer else ():
            for name in (key, "initial_lr") if key == "lr" else (key,):
                if group.get(name) is not None:
                    group[name] = new(float(group[name]))
        return nullcontext()

    return Change(label, label, size, apply, factors={key: factor})


KNOBS: dict[str, Callable[[MeasuringContext, Sequence[str]], list[Change]]] = {
    "dropout": _dropout,
    "weight-decay": _weight_decay,
    "clipping": _clipping,
    "regulariser": _regulariser,
    "label-smoothing": _label_smoothing,
    "augmentation": data_knobs.augmentation,
    "inputs": data_knobs.inputs,
    "labels": data_knobs.labels,
    "data": data_knobs.reference_data,
    "targets": data_knobs.targets,
    "lr": _lr,
    "scheduler": _scheduler,
    "epsilon": _epsilon,
    "loss": parts.loss,
    "initialisation": parts.initialisation,
    "batchnorm": parts.batchnorm,
    "batch-size": parts.batch_size,
    "parameters": parts.parameters,
    "frozen": parts.frozen,
    "loop": parts.loop,
    "precision": parts.precision,
    "channel-order": parts.channel_order,
    "optimizer": parts.optimizer,
    "width": parts.width,
    "model": parts.model,
}
NAMED: dict[str, tuple[str, ...]] = {"scheduler": schedules.NAMES, "optimizer": parts.OPTIMIZERS}
ALSO = {"scheduler": SCHEDULER_CLASSES}
UNGRADED = frozenset(KNOBS) - {
    "dropout", "weight-decay", "clipping", "label-smoothing", "lr", "epsilon", "batchnorm", "batch-size", *NAMED,
}  # fmt: skip
