"""What experiments would try, and how many trials that is at most; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diagnose.experiments.ablate import SEEDS
from diagnose.experiments.knobs import arms
from diagnose.experiments.known_good import REPLACED
from diagnose.experiments.longer import LONGER
from diagnose.experiments.order import ON_PURPOSE
from diagnose.experiments.search import OF_OPTIMIZER
from diagnose.experiments.usual import suspects_first
from diagnose.user_code import UserCodeError
from probes.api import Inconclusive, Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext


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
    steps = ctx.most_steps()["subset"]
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
