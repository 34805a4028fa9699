"""What the probes of a ``train_step`` share: its events, grouped by optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from probes.api import Skip

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.updates import StepEvent
    from probes.results import Where


def events(ctx: Context) -> Sequence[StepEvent]:
    """Those of the first updates. Skip where the tool itself makes the step."""
    if not ctx.facts.custom_step:
        raise Skip("there is no train_step: the tool itself makes each step, in order")
    return ctx.updates().events


def last_places(found: Sequence[StepEvent], *kinds: str) -> tuple[Where, ...]:
    """The lines of the last event of each kind, in the order of ``kinds``."""
    last = {event.kind: event.where for event in found}
    return tuple(place for kind in kinds for place in last.get(kind, ()))


def of_each_step(found: Sequence[StepEvent]) -> list[Sequence[StepEvent]]:
    """What happened before each optimizer step (since the one before), that step last."""
    ends = [-1, *(i for i, event in enumerate(found) if event.kind == "step")]
    return [found[start + 1 : end + 1] for start, end in pairwise(ends)]


def after_each_step(found: Sequence[StepEvent]) -> list[Sequence[StepEvent]]:
    """What happened after each optimizer step within the same call, up to the next backward."""
    groups: list[Sequence[StepEvent]] = []
    for start, event in enumerate(found):
        if event.kind == "step":
            end = next((i for i in range(start + 1, len(found)) if found[i].kind in {"call", "backward"}), len(found))
            groups.append(found[start + 1 : end])
    return groups
