"""How mild a repair may be: bisection on the value of a graded setting, between what fails and what repairs.

Only for a setting whose repair is proved, and only on request (``diagnose bisect``): the repair itself is the answer,
this is how far it is from the edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diagnose.experiments import dropout, knobs
from diagnose.experiments.change import Change
from diagnose.experiments.judge import repaired
from diagnose.experiments.trials import Wanted
from probes.records.trials import Boundary

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

HALVINGS = 3


def boundary(ctx: MeasuringContext, knob: str, change: Change, steps: int, needed: int, seeds: int) -> Boundary | None:
    """The mildest value found that learns in ``needed`` of ``seeds`` seeds, and the strongest found that does not. None
    for settings that have no degrees, and where nothing milder than ``change`` learns."""
    make = GRADED.get(knob)
    if make is None or not change.factors:
        return None
    fails, works = 0.0, 1.0  # of the way from the user's value to the repair
    learned: list[Change] = []
    failed: list[Change] = []
    for _ in range(HALVINGS):
        share = (fails + works) / 2
        tried = make(ctx, change, share)
        if repaired(ctx.trainings.trial(tried, ctx.seed, steps)):
            works = share
            learned.append(tried)
        else:
            fails = share
            failed.append(tried)

    def count(tried: Change) -> int:
        """How many seeds learn."""
        ctx.trainings.ahead(Wanted(tried, ctx.seed + seed, steps) for seed in range(seeds))
        return sum(repaired(ctx.trainings.trial(tried, ctx.seed + seed, steps)) for seed in range(seeds))

    mildest = next((tried for tried in reversed(learned) if count(tried) >= needed), None)
    if mildest is None:
        return None
    too_mild = next((tried for tried in reversed(failed) if seeds - count(tried) >= needed), None)
    return Boundary(mildest.label, "" if too_mild is None else too_mild.label, steps)


def _dropout(ctx: MeasuringContext, change: Change, share: float) -> Change:
    sites = ctx.dropout_sites()
    factors = {group: _plain(1 - share * (1 - factor)) for group, factor in change.factors.items()}
    groups = {site.group for site in sites if factors.get(site.group, 1.0) != 1.0}
    told = sorted({f"{site.p * factors[site.group]:.2g}" for site in sites if site.group in groups})
    key = " ".join(f"{group} x {factors[group]:g}" for group in sorted(groups))
    return dropout.scaled(sites, factors, f"dropout {key}", f"dropout {' and '.join(told)}")


def _weight_decay(ctx: MeasuringContext, change: Change, share: float) -> Change:
    # Over orders of magnitude, as far down as a thousandth where the repair is none at all.
    factor = _plain(max(change.factors["weight_decay"], 1e-3) ** share)
    groups = ctx.pipeline.optimizer.param_groups if ctx.pipeline.optimizer else []
    now = max((float(group.get("weight_decay") or 0.0) for group in groups), default=0.0)
    return replace(knobs.scaled_weight_decay(factor), label=f"weight decay {now * factor:.2g}")


def _lr(ctx: MeasuringContext, change: Change, share: float) -> Change:
    factor = _plain(change.factors["lr"] ** share)
    now = max(ctx.learning_rates(), default=0.0)
    return replace(knobs.scaled_lr(factor), label=f"learning rate {now * factor:.2g}")


def _plain(value: float) -> float:
    return float(f"{value:.2g}")


GRADED: dict[str, Callable[[Any, Any, float], Change]] = {
    "dropout": _dropout,
    "weight-decay": _weight_decay,
    "lr": _lr,
}
