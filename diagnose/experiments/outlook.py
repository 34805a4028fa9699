"""What experiments would try, how many trials that is at most, and how long one takes; nothing is trained."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diagnose.experiments.ablate import SEEDS
from diagnose.experiments.knobs import arms
from diagnose.experiments.known_good import REPLACED
from diagnose.experiments.longer import LONGER
from diagnose.experiments.material import LOOK_SAMPLES, is_plain
from diagnose.experiments.order import ON_PURPOSE
from diagnose.experiments.search import OF_OPTIMIZER
from diagnose.experiments.trial import LOOKS
from diagnose.experiments.usual import is_unusual, suspects_first
from diagnose.rng import preserved
from diagnose.user_code import UserCodeError, user_code
from probes.api import Inconclusive, Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext


FORWARD = 1 / 3  # of the time of a step; the rest is backward and update
ITEMS = 8  # read for the clock
COMPARED = ("dropout", "weight-decay", "clipping", "label-smoothing", "lr", "scheduler", "epsilon")


def of_subset(ctx: MeasuringContext, each: float) -> Mapping[str, Any]:
    """The stage's own training and what follows where it learns, for steps of ``each`` seconds: {"steps" and "seconds"
    of a trial, "compared": settings of unusual value, each compared with a usual one, "trials" that takes at most}."""
    steps = ctx.trainings.steps
    compared = [knob for knob in COMPARED if is_unusual(ctx, knob)]
    size = ctx.batch().size
    looked = sum(map(_looked_at, (ctx.pipeline.train, ctx.pipeline.val)))
    looks = (LOOKS + 1) * looked / max(1, size) * each * FORWARD
    return {
        "steps": steps,
        "seconds": steps * (each + size * _seconds_per_item(ctx)) + looks,
        "compared": compared,
        "trials": SEEDS * (1 + len(compared)) if compared else 0,
    }


def _looked_at(loader: Any) -> int:
    """Samples of a split that a look goes over, at most."""
    if loader is None:
        return 0
    return min(LOOK_SAMPLES, len(loader.dataset)) if is_plain(loader) else LOOK_SAMPLES  # type: ignore[arg-type]


def _seconds_per_item(ctx: MeasuringContext) -> float:
    """What reading adds to a step, for each sample: nothing where items are kept in memory once they were read."""
    loader = ctx.pipeline.train
    if not is_plain(loader) or not ctx.reread("train").changed:
        return 0.0
    count = min(ITEMS, len(loader.dataset))  # type: ignore[arg-type]
    with preserved(), user_code("reading data"):
        started = time.monotonic()
        for index in range(count):
            loader.dataset[index]
        return (time.monotonic() - started) / max(1, count) / max(1, loader.num_workers)


def of_comparison(ctx: MeasuringContext, knob: str, values: Sequence[str]) -> Mapping[str, Any]:
    """``diagnose ablate``: {"arms": labels, "seeds", "trials"}; {"nothing": why} where there is nothing to turn."""
    try:
        labels = ["as configured", *(change.label for change in arms(ctx, knob, values or ON_PURPOSE.get(knob, ())))]
    except (Skip, Inconclusive) as reason:
        return {"nothing": str(reason)}
    return {"arms": labels, "seeds": SEEDS, "trials": SEEDS * len(labels)}


def of_search(ctx: MeasuringContext) -> Mapping[str, Any]:
    """The search: {"knobs": knob -> labels of its arms, or why it has none, "trials": where each setting is tried once
    and none repairs, "usually": where one of them does, "at_most", "wait": steps of the longer control in a run that is
    planned to be as long, else 0}."""
    knobs: dict[str, list[str] | str] = {}
    for knob in suspects_first(ctx):
        try:
            knobs[knob] = [change.label for change in sorted(arms(ctx, knob), key=lambda change: change.size)]
        except (Skip, Inconclusive, UserCodeError) as reason:
            knobs[knob] = str(reason)
    counts = {knob: len(labels) for knob, labels in knobs.items() if isinstance(labels, list)}
    screened = 1 + sum(count if knob == "lr" else 1 for knob, count in counts.items())
    steps = ctx.trainings.steps
    longer = LONGER * steps if ctx.planned_steps() >= LONGER * steps else 0
    parts = len(REPLACED) + len(OF_OPTIMIZER)
    # Either settings repair, each arm with every seed, then crossed two by two; or everything is replaced, given back
    # one by one, and what cannot be given back is repeated.
    crossed = SEEDS * (1 + sum(counts.values())) + 2 * SEEDS * len(counts)
    replaced = screened + 1 + parts + sum(counts.values()) + 2 * SEEDS * parts
    usually = screened + 2 * SEEDS  # the change that repairs and the unchanged pipeline, with every seed
    waited = LONGER * len(counts) if longer else 0  # each setting once more, as long as the unchanged pipeline
    most = max(usually, crossed, replaced) + waited
    return {"knobs": knobs, "trials": screened, "usually": usually, "at_most": most, "wait": longer}
